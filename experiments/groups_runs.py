"""Runs with groups inside classes: growth from small starts, and the worst group's accuracy on fresh samples."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

import ssm
from experiments import held_out_limits
from ssm.preparation import prepare
from ssm.problem import make_problem
from ssm.problem.inputs import draw_inputs, mean_inputs, noise_rows

HALF = 50  # samples of a class
MOSTLY = (40, 45, 49)  # of them with the class's own value of the attribute
RATIOS = (1.0, 2.0, 4.0, 6.0)  # c_a / c
LOSSES = {"cross_entropy": "cross-entropy", "squared": "squared loss"}
BASE = ssm.Config(
    num_classes=2,
    groups=(45, 5, 5, 45),
    coupling=0.05,
    feature_dim=8,
    init="spectral",
    init_scale=0.01,
    t1=200.0,
    num_saves=400,
)
SMALL = (0.005, 0.02)  # core strengths between which growth is that of the linear phase
SIGNAL = 2.5  # half the distance of classes over the standard deviation of the noise along it
NOISE_DIM = 400
HELD_OUT = dataclasses.replace(
    BASE,
    coupling=2 * SIGNAL**2 / NOISE_DIM,
    noise_dim=NOISE_DIM,
    held_out=True,
    init="gaussian",
    t1=None,
    clock="loss",
    stop_margin=100.0,
    num_saves=200,
)
FAR = dataclasses.replace(HELD_OUT, stop_margin=1000.0)
HELD_OUT_RATIOS = (1.0, 2.0, 4.0)
SEEDS = 5
NEAR = 0.01  # of its best accuracy
WEIGHTINGS = {"ERM": 0.0, "$n_g^{-1}$": 1.0}
RATE, NUM_STEPS = 0.03, 400  # of WorstGroup, by gradient descent at rate 1


class Growth(NamedTuple):
    """One run of a kernel of groups, from a small start."""

    mostly: int
    strength: float
    """s."""
    rate: float
    """sigma of the formula."""
    exact_rate: float
    """What the problem itself says of it."""
    measured_rate: float
    spurious_over_core: float
    """While both are small."""
    unlearned: float
    """Training accuracy of the worst group then."""
    half: float
    """When core strength is 1/2."""
    right: float
    """From when on every group is right."""

    @property
    def reversed_by(self) -> float:
        """s (2 p - 1), beyond 1 of which minority groups are unlearned first."""
        return self.strength * (2 * self.mostly / HALF - 1)


Growths = dict[tuple[int, float], Growth]
"""By samples of a class with its own value, and c_a / c."""


class Curves(NamedTuple):
    """The accuracy of the worst group on fresh samples, a row a seed."""

    log_time: Float[np.ndarray, "seeds t"]
    worst: Float[np.ndarray, "seeds t"]

    @property
    def best(self) -> Float[np.ndarray, " seeds"]:
        """Of each seed over time."""
        return np.nanmax(self.worst, axis=1)

    @property
    def end(self) -> Float[np.ndarray, " seeds"]:
        """At the last time."""
        return np.array([own[np.isfinite(own)][-1] for own in self.worst])

    @property
    def nearly_best(self) -> Float[np.ndarray, " seeds"]:
        """log of the time when it first is within `NEAR` of its best."""
        first = (self.worst >= self.best[:, None] - NEAR).argmax(axis=1)
        return self.log_time[np.arange(len(first)), first]

    def at(self, log_times: np.ndarray) -> np.ndarray:
        """At one time of each seed, shape (seeds,), or several, shape (seeds, number)."""
        found = []
        for at, x, y in zip(log_times, self.log_time, self.worst, strict=True):
            known = np.isfinite(x) & np.isfinite(y)
            found.append(np.interp(at, x[known], y[known]))
        return np.array(found)


class HeldOut(NamedTuple):
    """What became of one strength of the spurious feature on held-out data."""

    curves: dict[str, Curves]
    end: Float[np.ndarray, " seeds"]
    """The worst group's accuracy at the hard-margin classifier."""


