"""Does reweighting alter where training ends?

Under cross-entropy, runs go by the loss clock to a margin. Claimed before the run: all weightings end in
one geometry, SELI for free features and the simplex ETF for shared ones, however far apart they were
early, and the distance to it falls as 1 / margin. The limits are known from the literature; how runs
approach them is `ssm.terminal`, derived after looking. It takes a
minute: some 90 runs of 4 and 10 classes, imbalance ratios 1 to 100, two fractions of minorities, three
weightings.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from experiments import readings, terminal_figures
from experiments.claims import Claim, Claims, Estimate
from experiments.readings import GROUPS, Report, counted, part
from experiments.settings import BASE, WEIGHTINGS
from experiments.terminal_states import (
    AXES,
    approach,
    config_of,
    end,
    largest_part,
    limit,
    margin_at_end,
    single_runs,
    without_kept_row,
)
from ssm import Config, fits, spectral, sweep, terminal
from ssm.problem import make_problem
from ssm.results import reached

# What distances x margin were expected to stay below before looking: 1e-7, 1e-5 in a full run.
COLLAPSED, GAUSSIAN = 10.0, 3.0
SCATTER = 3e-4  # the same of NC1 from a Gaussian start, so 1e-9
APART = 0.1  # of a distance to the other kind of features' limit
EARLY = 1.5  # factor by which neighbouring weightings differ early
SLOPE_TOLERANCE = 0.05
# The next order in 1 / margin, and the start's imbalance of W and H, are far smaller.
APPROACH_TOLERANCE = 0.01
# Of a draw of the kept row k - 1 numbers count: two standard deviations, for k = 4, of their size.
ROW_TOLERANCE = 0.3
DRAWS = 32
START_TOLERANCE = (
    0.05  # of learning times, exact for their start but for noise, read between saved times
)


class Runs(NamedTuple):
    """What the experiment looks at, all by the loss clock."""

    collapsed: xr.Dataset
    """All cases from features equal on each class, with their states."""
    earlier: xr.Dataset
    """The main case likewise, by weighting and by smaller margins to stop at."""
    draws: xr.Dataset
    """The main case likewise, by seed, up to a hundredth of the margin, where it costs less."""
    shared: xr.Dataset
    """The main case with shared features, by weighting, with its states."""
    gaussian: xr.Dataset
    """All cases from a Gaussian start."""
    main: dict[str, Any]
    """Where the main case is among all."""
    margins: tuple[float, float]
    """At which the collapsed runs stop, and the others."""


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw the early and the terminal phase of all weightings and hold the end against theory."""
    runs = follow(quick, part(report, 0.0, 0.95))
    free, collapsed = (whole.sel(runs.main) for whole in (runs.gaussian, runs.collapsed))
    terminal_figures.draw_phases(out / "terminal_distance.png", free, runs.shared)
    terminal_figures.draw_grams(out / "terminal_gram.png", collapsed, runs.shared)
    terminal_figures.draw_cases(out / "terminal_cases.png", runs.collapsed, runs.gaussian)
    report(1.0)
    return [
        *_early_claims(free),
        *_end_claims(runs),
        *_shared_claims(runs),
        *_same_end_claims(runs),
        *_slope_claims(runs),
        *_approach_claims(runs),
    ]


def follow(quick: bool, report: Report) -> Runs:
    """Run everything: cases are classes, imbalance ratio, fraction of minorities and weights."""
    margins = (1e5, 1e4) if quick else (1e8, 3e5)
    weightings = {"weight_exponent": tuple(WEIGHTINGS.values())}
    main = {"num_classes": 4 if quick else 10, "imbalance_ratio": 10, "minority_fraction": 0.5}
    cases = {
        "num_classes": (4,) if quick else (4, 10),
        "imbalance_ratio": (1, 10) if quick else (1, 10, 100),
        "minority_fraction": (0.5,) if quick else (0.3, 0.5),
        **weightings,
    }
    base = dataclasses.replace(BASE, clock="loss", geometry=True, rtol=1e-4)
    gaussian = dataclasses.replace(base, stop_margin=margins[1])
    collapsed = dataclasses.replace(base, stop_margin=margins[0], init="collapsed", save_state=True)
    shared = dataclasses.replace(gaussian, coupling=1.0, save_state=True, **main)
    if quick:  # one column a class, in the shape of the tests, which is compiled there
        collapsed, shared = (
            dataclasses.replace(own, feature_dim=6, num_saves=50) for own in (collapsed, shared)
        )
    one = dataclasses.replace(collapsed, **main)
    before = {**weightings, "stop_margin": (margins[0] / 100, margins[0] / 10)}

    def run_all(axes: dict[str, Any], config: Config, low: float, high: float) -> xr.Dataset:
        return sweep(axes, config, progress=counted(part(report, low, high)))

    return Runs(
        collapsed=run_all(cases, collapsed, 0.0, 0.13),
        earlier=run_all(before, one, 0.13, 0.15),
        draws=run_all(
            {"seed": range(DRAWS)},
            dataclasses.replace(one, stop_margin=margins[0] / 100),
            0.15,
            0.17,
        ),
        shared=run_all(weightings, shared, 0.17, 0.19),
        gaussian=run_all(cases, gaussian, 0.19, 1.0),
        main=main,
        margins=margins,
    )


