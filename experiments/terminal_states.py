"""Where runs by the loss clock end, and where theory expects them on the way to their limit.

The limit is SELI of the effective counts n_c / kappa_c whatever the weights: SELI for free features,
the simplex ETF for shared ones. Two things keep a run from it, both derived for this project.

Margins: on the way W and H grow at one rate, so the gradient is a multiple of -U V^T of the label
matrix. With A = U Sig^-1 U^T that is w_y kappa_y e^(-gap) ~ -A_jy for the gap between logit y and
logit j of a sample of class y, or

    gap_jy = margin + log(w_y kappa_y) - log(-A_jy) - (the least such number).

A weight shifts logits once by its logarithm while the margin grows without bound: distances fall as
1 / margin. Start: cross-entropy keeps 1^T W. That row, of entries N(0, s^2), turns W W^T and W H away
from the limit by parts of order s / sqrt(margin). It moves all logits of a sample alike, so nothing
else feels it, and it stands at random to the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from experiments.settings import BASE
from ssm import Config, geometry
from ssm.problem import make_problem
from ssm.results import reached

LAST_SHOWN = 20  # log of flow time
AXES = ("num_classes", "imbalance_ratio", "minority_fraction", "weight_exponent")


class State(NamedTuple):
    """Classifier and features, those of a class all at its mean."""

    W: Float[np.ndarray, "k d"]
    means: Float[np.ndarray, "d k"]
    """One class a column."""
    counts: Int[np.ndarray, " k"]

    @property
    def gram(self) -> geometry.Geometry:
        """W W^T, inner products of class means, logits."""
        return geometry.Geometry(self.W @ self.W.T, self.means.T @ self.means, self.W @ self.means)

    @property
    def without_mean_row(self) -> State:
        """With rows of W that sum to zero."""
        return self._replace(W=self.W - self.W.mean(axis=0))

    def distances(self, target: geometry.Geometry) -> Float[np.ndarray, " 3"]:
        """To a geometry, in the order of `geometry.PARTS`."""
        none = np.zeros((self.W.shape[1],) * 2)
        return geometry.distances(self.W, self.means, none, self.counts, target)


def single_runs(runs: xr.Dataset) -> Iterator[xr.Dataset]:
    """Every run of a sweep."""
    sizes = runs["status"].sizes
    for index in np.ndindex(*sizes.values()):
        yield runs.isel(dict(zip(sizes, index, strict=True)))


def early_part(run: xr.Dataset) -> xr.Dataset:
    """What a run by the loss clock reached while flow time can still be told."""
    run = reached(run)
    return run.isel(time=run["log_time"].values < LAST_SHOWN)


def trajectory(run: xr.Dataset, counts: Int[np.ndarray, " k"]) -> list[State]:
    """Where a run with one feature column a class was at each observed time."""
    return [State(W, H, counts) for W, H in zip(run["W"].values, run["H"].values, strict=True)]


def balanced(logits: Float[np.ndarray, "k k"], counts: Float[np.ndarray, " k"]) -> State:
    """The factors W, H of least norm of the logits of each class's samples: with Z diag(sqrt(n)) = P D Q^T,
    W = P sqrt(D) and the class means are sqrt(D) Q^T diag(1 / sqrt(n))."""
    root = np.sqrt(counts)
    P, D, Qt = np.linalg.svd(logits * root, full_matrices=False)
    return State(P * np.sqrt(D), np.sqrt(D)[:, None] * Qt / root, counts)


def largest_part(distance: xr.DataArray) -> xr.DataArray:
    """The largest of the distances of W, H and Z; NaN where one is."""
    return distance.max("part", skipna=False)


def margin_at_end(run: xr.Dataset) -> float:
    """The margin with which a run ended."""
    return float(reached(run)["margin"][-1])


def end(run: xr.Dataset) -> State:
    """Where a run with one feature column a class ended."""
    last, own = reached(run).isel(time=-1), slice(int((run["class_count"] > 0).sum()))
    return State(last["W"].values[own], last["H"].values[:, own], last["class_count"].values[own])


def config_of(run: xr.Dataset, **changes: float) -> Config:
    """The problem that a run of a sweep over `AXES` is of; those it still has are in `changes`."""
    found = {name: run[name].item() for name in AXES if run[name].ndim == 0}
    return dataclasses.replace(BASE, **(found | changes))


def limit(config: Config) -> geometry.Geometry:
    """The terminal geometry: SELI for free features, the simplex ETF for shared ones."""
    problem = make_problem(config)
    return geometry.seli(geometry.effective_counts(problem.counts, problem.kernel_eigenvalues))


def approach(config: Config, margin: float) -> State:
    """The state at a large margin from a vanishing start, to first order in 1 / margin: the gaps above
    give the logits, and these the state that is balanced for the effective counts n_c / kappa_c."""
    problem = make_problem(config)
    k, kappa = len(problem.counts), problem.kernel_eigenvalues
    other = ~np.eye(k, dtype=bool)
    pull = -limit(config).features / (problem.class_weights * kappa)
    gaps = -np.log(pull, where=other, out=np.zeros((k, k)))
    gaps = np.where(other, gaps - gaps[other].min() + margin, 0)
    state = balanced(gaps.mean(axis=0) - gaps, geometry.effective_counts(problem.counts, kappa))
    return state._replace(counts=problem.counts)


def mean_row_distances(config: Config, margin: float) -> Float[np.ndarray, " 3"]:
    """Root mean square over starts of what the kept mean row of W adds to the distances.

    With r the kept row over sqrt(k), |1 (W r)^T / sqrt(k) + transposed|^2 has mean 2 s^2 |W|^2, and
    |H^T r|^2 has mean s^2 |H|^2.
    """
    W, means, counts = approach(config, margin)
    H = means * np.sqrt(counts)
    parts = [np.sqrt(2) * _size(W) / _size(W @ W.T), 0.0, _size(H) / _size(W @ H)]
    return config.init_scale * np.array(parts)


def expected_distances(config: Config, margin: float) -> Float[np.ndarray, " 3"]:
    """Distances to the limit at a margin, root mean square over starts."""
    left = approach(config, margin).distances(limit(config))
    return np.hypot(left, mean_row_distances(config, margin))


def _size(X: np.ndarray) -> float:
    return float(np.linalg.norm(X))