def grow(loss: str, mostly: int, ratio: float) -> Growth:
    """One run, with c_a / c = `ratio`."""
    config = dataclasses.replace(
        BASE,
        loss=loss,
        groups=(mostly, HALF - mostly, HALF - mostly, mostly),
        attribute_coupling=ratio * BASE.coupling,
    )
    rates = prepare(config).problem.growth_rates
    assert rates is not None
    (exact_rate,) = rates
    rho, n = 1 - config.coupling - config.attribute_coupling, 2 * HALF
    strength = config.attribute_coupling / (config.coupling + 2 * rho / n)
    goes_with = 2 * mostly / HALF - 1
    rate = np.sqrt((rho / n + config.coupling / 2) * (1 + strength * goes_with**2) / 2)
    one = ssm.simulate(config)
    times, core = one["time"].values, one["core_strength"].values
    first, second, half = (_first(times, core, level) for level in (*SMALL, 0.5))
    worst = one["group_accuracy"].values.min(axis=1)
    wrong = np.flatnonzero(worst < 1)
    last_wrong = wrong[-1] + 1 if wrong.size else 0
    return Growth(
        mostly,
        strength,
        rate,
        exact_rate,
        np.log(SMALL[1] / SMALL[0])
        / (second - first)
        / 2,  # strengths are products of two that grow
        np.interp(first, times, one["spurious_strength"].values / core),
        worst[np.searchsorted(times, second)],
        half,
        times[last_wrong] if last_wrong < len(times) else np.nan,
    )


def _first(times: np.ndarray, values: np.ndarray, level: float) -> float:
    """When values first reach a level, between saved times by a straight line; NaN where they do not."""
    i = int((values >= level).argmax())
    return float(np.interp(level, values[i - 1 : i + 1], times[i - 1 : i + 1])) if i else np.nan


def follow(base: ssm.Config, ratios: tuple[float, ...], seeds: int) -> dict[float, HeldOut]:
    """ERM, fixed weights of groups and `WorstGroup` at each c_a / c, from the same inputs and starts for each seed."""
    couplings = [ratio * base.coupling for ratio in ratios]
    runs = ssm.sweep(
        {
            "group_weight_exponent": WEIGHTINGS.values(),
            "attribute_coupling": couplings,
            "seed": range(seeds),
        },
        base,
    )
    worst = runs["held_out_group_accuracy"].min("group", skipna=False)
    found = {}
    for i, ratio in enumerate(ratios):
        curves = {}
        for name, g in WEIGHTINGS.items():
            at = {"group_weight_exponent": g}
            own = (x.sel(at).isel(attribute_coupling=i) for x in (runs["log_time"], worst))
            curves[name] = Curves(*(x.transpose("seed", "time").values for x in own))
        config = dataclasses.replace(base, attribute_coupling=couplings[i])
        each_seed = [dataclasses.replace(config, seed=seed) for seed in range(seeds)]
        curves["WorstGroup"] = _under_worst_group(each_seed)
        found[ratio] = HeldOut(curves, np.array([_end(own) for own in each_seed]))
    return found


def _under_worst_group(configs: list[ssm.Config]) -> Curves:
    """Gradient descent under the weights of `WorstGroup`."""
    rows = []
    for config in configs:
        descent = dataclasses.replace(
            config,
            clock="time",
            stop_margin=None,
            optimizer="gd",
            learning_rate=1.0,
            num_steps=NUM_STEPS,
            num_saves=NUM_STEPS // 2 + 1,
        )
        one = ssm.simulate(descent, schedule=ssm.schedules.WorstGroup(rate=RATE))
        with np.errstate(divide="ignore"):
            log_time = np.log(one["time"].values)
        rows.append((log_time, one["held_out_group_accuracy"].values.min(axis=1)))
    return Curves(*(np.stack(own) for own in zip(*rows, strict=True)))


def _end(config: ssm.Config) -> float:
    """The worst group's accuracy on fresh samples at the hard-margin classifier of a run's inputs."""
    problem = make_problem(config)
    w = held_out_limits.hard_margin(draw_inputs(config, problem), problem.labels)
    rows = noise_rows(config)
    noise = np.sqrt(problem.private_coupling / (rows.stop - rows.start)) * np.linalg.norm(w[rows])
    signs = np.repeat([1, -1], config.num_attributes)
    return float(norm.cdf(signs * (w @ mean_inputs(config, problem)) / noise).min())