def learned(run: xr.Dataset) -> dict[str, float]:
    """Flow time at which each block reaches half its target, by block."""
    run = reached(run).isel(time=slice(1, None))  # log 0 is no number to go on from
    times = spectral.learning_times(run["log_time"].values, readings.shares(run).values)
    return dict(zip(spectral.BLOCKS, np.exp(times).tolist(), strict=True))


def _last(runs: xr.Dataset, name: str) -> xr.DataArray:
    """A variable at the end of every run."""
    return runs[name].isel(time=runs["margin"].notnull().sum("time") - 1)


def _name(runs: xr.Dataset) -> str:
    """The cases of a sweep, in words."""
    values = {name: np.atleast_1d(runs[name].values) for name in AXES[:-1]}
    return ", ".join(
        f"{symbol} = {own[0]:g}" + (f"..{own[-1]:g}" if len(own) > 1 else "")
        for symbol, own in zip(("k", "R", "rho"), values.values(), strict=True)
    )


def _early_claims(runs: xr.Dataset) -> list[Claim]:
    """The weightings part early: the ratio of learning times, against the prediction for their own start."""
    claims, ratios, minority = Claims(f"early, {_name(runs)}"), {}, {}
    for name, g in WEIGHTINGS.items():
        own = runs.sel(weight_exponent=g)
        config, times = config_of(own), learned(own)
        majority, minority[name] = (times[group] for group in GROUPS)
        ratios[name] = minority[name] / majority
        wanted = readings.times_of_start(config)
        statement = f"{name}, minority over majority learning time against its start's prediction"
        note = f"R^(1/2-g) = {config.imbalance_ratio ** (0.5 - g):.3g}"
        claims.close(statement, wanted[1] / wanted[0], ratios[name], START_TOLERANCE, note)
    for (one, g), (other, h) in itertools.pairwise(WEIGHTINGS.items()):
        law, alone = runs["imbalance_ratio"].item() ** (h - g), minority[one] / minority[other]
        note = f"small-start limit {law:.3g}; minorities alone {alone:.3g}"
        statement = f"minority over majority learning time, {one} over {other}"
        claims.at_least(statement, EARLY, ratios[one] / ratios[other], note)
    return claims


def _end_claims(runs: Runs) -> list[Claim]:
    """Every case ends at SELI."""
    claims = Claims()
    for start, bound, margin in zip(
        ("collapsed", "gaussian"), (COLLAPSED, GAUSSIAN), runs.margins, strict=True
    ):
        own = getattr(runs, start)
        name = f"{start} start, {_name(own)}, all weights"
        least = float(_last(own, "margin").min())
        claims.at_least(f"{name}: least margin at the end", margin, least)
        distance = largest_part(_last(own, "seli_distance"))
        statement = f"{name}: distance to SELI at the end, largest of W, H, Z and cases"
        note = f"smallest {float(distance.min()):.2g}"
        claims.at_most(statement, bound / margin, float(distance.max(skipna=False)), note)
    collapse = float(_last(runs.gaussian, "nc1").max(skipna=False))
    statement = f"gaussian start, {_name(runs.gaussian)}, all weights: NC1 at the end, largest"
    claims.at_most(statement, SCATTER / runs.margins[1], collapse)
    unequal = runs.gaussian["imbalance_ratio"] > 1
    away = largest_part(_last(runs.gaussian, "etf_distance")).sel(imbalance_ratio=unequal)
    statement = (
        "gaussian start, R > 1, all weights: distance to the simplex ETF at the end, smallest"
    )
    claims.at_least(statement, APART, float(away.min(skipna=False)))
    return claims


def _shared_claims(runs: Runs) -> list[Claim]:
    """Shared features end at the simplex ETF instead."""
    etf, seli = (largest_part(_last(runs.shared, f"{name}_distance")) for name in ("etf", "seli"))
    claims = Claims(f"shared features, {_name(runs.gaussian.sel(runs.main))}, all weights")
    bound = GAUSSIAN / runs.margins[1]
    statement = "distance to the simplex ETF at the end, largest"
    claims.at_most(statement, bound, float(etf.max(skipna=False)))
    statement = "distance to SELI at the end, smallest"
    claims.at_least(statement, APART, float(seli.min(skipna=False)))
    return claims


