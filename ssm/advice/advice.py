"""What the small-scale model says of a data set from its class counts: which classes are learned
first under ERM and under weights, which weights balance, what they cost, and what of it was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ssm.advice import runs, words
from ssm.advice.runs import UNKNOWN, Case, Floats
from ssm.config import Config
from ssm.support import checks, errors

if TYPE_CHECKING:
    from rich.table import Table

COUPLINGS = 0.0, 0.1, 0.4  # looked at where none is given: free features, and two as networks have
MOST_SIZES = 6  # shown of a long list of class sizes


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the model says of some class counts."""

    counts: tuple[int, ...]
    loss: str
    imbalance_ratio: float
    """R, the largest count over the smallest."""
    no_contrasts: str
    """Why there is no g* of contrasts; empty where there is one."""
    cases: tuple[Case, ...]
    """One for each coupling: the one that was given, or those of `COUPLINGS`."""
    verdict: str
    """Which weights to use, how sure that is, and what would change it: three lines, or one."""
    notes: tuple[str, ...]
    """What the numbers are, what they are not, what was measured, and why some are left out."""


def advise(
    counts: Sequence[int],
    coupling: float | None = None,
    loss: Literal["cross_entropy", "squared"] = "cross_entropy",
    progress: Callable[[float], None] | None = None,
) -> Advice:
    """What the model says of a data set with `counts` samples a class.

    Learning times are those of runs of the model from a spectral start (every contrast alike) of
    scale 1e-3, which holds all samples of a class in one column, so that it costs the same whatever
    their number; pulls, exponents and contrast times are closed forms of `theory` and `predictions`.
    Times are flow time, steps x learning rate.

    Args:
        counts: samples n_c of each class, at least two classes. Of over 100 the model is not run, nor
            of over 33 without a coupling.
        coupling: c in [0, 1], how far training a sample moves its classmates
            (`practice.kernels.measured_coupling(features, labels).coupling` of a network's). Left
            out: 0, 0.1 and 0.4, side by side.
        loss: of a sample.
        progress: called with the share of the work done.

    Raises ssm.InputError for anything else.
    """
    checks.choice("loss", loss, ("cross_entropy", "squared"))
    allowed = "samples of at least two classes, positive integers, as 5000, 500, 50"
    if len(checks.items("counts", counts, allowed)) < 2:
        raise errors.invalid("counts", counts, allowed)
    couplings = COUPLINGS if coupling is None else (coupling,)
    cases, left_out, most = [], [], runs.MOST_CLASSES // len(couplings)
    for i, each in enumerate(couplings):
        base = Config(profile="custom", counts=tuple(counts), coupling=each, loss=loss)

        def done(share: float, before: int = i) -> None:
            if progress is not None:
                progress((before + share) / len(couplings))

        case, missing = runs.at_coupling(base, most, done)
        cases.append(case)
        left_out += missing
    counts = base.class_counts
    return Advice(
        counts=counts,
        loss=loss,
        imbalance_ratio=max(counts) / min(counts),
        no_contrasts=runs.no_contrasts(counts),
        cases=tuple(cases),
        verdict=words.verdict(counts, cases),
        notes=(*words.notes(counts, cases, base.init_scale, most), *left_out),
    )


def render(advice: Advice) -> list[str | Table]:
    """An Advice as rich prints it, its verdict first: lines and tables, a column for each class size,
    at most six. Pulls and times are shown for one coupling alone."""
    tables = [_weights(advice)]
    if len(advice.cases[0].choices) > 1:
        tables = [_exponents(advice), _orders(advice), *tables]
    if len(advice.cases) == 1:
        tables += [_pulls(advice), _times(advice)]
    return [advice.verdict, *_head(advice), *tables, *advice.notes]


def _head(advice: Advice) -> list[str]:
    counts = advice.counts
    lines = [
        f"{len(counts)} classes, {sum(counts)} samples, imbalance ratio {advice.imbalance_ratio:.4g}; "
        f"{advice.loss.replace('_', '-')}. Coupling: how far training a sample moves its classmates, "
        "from 0 (each sample's features move alone) to 1 (those of a class as one)."
    ]
    if advice.no_contrasts and len(set(counts)) > 1:
        lines.append(
            f"No balancing exponent g* of contrasts: {advice.no_contrasts}. The run decides."
        )
    return lines


