"""The prediction of the small-scale model for a network that is followed, from its training counts, its class weights and the
first coupling that its features show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from ssm.config import profiles
from ssm.measures import spectral
from ssm.problem import Problem
from ssm.results import logs
from ssm.theory import exact, growth
from ssm.theory.in_networks import AT_ONCE, exponent_between_extremes, side

START = 1e-6
"""The product of the factors of the spectral start from which the learning times of two classes are computed."""
SAME = 1e-6
"""Weights count as equal if their shares differ by at most this relative difference."""


class Expectation(NamedTuple):
    """The prediction of the model for the order of majority and minority."""

    coupling: float
    """The first coupling that is known."""
    step: float
    """The time of that coupling, in the unit of the log."""
    exponent: float
    """g of the weights n_c^-g whose ratio of the smallest class to the largest equals that of the first weights in force."""
    fixed: float
    """The exponent that balances if features hardly move, 2 g* - 1 (`theory.margin_exponent`)."""
    balance: float
    """The exponent that balances in the model: g*, or that of the margins of two classes."""
    order: str
    """`in_networks.LARGEST` or `in_networks.SMALLEST`; empty where the exponent in force is within `in_networks.NEAR` of the range
    from `fixed` to `balance`, in which networks balance."""
    ratio: float
    """The learning time of the minority over that of the majority."""


def weights(dataset: xr.Dataset) -> tuple[str, Float[np.ndarray, "time k"]]:
    """The name of the variable that holds the class weights in force, and its values. These are the weights as mini-batches
    make them, or else the weights as given. Where no weights are known the name is empty and all weights are 1."""
    for name in ("effective_weight", "weight"):
        if name in dataset:
            return name, dataset[name].values
    return "", np.ones((dataset.sizes["time"], dataset.sizes["class"]))


def changed(dataset: xr.Dataset, until: float) -> float:
    """The first time, no later than `until`, at which the weights in force differ from the first weights by more than
    a common factor; NaN where there is no such time."""
    times, (_, values) = dataset["time"].values, weights(dataset)
    shares = values / values.sum(axis=1, keepdims=True)
    differ = (np.abs(shares - shares[0]) > SAME * shares[0]).any(axis=1) & (times <= until)
    return float(times[differ.argmax()]) if differ.any() else np.nan


def expectation(dataset: xr.Dataset) -> Expectation | str:
    """The prediction of the model for the network of a log, or a clause that says why it makes none.

    Contrasts between classes of the size of class c grow at r_c = w_c sqrt(n_c kappa_c) / n (`theory.class_growth_rates`), so
    that from small starts their learning times are proportional to 1 / r_c, and the ratio is that of the means over the classes of
    each group. Two classes have no such contrasts; their times are those of their margins under cross-entropy (`exact.cross_entropy_class_times`)
    from a start of 1e-3.
    """
    counts = logs.training_counts(dataset)
    if len(set(counts.tolist())) == 1:
        return "all classes have one size"
    what, exponents = logs.balance(dataset)
    known = np.flatnonzero(np.isfinite(exponents))
    if not known.size:
        alone = profiles.no_contrasts(counts.tolist())
        return alone if alone and len(counts) > 2 else _without_coupling(dataset)
    first = int(known[0])
    coupling = float(dataset["coupling"].values[first])
    class_weights = weights(dataset)[1][0]
    exponent = exponent_between_extremes(counts, class_weights)
    balance = float(exponents[first])
    fixed = balance if what == logs.MARGINS else 2 * balance - 1
    orders = {side(exponent, fixed), side(exponent, balance)}
    return Expectation(
        coupling=coupling,
        step=float(dataset["time"].values[first]),
        exponent=exponent,
        fixed=fixed,
        balance=balance,
        order=orders.pop() if len(orders) == 1 and AT_ONCE not in orders else "",
        ratio=_ratio(counts, class_weights, coupling),
    )


def _without_coupling(dataset: xr.Dataset) -> str:
    if "coupling" not in dataset:
        return "no features were given, without which the coupling is not known"
    return (
        "the coupling is not known: a class has one sample in the probe, or features are all alike "
        "or not finite"
    )


def _ratio(
    counts: Int[np.ndarray, " k"], class_weights: Float[np.ndarray, " k"], coupling: float
) -> float:
    groups = np.array(profiles.class_groups(counts.tolist()))
    relative = class_weights * counts.sum() / (counts * class_weights).sum()
    problem = Problem(counts, groups, relative, np.array(coupling))
    if len(counts) == 2:
        majority, minority = exact.cross_entropy_class_times(problem, START, spectral.LEARNED)
    else:
        times = 1 / growth.class_growth_rates(problem)
        majority, minority = (times[groups == group].mean() for group in profiles.GROUPS)
    return float(minority / majority)