def _same_end_claims(runs: Runs) -> list[Claim]:
    """Weighted runs and ERM end alike, compared with one another."""
    away, shares = [], []
    for own in _by_case(runs.collapsed):
        erm, *weighted = (end(own.sel(weight_exponent=g)) for g in WEIGHTINGS.values())
        target = limit(config_of(own, weight_exponent=0.0))
        for other in weighted:
            away.append(other.distances(erm.gram))
            shares.append(away[-1] / (other.distances(target) + erm.distances(target)))
    claims = Claims(f"collapsed start, {_name(runs.collapsed)}")
    name, bound = "weighted end from ERM's", 2 * COLLAPSED / runs.margins[0]
    statement = f"{name}, distance, largest of W, H, Z and cases"
    claims.at_most(statement, bound, float(np.max(away)))
    claims.at_most(f"{name}, over the sum of their distances to SELI", 1, float(np.max(shares)))
    return claims


def _by_case(runs: xr.Dataset) -> Iterator[xr.Dataset]:
    """The runs of each case, by weighting."""
    first = runs.isel(weight_exponent=0)
    for index in np.ndindex(first["status"].shape):
        yield runs.isel(dict(zip(first["status"].dims, index, strict=True)))


def _slope_claims(runs: Runs) -> list[Claim]:
    """How the distance of the main case falls over its last two decades, read where runs stop."""
    slopes = {"as it is": [], "less the kept mean row of W (derived after looking)": []}
    for g in WEIGHTINGS.values():
        own = runs.earlier.sel(weight_exponent=g)
        stops = [own.isel(stop_margin=i) for i in range(own.sizes["stop_margin"])]
        stops.append(runs.collapsed.sel(runs.main).sel(weight_exponent=g))
        margins = [margin_at_end(stop) for stop in stops]
        whole, target = [end(stop) for stop in stops], limit(config_of(stops[-1]))
        less = [without_kept_row(state) for state in whole]
        for name, states in zip(slopes, (whole, less), strict=True):
            distances = [state.distances(target).max() for state in states]
            slopes[name].append(float(fits.power_law(margins, distances)["exponent"]))
    last, case = runs.margins[0], _name(runs.gaussian.sel(runs.main))
    claims = Claims(f"collapsed start, {case}, all weights, margins {last / 100:g} to {last:g}")
    for name, found in slopes.items():
        statement = f"log-log slope of the distance to SELI {name}, worst distance from -1"
        note = "slopes " + ", ".join(f"{slope:.3f}" for slope in found)
        claims.at_most(statement, SLOPE_TOLERANCE, float(np.abs(np.add(found, 1)).max()), note)
    return claims


def _approach_claims(runs: Runs) -> list[Claim]:
    """How far from SELI the collapsed runs still are, part by part."""
    claims, off = Claims(), {}
    for own in single_runs(runs.collapsed):
        config, margin = config_of(own), margin_at_end(own)
        if config.imbalance_ratio > 1:  # at equal counts all gaps are equal
            found = without_kept_row(end(own)).distances(limit(config))
            wanted = approach(config, margin).distances(limit(config))
            off[config] = np.abs(found / wanted - 1).max()
    statement = f"collapsed start, {_name(runs.collapsed)}, R > 1, all weights: distances of W, H, Z at the end less the kept row, worst distance from those of the margins, relative (derived after looking)"
    claims.at_most(statement, APPROACH_TOLERANCE, float(max(off.values())))
    config, added, margins = config_of(runs.collapsed.sel(runs.main), weight_exponent=0.0), [], []
    for own in single_runs(runs.draws):
        states = end(own), without_kept_row(end(own))
        whole, less = (state.distances(limit(config))[0] for state in states)
        added.append(whole**2 - less**2)
        margins.append(margin_at_end(own))
    statement = f"collapsed start, {_name(runs.gaussian.sel(runs.main))}, ERM, margin {np.mean(margins):.1g}, {DRAWS} seeds: what the kept row adds to the distance of W, root mean square (derived after looking)"
    wanted = float(
        terminal.kept_row_distances(config, make_problem(config), float(np.mean(margins)))[0]
    )
    size = Estimate(*np.sqrt(np.maximum(Estimate.over_seeds(added), 0)).tolist())
    claims.close(statement, wanted, size, ROW_TOLERANCE)
    return claims