def _exponents(advice: Advice) -> Table:
    """The exponents that balance, a row for each coupling."""
    from rich.table import Table

    fixed = "margins of two classes" if len(advice.counts) == 2 else "fixed features, 2 g* - 1"
    if advice.no_contrasts and len(advice.counts) > 2:
        fixed = "class margins, fixed features"
    table = Table("coupling", "contrasts, g*", fixed, "run of the model")
    table.title = "Weights 1 / n^g that balance the largest and the smallest classes"
    for case in advice.cases:
        found = case.balancing_exponent, case.margin_exponent, case.run_exponent
        # rounding leaves -1e-17 for 0, and runs are read off to about three digits
        table.add_row(f"{case.coupling:g}", *(_number(round(g, 3) + 0.0, ".3g") for g in found))
    return table


def _orders(advice: Advice) -> Table:
    """Which classes the model learns first, side by side."""
    from rich.table import Table

    heads = [f"coupling {case.coupling:g}" for case in advice.cases]
    table = Table("weights", *heads, title="Learned first in the model, of the extreme sizes")
    by_name = [{choice.name: choice for choice in case.choices} for case in advice.cases]
    for name in dict.fromkeys(name for choices in by_name for name in choices):
        cells = []
        for case, choices in zip(advice.cases, by_name, strict=True):
            own = choices.get(name)
            open_ = own is not None and words.open_order(case, own, advice.counts)
            cells.append(UNKNOWN if own is None else f"{own.order} *" if open_ else own.order)
        fitted = len(by_name) > 1 and name in ("g*", "margins", "run")
        table.add_row(f"{name} of each" if fitted else name, *cells)
    return table


def _weights(advice: Advice) -> Table:
    from rich.table import Table

    columns, members = _sizes(advice)
    table = Table("weights", "w of a class of n", *columns, "mean w", "effective samples")
    table.title = "Class weights (samples x classes)"
    shown = {
        (choice.name, choice.law): choice for case in advice.cases for choice in case.choices
    }  # those by name are the same at every coupling
    for choice in shown.values():
        share = f"{100 * choice.effective_sample_share:.3g} %"
        mean = f"{choice.mean_sample_weight:.3g}"
        w = _row(choice.class_weights, members)
        table.add_row(choice.name, choice.law, *w, mean, share)
    return table


def _pulls(advice: Advice) -> Table:
    from rich.table import Table

    columns, members = _sizes(advice)
    table = Table("weights", *columns, title="Pull of a class at the start, w sqrt(n kappa), share")
    for choice in advice.cases[0].choices:
        table.add_row(choice.name, *_row(choice.pull, members, ".1%"))
    return table


def _times(advice: Advice) -> Table:
    from rich.table import Table

    columns, members = _sizes(advice)
    table = Table("weights", *columns, "ahead of ERM")
    table.title = "Learned at, in the model (times and their ratios are not a network's)"
    for choice in advice.cases[0].choices:
        ahead = UNKNOWN
        if np.isfinite(choice.ahead_of_erm).all():
            ahead = "from {:.4g} to {:.4g}".format(*choice.ahead_of_erm)
        table.add_row(choice.name, *_row(choice.learning_time, members), ahead)
    return table


def _sizes(advice: Advice) -> tuple[list[str], list[np.ndarray]]:
    """Class sizes that have a column, from the largest, and the classes of each."""
    sizes = np.unique(advice.counts)
    shown = np.unique(np.linspace(0, len(sizes) - 1, MOST_SIZES).round().astype(int))[::-1]
    columns = [f"{n} x {advice.counts.count(n)}" for n in sizes[shown].tolist()]
    return columns, [np.array(advice.counts) == n for n in sizes[shown]]


def _row(values: Floats, members: list[np.ndarray], form: str = ".4g") -> list[str]:
    return [_number(values[mine].max(), form) for mine in members]


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else UNKNOWN
