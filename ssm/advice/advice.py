"""Advice on a data set from its class counts: which classes the small-scale model learns first under ERM
and under weights, which weights balance, what they cost, and what of that was measured in networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ssm.advice import batches, runs, words
from ssm.advice.runs import UNKNOWN, Case, Floats
from ssm.config import Config, profiles
from ssm.support import checks, errors

if TYPE_CHECKING:
    from rich.table import Table

# The couplings to look at where none is given: that of free features, and two such as networks have.
COUPLINGS = 0.0, 0.1, 0.4
MOST_SIZES = 6  # At most this many class sizes get a column in a table.


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the model says of given class counts."""

    counts: tuple[int, ...]
    loss: str
    imbalance_ratio: float
    """R, the largest count over the smallest."""
    no_contrasts: str
    """Why there is no g* of contrasts; an empty text where there is one."""
    cases: tuple[Case, ...]
    """One case for each coupling: for the one that was given, or for those of `COUPLINGS`."""
    verdict: str
    """Which weights to use, how sure that is, what would change it, and what does as well: four lines, or one."""
    notes: tuple[str, ...]
    """What the numbers are, what they are not, what was measured, and why some numbers are left out."""


def advise(
    counts: Sequence[int],
    coupling: float | None = None,
    loss: Literal["cross_entropy", "squared"] = "cross_entropy",
    progress: Callable[[float], None] | None = None,
    batch_size: int | None = None,
) -> Advice:
    """What the model says of a data set with `counts` samples a class.

    Learning times are those of the model from a spectral start (every contrast alike) of scale 1e-3: under
    cross-entropy exactly, from the five numbers of two class sizes (`exact.cross_entropy_class_times`) or from the
    class means (`class_flow`), under the squared loss read off runs of one column a class, so that they cost the same
    however many samples there are. Pulls, exponents and contrast times are closed forms of `theory` and `predictions`.
    Times are flow time, steps x learning rate.

    Args:
        counts: samples n_c of each class, at least two classes. The model is not followed for more than 100
            classes, nor for more than 33 without a coupling.
        coupling: c in [0, 1], how far training a sample moves the other samples of its class
            (`practice.kernels.measured_coupling(features, labels).coupling` of a network's features).
            Left out: 0, 0.1 and 0.4, side by side.
        loss: the loss of one sample.
        progress: called with the share of the work that is done.
        batch_size: samples of a mini-batch, where notes are to say what a weighted mean over mini-batches
            makes of the recommended weights.

    Raises ssm.InputError for anything else.

    Example:
        >>> (case,) = advise([40, 40, 10, 10], coupling=0.0, loss="squared").cases
        >>> {choice.name: choice.order for choice in case.choices}
        {'ERM': 'largest first', 'balanced': 'smallest first', 'sqrt': 'together', ...}
        >>> case.recommended.name, case.balancing_exponent
        ('sqrt', 0.5)
    """
    checks.choice("loss", loss, ("cross_entropy", "squared"))
    allowed = "samples of at least two classes, positive integers, as 5000, 500, 50"
    if len(checks.items("counts", counts, allowed)) < 2:
        raise errors.invalid("counts", counts, allowed)
    if batch_size is not None:
        checks.integer("batch_size", batch_size, 1, batches.LARGEST)
    couplings = COUPLINGS if coupling is None else (coupling,)
    cases, incomplete, most = [], [], runs.MOST_CLASSES // len(couplings)
    for i, each in enumerate(couplings):
        base = Config(profile="custom", counts=tuple(counts), coupling=each, loss=loss)

        def done(share: float, before: int = i) -> None:
            if progress is not None:
                progress((before + share) / len(couplings))

        case, missing = runs.at_coupling(base, most, done)
        cases.append(case)
        incomplete += missing
    counts = base.class_counts
    in_batches = [] if batch_size is None else batches.notes(counts, cases, batch_size)
    return Advice(
        counts=counts,
        loss=loss,
        imbalance_ratio=max(counts) / min(counts),
        no_contrasts=profiles.no_contrasts(counts),
        cases=tuple(cases),
        verdict=words.verdict(counts, cases, loss),
        notes=(*words.notes(counts, cases, base.init_scale, most), *in_batches, *incomplete),
    )


