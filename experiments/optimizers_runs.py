"""The runs of `optimizers`, and what is read from them: learning times, their ratios, arrivals of
single components, distances from the flow, lengths of paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from experiments.readings import Report
from experiments.settings import BASE, WEIGHTINGS
from ssm import Config, exact, simulate, spectral, sweep, theory
from ssm.config import Optimizer
from ssm.problem import make_problem

SQUARED = dataclasses.replace(BASE, loss="squared", num_saves=513)
RUNS: dict[Optimizer, dict[str, Any]] = {
    "gd": {"learning_rate": 0.25, "num_steps": 5000},
    "momentum": {"learning_rate": 0.025, "num_steps": 5000},
    "normalised_gd": {"learning_rate": 0.003, "num_steps": 5000},
    "sign": {"learning_rate": 5e-4, "num_steps": 1600},
    "adam": {"learning_rate": 5e-4, "num_steps": 1600},
    "muon": {"learning_rate": 0.004, "num_steps": 1200},
    "spectral_gd": {"learning_rate": 0.004, "num_steps": 800},
}
QUICK: tuple[Optimizer, ...] = ("gd", "sign", "spectral_gd")
SEEDS = 4
FACTORS = (10.0, 100.0)  # of all class weights

SIGN_SEEDS = 12  # sign descent's ratio scatters by 4 % from seed to seed
SIGN_STEPS = 600
WIDE = 16  # times the features' width, at which coordinates are many; rate and start are that much smaller

# Runs of many lengths share a compilation where all go on to the longest's last step.
STEPPED = dataclasses.replace(
    SQUARED, optimizer="gd", init="spectral", init_scale=0.1, num_steps=8192
)
LENGTH = 500.0  # minorities are learned at 340
STEPS = tuple(LENGTH / 2**power for power in range(13, 8, -1))

SPECTRAL = dataclasses.replace(
    SQUARED, optimizer="spectral_gd", init="spectral", init_scale=0.01, **RUNS["spectral_gd"]
)
# Of one component each, and as many samples as the others, which then share a compilation.
MANY_COUNTS = (90, 60, 40, 28, 20, 14, 10, 6, 4, 3)
DEPTHS = (2, 3)

SAM = dataclasses.replace(SQUARED, optimizer="sam", sam_radius=0.05, **RUNS["gd"])
# At these weights all contrasts grow at one rate, so the start's length alone decides.
SAM_SPECTRAL = dataclasses.replace(
    SAM, init="spectral", init_scale=SPECTRAL.init_scale, weight_exponent=0.5
)
GROWING = SPECTRAL.init_scale * (2 * (SQUARED.num_classes - 1)) ** 0.5  # length of that start
RADII = (0.9, 1.1)  # over it

Runs = dict[str, xr.Dataset]


class Arrivals(NamedTuple):
    """Components of a run of spectral descent."""

    root: np.ndarray
    """s^(1/L)."""
    found: np.ndarray
    """When each first reaches a level of its target, in steps times learning rate."""
    wanted: np.ndarray
    blocks: np.ndarray


def configured(name: Optimizer) -> Config:
    """The runs of an optimiser, but for weights and seed."""
    return dataclasses.replace(SQUARED, optimizer=name, **RUNS[name])


def follow(quick: bool, report: Report) -> Runs:
    """Every run, two jobs at once so that one compiles while the other runs."""
    names = QUICK if quick else tuple(RUNS)
    jobs: list[Callable[[], Runs]] = [lambda name=name: _own_runs(name, quick) for name in names]
    if not quick:
        jobs += [_class_runs, _sam_runs, _wide_runs, lambda: _spectral_runs(3)]
    found: Runs = {}
    with ThreadPoolExecutor(2) as pool:
        done = as_completed([pool.submit(job) for job in reversed(jobs)])
        for i, future in enumerate(done):
            found |= future.result()
            report((i + 1) / len(jobs))
    return found


def _own_runs(name: Optimizer, quick: bool) -> Runs:
    """The runs that share an optimiser's compilation."""
    config = configured(name)
    found: Runs = {name: sweep(_axes(quick), config)}
    if name == "spectral_gd":
        found |= _spectral_runs(2)
    if name == "normalised_gd":
        found[f"collapsed {name}"] = sweep(
            _axes(quick), dataclasses.replace(config, init="collapsed")
        )
    if name in ("gd", "adam") and not quick:
        found |= _scaled_runs(config)
    if name == "sign" and not quick:
        found["sign seeds"] = sweep({"seed": range(SIGN_SEEDS)}, config)
    return found


def _scaled_runs(config: Config) -> Runs:
    """All class weights times a factor, for gradient descent at a rate that makes up for it too."""
    found: Runs = {}
    for factor in FACTORS[: 1 if config.optimizer == "gd" else 2]:
        scaled = dataclasses.replace(config, class_weights=(factor,) * config.num_classes)
        found[f"{config.optimizer} x {factor:g}"] = sweep({"seed": range(SEEDS)}, scaled)
    if config.optimizer == "gd":
        back = RUNS["gd"]["learning_rate"] / FACTORS[0]
        slow = dataclasses.replace(scaled, learning_rate=back)
        found[f"gd x {FACTORS[0]:g} back"] = sweep({"seed": range(SEEDS)}, slow)
    return found


