"""Figures of decisions about one class against the rest: decision curves, cost curves, and recall and precision by budget
of alarms. A line shows the measured values, the band about it the 95 % interval of each point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssm.plots.legends import add_legend
from ssm.plots.style import COLUMN_WIDTH, PARTS, style
from ssm.practice.decisions.curves import BudgetCurve, CostCurve, DecisionCurve
from ssm.support.errors import invalid

# Of Okabe and Ito's palette, without the colours of majority and minority, in this order.
LINES = (PARTS["W"], PARTS["H"], "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
REFERENCE, HEIGHT = "0.55", 2.8
_Curve = TypeVar("_Curve", DecisionCurve, CostCurve)


def plot_decision_curves(curves: DecisionCurve | Mapping[str, DecisionCurve]) -> Figure:
    """Net benefit by threshold, of one model or of up to five by their names, beside acting on all and on none.

    Below 0 a rule is worse than acting on none; the axis ends soon below 0, since the loss of acting on all has no bound.

    Args:
        curves: from `ssm.practice.curves.decision_curve`.

    Raises:
        ssm.InputError: anything else.

    Source: Vickers and Elkin 2006.
    """
    named = _named(curves, DecisionCurve)
    with style():
        figure, axes = _axes()
        for curve in named.values():
            order = np.argsort(curve.thresholds)
            line = (curve.thresholds, curve.act_on_all)
            axes.plot(*(x[order] for x in line), color=REFERENCE, lw=0.9, label="act on all")
        axes.axhline(0, color=REFERENCE, lw=0.9, ls=":", label="act on none")
        for i, (name, curve) in enumerate(named.items()):
            _band(axes, i, name, (curve.thresholds, curve.model, curve.low, curve.high))
        top = max(float(np.max([curve.model.max(), curve.high.max()])) for curve in named.values())
        axes.set_ylim(-0.25 * top if top > 0 else None, 1.08 * top if top > 0 else None)
        axes.set_xlabel("probability at which one acts")
        axes.set_ylabel("net benefit (true positives per case)")
        return _finished(figure, axes)


def plot_cost_curves(curves: CostCurve | Mapping[str, CostCurve]) -> Figure:
    """Expected cost by operating point, of one model or of up to five by their names, below the cost of always making the
    same decision.

    Args:
        curves: from `ssm.practice.curves.cost_curve`.

    Raises:
        ssm.InputError: anything else.

    Source: Drummond and Holte 2006.
    """
    named = _named(curves, CostCurve)
    with style():
        figure, axes = _axes()
        triangle = {"color": REFERENCE, "lw": 0.9, "label": "decide always the same"}
        axes.plot([0, 0.5, 1], [0, 0.5, 0], **triangle)
        for i, (name, curve) in enumerate(named.items()):
            _band(axes, i, name, (curve.points, curve.model, curve.low, curve.high))
        axes.set(xlim=(0, 1), ylim=(0, 0.55))
        axes.set_xlabel("positive class's part of the possible cost")
        axes.set_ylabel("cost (share of the most possible)")
        return _finished(figure, axes)


def plot_budget_curve(curve: BudgetCurve) -> Figure:
    """Recall and precision by budget of alarms.

    Args:
        curve: from `ssm.practice.curves.budget_curve`.

    Raises:
        ssm.InputError: anything else.
    """
    if not isinstance(curve, BudgetCurve):
        raise invalid("curve", curve, "an ssm.practice.curves.BudgetCurve")
    with style():
        figure, axes = _axes()
        recall = (curve.budgets, curve.recall, curve.recall_low, curve.recall_high)
        precision = (curve.budgets, curve.precision, curve.precision_low, curve.precision_high)
        _band(axes, 0, "recall", recall)
        _band(axes, 1, "precision", precision)
        axes.set(ylim=(0, 1.02))
        axes.set_xlabel("budget (alarms as a share of all cases)")
        axes.set_ylabel("recall, precision")
        return _finished(figure, axes)


def _named(curves: _Curve | Mapping[str, _Curve], kind: type[_Curve]) -> dict[str, _Curve]:
    """The curves by name; a single curve has the name `model`."""
    named = {"model": curves} if isinstance(curves, kind) else curves
    allowed = f"an ssm.practice.curves.{kind.__name__}, or a dict of one to {len(LINES)} by name"
    if not isinstance(named, Mapping) or not 0 < len(named) <= len(LINES):
        raise invalid("curves", curves, allowed)
    if not all(isinstance(curve, kind) for curve in named.values()):
        raise invalid("curves", curves, allowed)
    return {str(name): curve for name, curve in named.items()}


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(COLUMN_WIDTH, HEIGHT), layout="constrained")
    return figure, figure.add_subplot()


def _band(axes: Axes, i: int, name: str, curve: tuple[np.ndarray, ...]) -> None:
    """Draw a curve in ascending order of its points, with its band."""
    order = np.argsort(curve[0])
    at, middle, low, high = (x[order] for x in curve)
    axes.fill_between(at, low, high, color=LINES[i], alpha=0.2, lw=0, zorder=2)
    axes.plot(at, middle, color=LINES[i], ls=DASHES[i], label=name, zorder=3)


def _finished(figure: Figure, axes: Axes) -> Figure:
    add_legend(axes)
    return figure