def render(advice: Advice) -> list[str | Table]:
    """An Advice as lines and tables for rich to print, the verdict first. Tables have a column for each
    class size, at most six. Pulls and times are shown only where there is one coupling."""
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
        decides = "The closed form of their margins decides"
        if len(counts) > 2:
            decides = "The model itself decides"
        lines.append(f"No balancing exponent g* of contrasts: {advice.no_contrasts}. {decides}.")
    return lines


def _exponents(advice: Advice) -> Table:
    """A table of the exponents that balance, with a row for each coupling."""
    from rich.table import Table

    fixed = "margins of two classes" if len(advice.counts) == 2 else "fixed features, 2 g* - 1"
    if advice.no_contrasts and len(advice.counts) > 2:
        fixed = "class margins, fixed features"
    table = Table("coupling", "contrasts, g*", fixed, "the model itself")
    table.title = "Weights 1 / n^g that balance the largest and the smallest classes"
    for case in advice.cases:
        exponents = case.balancing_exponent, case.margin_exponent, case.run_exponent
        # The exponent of the model has about three digits; adding 0 turns -0 into 0.
        cells = [_number(round(exponent, 3) + 0.0, ".3g") for exponent in exponents]
        table.add_row(f"{case.coupling:g}", *cells)
    return table


def _orders(advice: Advice) -> Table:
    """A table of the order in which the model learns the extreme sizes, with a column for each coupling."""
    from rich.table import Table

    heads = [f"coupling {case.coupling:g}" for case in advice.cases]
    table = Table("weights", *heads, title="Learned first in the model, of the extreme sizes")
    by_name = [words.by_name(case) for case in advice.cases]
    for name in dict.fromkeys(name for choices in by_name for name in choices):
        cells = []
        for case, choices in zip(advice.cases, by_name, strict=True):
            cells.append(UNKNOWN)
            if name in choices:
                star = " *" if words.has_open_order(case, choices[name], advice.counts) else ""
                cells[-1] = choices[name].order + star
        is_fitted = len(by_name) > 1 and name in ("g*", "margins", "run")
        table.add_row(f"{name} of each" if is_fitted else name, *cells)
    return table


def _weights(advice: Advice) -> Table:
    """A table of class weights and what they cost, with a row for each choice at any coupling."""
    from rich.table import Table

    columns, members = _sizes(advice)
    table = Table("weights", "w of a class of n", *columns, "mean w", "effective samples")
    table.title = "Class weights (samples x classes)"
    # Weights with a name are the same at every coupling and get one row.
    shown = {(choice.name, choice.law): choice for case in advice.cases for choice in case.choices}
    for choice in shown.values():
        share = f"{100 * choice.effective_sample_share:.3g} %"
        mean = f"{choice.mean_sample_weight:.3g}"
        w = _row(choice.class_weights, members)
        table.add_row(choice.name, choice.law, *w, mean, share)
    return table


def _pulls(advice: Advice) -> Table:
    """A table of the classes' shares of the pull at the start, with a row for each choice."""
    from rich.table import Table

    columns, members = _sizes(advice)
    table = Table("weights", *columns, title="Pull of a class at the start, w sqrt(n kappa), share")
    for choice in advice.cases[0].choices:
        table.add_row(choice.name, *_row(choice.pull, members, ".1%"))
    return table


def _times(advice: Advice) -> Table:
    """A table of the classes' learning times, with a row for each choice."""
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
    """The headings of the class sizes that have a column, from the largest, and a mask of the classes of
    each."""
    sizes = np.unique(advice.counts)
    shown = np.unique(np.linspace(0, len(sizes) - 1, MOST_SIZES).round().astype(int))[::-1]
    columns = [f"{n} x {advice.counts.count(n)}" for n in sizes[shown].tolist()]
    return columns, [np.array(advice.counts) == n for n in sizes[shown]]


def _row(values: Floats, members: list[np.ndarray], form: str = ".4g") -> list[str]:
    """The greatest value among the classes of each size, as text."""
    return [_number(values[of_size].max(), form) for of_size in members]


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else UNKNOWN
