"""The figure of the experiment `stop_or_train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from experiments import pages
from experiments.claims import Estimate
from experiments.stop_or_train_runs import CRITERIA, WEIGHTINGS

if TYPE_CHECKING:
    from experiments.stop_or_train import Case

GAINS = (-0.3, -0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1)
LINES: dict[str, dict[str, Any]] = {
    "ERM": {"color": "#999999"},
    "inverse square root": {"color": "#009E73"},
    "inverse frequency": {"color": "#CC79A7"},
    "$g^*$": {"color": "black", "lw": 0.8, "ls": (0, (2, 1.5))},  # beside inverse frequency
}


def draw(path: Path, cases: Sequence[Case]) -> None:
    """Above, balanced accuracy over the course, with where each weighting is stopped by the balanced log
    loss; below, what stopping gains by either criterion, beside the model."""
    with pages.page(path, 6.4) as figure:
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.75, 1))
        top, bottom = halves
        panels = top.subplots(2, 3, sharey=True).ravel()
        for ax, case in zip(panels, cases, strict=False):
            _draw_course(ax, case)
        for ax in panels[len(cases) :]:
            ax.set_axis_off()
        for ax in panels[::3]:
            ax.set_ylabel("held-out\nbalanced accuracy")
        pages.key(panels[0], "least balanced log loss, each seed", "o", color="0.3", **pages.HOLLOW)
        pages.legend_above(top, panels[0], 3)
        gains = bottom.subplots(1, 2, sharey=True)
        for ax, criterion in zip(gains, CRITERIA, strict=True):
            _draw_gains(ax, cases, criterion)
        # Thousandths and tenths at once; both panels share the axis.
        gains[0].set_yscale("asinh", linear_width=0.01)
        pages.plain_ticks(gains[0].yaxis, GAINS)
        gains[0].set_ylabel("stopped over the end,\nbalanced accuracy")
        pages.legend_above(bottom, gains[0], 5)


def _draw_course(ax: Axes, case: Case) -> None:
    for name, course in case.courses.items():
        ax.plot(case.steps, course.balanced_accuracy.mean(axis=0), label=name, **LINES[name])
        if WEIGHTINGS[name] is not None:
            at = case.steps[course.losses["balanced log loss"].argmin(axis=1)]
            stopped = course.stopped("balanced log loss")
            ax.plot(at, stopped, "o", color=LINES[name]["color"], **pages.HOLLOW)
    ax.set(xscale="log", xlim=(case.steps[0], case.steps[-1] * 1.15), xlabel="step")
    ax.set_title(f"{case.name}, $R = {case.ratio}$")
    ax.grid(axis="y", color="0.9", lw=0.6)


def _draw_gains(ax: Axes, cases: Sequence[Case], criterion: str) -> None:
    """Means over seeds with their 95 % intervals, and the model's of inverse frequency."""
    for i, name in enumerate(LINES):
        for x, case in enumerate(cases):
            gain = Estimate.over_seeds(case.courses[name].gain(criterion))
            at, color = x + 0.16 * (i - 1.5), LINES[name]["color"]
            ax.plot([at, at], [gain.low, gain.high], color=color, lw=1)
            ax.plot(at, gain.mean, "o", color=color, ms=3, label=None if x else name)
    for x, case in enumerate(cases):
        label = None if x else "the model, $g = 1$"
        ax.plot([x - 0.4, x + 0.4], [case.model.mean()] * 2, **pages.THEORY, label=label)
    ax.axhline(0, **pages.FAINT)
    ax.set_xticks(range(len(cases)), [f"{case.name}\n$R = {case.ratio}$" for case in cases])
    ax.tick_params(axis="x", labelsize=6, length=0)
    ax.set_title(criterion)
