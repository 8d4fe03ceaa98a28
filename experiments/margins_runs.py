"""The runs of the experiment on losses with margins, and what is read from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments import readings
from experiments.readings import GROUPS, Report, each
from experiments.settings import BASE
from experiments.terminal_states import approach, limit, trajectory
from ssm import (
    Config,
    adjusted_growth,
    balance,
    predictions,
    simulate,
    spectral,
    states,
    sweep,
    terminal,
)
from ssm.config import profiles
from ssm.problem import make_problem
from ssm.results import reached

WEIGHTINGS: dict[str, dict[str, Any]] = {
    "ERM": {},
    "inverse square root": {"weight_exponent": 0.5},
    "inverse frequency": {"weight_exponent": 1.0},
    "class-balanced": {"effective_number_beta": 0.9},
}
SHIFTS: dict[str, dict[str, Any]] = {
    "logit adjustment": {"loss": "logit_adjustment"},
    "LDAM": {"loss": "ldam", "largest_margin": 15.0},
    "focal": {"loss": "focal"},
}
FACTORS: dict[str, dict[str, Any]] = {"CDT": {"loss": "cdt"}, "VS": {"loss": "vs"}}
LOSSES = WEIGHTINGS | SHIFTS | FACTORS
MARGIN, LATE_MARGIN = 1e6, 1e8
EXPONENTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)  # of CDT

# the scale that all have anyway, said so that all are adjusted and share a compilation
PLAIN = dataclasses.replace(BASE, loss="cross_entropy", logit_scale=1.0, num_saves=400)
EARLY = dataclasses.replace(PLAIN, init_scale=1e-6)
LINEAR = dataclasses.replace(PLAIN, init_scale=1e-12)
END = dataclasses.replace(
    PLAIN,
    num_classes=4,
    feature_dim=6,
    init="collapsed",
    clock="loss",
    stop_margin=MARGIN,
    rtol=1e-5,  # at 1e-4 what W^T W - H H^T keeps drifts enough to be seen beside 1 / margin
    num_saves=200,
    save_state=True,
)
# a larger start and a larger margin, from which the limit is reached: chosen after trial runs
LATE = dataclasses.replace(END, init_scale=0.5, stop_margin=LATE_MARGIN)
SEEDS = 5
LINEAR_UP_TO = 1e-3  # of the fastest block's target
WIDE_FROM = 1e3  # margin from which gaps are followed: beside it logarithms are small
BALANCED = 0.95  # of training samples right, mean over classes


class Early(NamedTuple):
    """What was measured of one loss, and what was predicted."""

    runs: xr.Dataset
    """Over seeds."""
    rates: dict[str, float]
    predicted_rates: dict[str, float]
    ratios: np.ndarray
    """Minority over majority learning time of each seed."""
    predicted_ratio: tuple[float, float]
    balances: np.ndarray
    """Time to balance of each seed."""
    predicted_balance: tuple[float, float]


class End(NamedTuple):
    """How one loss came to its end: the state of a single run at each observed margin."""

    config: Config
    margins: np.ndarray
    states: list[states.ClassState]
    gaps: np.ndarray
    """Mean gap between two majorities over the least margin."""

    @property
    def found(self) -> dict[str, float]:
        """Cosines and norms."""
        return cosines(self.states[-1].gram.classifier, self.config)

    @property
    def predicted(self) -> dict[str, float]:
        """Those of the limit."""
        return cosines(limit(self.config).classifier, self.config)

    @property
    def off(self) -> float:
        """How far the former are from the latter."""
        found = self.found
        return float(np.max([abs(found[x] - value) for x, value in self.predicted.items()]))

    @property
    def distance(self) -> float:
        """To the limit, the largest of W, H, Z."""
        return float(self.states[-1].distances(limit(self.config)).max())

    @property
    def astray(self) -> np.ndarray:
        """How far the distances of W, H, Z, less the kept row, are from what the margin makes them,
        relative."""
        kept = terminal.kept_row(self.config, make_problem(self.config))
        last, target = self.states[-1].without_row(kept), limit(self.config)
        wanted = approach(self.config, self.margins[-1]).distances(target)
        return np.abs(last.distances(target) / wanted - 1)


Ends = dict[str, End]


def follow_early(seeds: int, report: Report) -> dict[str, Early]:
    """Every loss from starts of scale 1e-6, and its linear phase from one of 1e-12."""
    configs = {name: dataclasses.replace(EARLY, **changes) for name, changes in LOSSES.items()}
    expected = {
        name: adjusted_growth.learning_range(config, make_problem(config))
        for name, config in configs.items()
    }
    longest = 1.2 * max(times.latest.max() for times in expected.values())
    found: dict[str, Early] = {}
    for name, config in each(configs.items(), report):
        runs = sweep({"seed": range(seeds)}, dataclasses.replace(config, t1=longest))
        accuracy = runs["class_accuracy"].mean("class", skipna=False)
        balances = balance.settling_time(accuracy, BALANCED).values
        # the slower group decides, so that ERM's time is scaled by its learning time
        reference = found["ERM"].balances if found else balances
        scale, own = reference.mean() / expected["ERM"].earliest.max(), expected[name]
        found[name] = Early(
            runs,
            measured_rates(dataclasses.replace(LINEAR, **LOSSES[name])),
            predicted_rates(config),
            readings.ratio(readings.learned(runs)).values,
            own.ratio,
            balances,
            (float(scale * own.earliest.max()), float(scale * own.latest.max())),
        )
    return found


def predicted_rates(config: Config) -> dict[str, float]:
    """Growth rates of the blocks, by block."""
    rates = adjusted_growth.block_growth_rates(config, make_problem(config))
    return dict(zip(spectral.BLOCKS, rates.tolist(), strict=True))


def measured_rates(config: Config) -> dict[str, float]:
    """Growth rates of the blocks: half the slope of the logarithms of their strengths, over the
    second half of the phase in which all are small."""
    problem, rates = make_problem(config), predicted_rates(config)
    fastest = max((profiles.MAJORITY, profiles.MINORITY), key=rates.__getitem__)
    mine = np.array(config.class_groups) == fastest
    start = predictions.expected_start_strength(config, problem)[mine][0]
    share = start / np.sqrt(problem.counts[mine][0])
    t1 = float(np.log(LINEAR_UP_TO / share) / (2 * rates[fastest]))
    late = simulate(dataclasses.replace(config, t1=t1)).isel(time=slice(PLAIN.num_saves // 2, None))
    logs = np.log(
        late["block_strength"].sel(block=list(spectral.BLOCKS)).transpose("time", "block").values
    )
    slopes = np.polyfit(late["time"].values, logs, 1)[0]
    return dict(zip(spectral.BLOCKS, (slopes / 2).tolist(), strict=True))


def follow_ends(base: Config, losses: Mapping[str, dict[str, Any]], report: Report) -> Ends:
    """Every loss to a margin, that of the logits it sees."""
    found = {}
    for name, changes in each(losses.items(), report):
        config = dataclasses.replace(base, **changes)
        run = reached(simulate(config))
        run = run.isel(time=run["margin"].values > 1)
        states = trajectory(run, make_problem(config).counts)
        majority = np.flatnonzero(np.array(config.class_groups) == profiles.MAJORITY)
        Z = (run["W"].values @ run["H"].values)[:, majority][:, :, majority]
        own = np.trace(Z, axis1=1, axis2=2)
        others = (Z.sum(axis=(1, 2)) - own) / (len(majority) - 1)
        margins = run["margin"].values
        found[name] = End(config, margins, states, (own - others) / len(majority) / margins)
    return found


def cosines(gram: Float[np.ndarray, "k k"], config: Config) -> dict[str, float]:
    """Mean cosine of two classifier rows within each group, and |w_maj| / |w_min|, from W W^T."""
    minority = np.array(config.class_groups) == profiles.MINORITY
    norms, found = np.sqrt(np.diag(gram)), {}
    for group, mine in zip(GROUPS, (~minority, minority), strict=True):
        block = (gram / np.outer(norms, norms))[np.ix_(mine, mine)]
        found[group] = float(block[~np.eye(len(block), dtype=bool)].mean())
    return found | {"norms": float(norms[~minority].mean() / norms[minority].mean())}
