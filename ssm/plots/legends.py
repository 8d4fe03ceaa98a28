"""Legends that stand above their axes, where they hide nothing."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import BboxBase, IdentityTransform


class _TopOfAxes(BboxBase):
    """The upper edge of axes with their title, at the time when they are drawn."""

    pass_through = True  # Artists that are placed by it move whenever the axes do.

    def __init__(self, axes: Axes) -> None:
        super().__init__()
        self.axes = axes
        self.set_children(axes.bbox)

    def get_points(self) -> np.ndarray:
        title = [self.axes.title.get_window_extent()] if self.axes.get_title() else []
        top = max(box.y1 for box in [self.axes.bbox, *title])
        return np.array([[self.axes.bbox.x0, top], [self.axes.bbox.x1, top]])


def add_legend(axes: Axes) -> None:
    """Draw a legend above the axes and their title, where it hides nothing. It has each label once, in as many columns as
    fit the width of the axes. A figure without a layout is given the constrained one, which makes room for the legend."""
    figure = axes.get_figure(root=True)
    if figure is not None and figure.get_layout_engine() is None and axes.get_subplotspec():
        figure.set_layout_engine("constrained")
    by_label = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        by_label.setdefault(label, handle)
    for columns in range(max(len(by_label), 1), 0, -1):
        legend = axes.legend(
            by_label.values(),
            by_label.keys(),
            loc="lower left",
            ncols=columns,
            borderaxespad=0.2,
            borderpad=0,
            columnspacing=1.2,
            frameon=False,
        )
        if legend.get_window_extent().width <= axes.bbox.width:
            break
    legend.set_bbox_to_anchor(_TopOfAxes(axes), IdentityTransform())