def _axes(quick: bool) -> dict[str, Any]:
    return {"weight_exponent": WEIGHTINGS.values(), "seed": range(SEEDS // 2 if quick else SEEDS)}


def _class_runs() -> Runs:
    """Gradient descent where all features of a class are equal, and are one column."""
    collapsed = dataclasses.replace(configured("gd"), init="collapsed")
    return {
        "stepped": sweep({"learning_rate": STEPS}, STEPPED),
        "collapsed gd": sweep(_axes(False), collapsed),
    }


def wide() -> Config:
    """Sign descent of a layer of many coordinates, in the same number of steps: logits grow as their number
    times the square of what one has moved."""
    own = configured("sign")
    assert own.learning_rate is not None
    return dataclasses.replace(
        own,
        feature_dim=WIDE * own.feature_dim,
        learning_rate=own.learning_rate / WIDE**0.5,
        init_scale=own.init_scale / WIDE**0.5,
        num_steps=SIGN_STEPS,
        num_saves=SIGN_STEPS + 1,  # every step, as of single coordinates
    )


def _wide_runs() -> Runs:
    return {"wide sign": sweep({"seed": range(2 * SEEDS)}, wide())}


def _sam_runs() -> Runs:
    radii = [x * GROWING for x in RADII]
    return {
        "sam": sweep({"seed": range(SEEDS)}, SAM),
        "sam radii": sweep({"sam_radius": radii}, SAM_SPECTRAL),
    }


def _spectral_runs(depth: int) -> Runs:
    """Spectral descent from its own start: STEP by weighting, and nine different components."""
    config = dataclasses.replace(SPECTRAL, depth=depth)
    many = dataclasses.replace(config, profile="custom", counts=MANY_COUNTS)
    exponents = {"weight_exponent": WEIGHTINGS.values() if depth == 2 else (0.0,)}
    return {f"STEP {depth}": sweep(exponents, config), f"many {depth}": simulate(many)}


def arrivals(run: xr.Dataset, depth: int, level: float) -> Arrivals:
    """When the components of one run of spectral descent come to a level of their targets."""
    targets, times = run["component_target"].values, run["cumulative_rate"].values
    shares = (run["strength"] / run["component_target"]).transpose("time", "component").values
    return Arrivals(
        targets ** (1 / depth),
        spectral.learning_times(times, shares, level),
        np.asarray(exact.spectral_learning_time(targets, SPECTRAL.init_scale, depth, level)),
        run["component_block"].values,
    )


def unweighted(runs: Runs, depth: int, level: float) -> list[Arrivals]:
    """Arrivals of STEP and of the many counts, ERM."""
    both = (runs[f"STEP {depth}"].sel(weight_exponent=0.0), runs[f"many {depth}"])
    return [arrivals(run, depth, level) for run in both]


def growth_rates() -> np.ndarray:
    """Growth rates of the contrasts of each of `GROUPS` under the flow, ERM."""
    return theory.class_growth_rates(make_problem(SQUARED))[[0, -1]]


def convergence(runs: xr.Dataset) -> dict[str, np.ndarray]:
    """Distance of gradient descent from the flow's sigmoids, the largest over modes and the times
    up to `LENGTH` that all have in common, by `step`: `found`, and to `first_order`."""
    components = spectral.components(make_problem(STEPPED))
    s, r = components.singular_values, growth_rates()[0]
    r = r * s / s[0]  # n_c^(1/2) / n
    y_0 = STEPPED.init_scale**2 / s
    steps, coarsest = runs["learning_rate"].values, max(STEPS)
    found, first_order = [], []
    for i, step in enumerate(steps):
        times = runs["cumulative_rate"].isel(learning_rate=i).values
        kept = np.flatnonzero(times <= LENGTH * (1 + 1e-9))[:: round(coarsest / step)]
        y = theory.sigmoid(times[kept], r, s * y_0, s) / s
        own = runs["strength"].isel(learning_rate=i, time=kept).transpose("time", "component") / s
        late = step * r * y * (1 - y) * np.log(np.sqrt(y / y_0) * (1 - y) / (1 - y_0))
        found.append(np.abs(own.values - y).max())
        first_order.append(np.abs(late).max())
    return {"step": steps, "found": np.array(found), "first_order": np.array(first_order)}


def path_length(run: xr.Dataset) -> np.ndarray:
    """Length of gradient descent's path up to each observed time, as dL/dt = -|gradient|^2."""
    fallen, passed = -np.diff(run["loss"].values), np.diff(run["cumulative_rate"].values)
    return np.concatenate([[0.0], np.cumsum(np.sqrt(fallen * passed))])
