"""The observations of a network at one time from the features of the samples of a probe, and from its classifier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int, Shaped
from scipy.linalg import get_blas_funcs

from ssm.measures import collapse, geometry
from ssm.measures.probes import Probe
from ssm.practice.network import kernels
from ssm.theory import growth

BLOCK = 2**15
"""How many numbers are in memory as float64 at once. The memory of larger blocks would go back to the system and be
allocated anew for each."""

(_add_outer_products,) = get_blas_funcs(("syrk",), dtype=np.float64)


def observe(
    features: Shaped[np.ndarray, "n d"] | None,
    classifier: Float[np.ndarray, "k d"] | None,
    labels: Int[np.ndarray, " n"],
    predictions: Int[np.ndarray, " n"],
    probe: Probe,
) -> dict[str, np.ndarray | float]:
    """Neural collapse, the distances to SELI and to the ETF, the coupling and the cosines of minority classes, as far as
    they follow from the features or the classifier that are given.

    All variables are over the classes that the probe has. Sums over samples are in float64.

    Args:
        features: one row a sample, of any real type; None where they are not known.
        classifier: one row a class; None where it is not known.
        predictions: the class of each sample's largest logit.
    """
    present, found = probe.present, {}
    given = classifier if features is None else features
    assert given is not None
    d = given.shape[1]
    means, scatter = np.full((d, len(present)), np.nan), np.full((d, d), np.nan)
    if features is not None:
        means, scatter, of_features = _of_features(features, labels, predictions, probe)
        found |= of_features
    W = np.full((len(present), d), np.nan) if classifier is None else classifier[present]
    state = W, means, scatter, probe.counts[present]
    return (
        found
        | geometry.duality(W, means)
        | {
            "seli_distance": geometry.distances(*state, probe.seli),
            "etf_distance": geometry.distances(*state, probe.etf),
            "minority_cosine": _minority_cosines(W, means, probe),
        }
    )


def _of_features(
    features: Shaped[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    predictions: Int[np.ndarray, " n"],
    probe: Probe,
) -> tuple[Float[np.ndarray, "d p"], Float[np.ndarray, "d d"], dict[str, np.ndarray | float]]:
    """The class means, the scatter about them, and the variables that need no classifier."""
    present = probe.present
    counts, place = probe.counts[present], np.zeros(len(probe.counts), int)
    place[present] = np.arange(len(present))
    own, p, d = place[labels], len(present), features.shape[1]
    means = np.zeros((p, d))
    for block, rows in _blocks(features):
        means += _members(own[rows], p) @ block
    means /= counts[:, None]

    roots = {by: collapse.whitening(means.T, counts, by, by) for by in collapse.BY}
    scatter, variances = np.zeros((d, d), order="F"), np.zeros(p)
    whitened = {by: np.zeros(p) for by in collapse.BY}
    mismatched = np.zeros(p)
    squares = (means**2).sum(axis=1)
    for block, rows in _blocks(features):
        mine = own[rows]
        nearest = (squares - 2 * block @ means.T).argmin(axis=1)
        mismatched += np.bincount(mine, present[nearest] != predictions[rows], p)
        block = block - means[mine]
        scatter = _add_outer_products(1.0, block.T, 1.0, scatter, overwrite_c=True)
        variances += np.bincount(mine, np.einsum("ij,ij->i", block, block), p)
        for by, (root, _) in roots.items():
            turned = block @ root
            whitened[by] += np.bincount(mine, np.einsum("ij,ij->i", turned, turned), p)
    scatter = scatter + np.triu(scatter, 1).T
    return (
        means.T,
        scatter,
        _collapse(counts, variances, whitened, roots, means)
        | {
            "nc4": (mismatched / counts).mean(),
            **_coupling(means, variances / counts + squares, probe),
        },
    )


def _collapse(
    counts: Int[np.ndarray, " p"],
    variances: Float[np.ndarray, " p"],
    whitened: dict[str, Float[np.ndarray, " p"]],
    roots: dict[str, tuple[np.ndarray, float]],
    means: Float[np.ndarray, "p d"],
) -> dict[str, np.ndarray | float]:
    """NC1 in both averages and both forms, and CDNV, from the sums by class of squared deviations, plain and whitened by
    each root."""
    p, found = len(counts), {}
    for by, name in zip(collapse.BY, ("nc1", "nc1_pooled"), strict=True):
        shares = 1 / (p * counts) if by == "classes" else np.full(p, 1 / counts.sum())
        root, spread = roots[by]
        found[name] = shares @ whitened[by] / p if root.size else np.nan
        found[f"{name}_traces"] = shares @ variances / spread if root.size else np.nan
    return found | {"cdnv": collapse.cdnv_of_moments(means.T, variances / counts)}


def _coupling(
    means: Float[np.ndarray, "p d"], squares: Float[np.ndarray, " p"], probe: Probe
) -> dict[str, np.ndarray | float]:
    """The coupling that the features show and the exponent of class weights that balances it; NaN where a class has only
    one sample, or where all features are equal."""
    counts = probe.counts[probe.present]
    if counts.min() < 2:
        return {"coupling": np.nan, "balancing_exponent": np.nan}
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = kernels.coupling_of_moments(means @ means.T, squares, counts).equal_sampled
    coupling = float(np.clip(measured, 0, 1))
    if not np.isfinite(coupling):
        return {"coupling": np.nan, "balancing_exponent": np.nan}
    n = probe.training_counts
    exponent = growth.balancing_exponent(int(n.max()), int(n.min()), coupling)
    return {"coupling": coupling, "balancing_exponent": float(exponent)}


def _minority_cosines(
    W: Float[np.ndarray, "p d"], means: Float[np.ndarray, "d p"], probe: Probe
) -> Float[np.ndarray, " 2"]:
    """The mean cosine of two minority classes, of their rows in the classifier and of their centred mean features, in the
    order of `geometry.FACTORS`. It is NaN where there are fewer than two."""
    is_minority = probe.groups[probe.present] == "minority"
    if is_minority.sum() < 2:
        return np.full(2, np.nan)
    found = []
    for vectors in (W - W.mean(axis=0), means.T - means.mean(axis=1)):
        with np.errstate(divide="ignore", invalid="ignore"):
            units = vectors[is_minority]
            units = units / np.linalg.norm(units, axis=1, keepdims=True)
        m = len(units)
        found.append(((units.sum(axis=0) ** 2).sum() - m) / (m * (m - 1)))
    return np.array(found)


def _blocks(
    features: Shaped[np.ndarray, "n d"],
) -> Iterator[tuple[Float[np.ndarray, "m d"], slice]]:
    """Blocks of rows as float64, each with its range of rows."""
    size = max(BLOCK // features.shape[1], 32)
    for first in range(0, len(features), size):
        rows = slice(first, first + size)
        yield np.ascontiguousarray(features[rows], dtype=np.float64), rows


def _members(own: Int[np.ndarray, " m"], p: int) -> scipy.sparse.csc_array:
    """The matrix with a 1 where a sample belongs to a class, p x m."""
    return scipy.sparse.csc_array((np.ones(len(own)), own, np.arange(len(own) + 1)), (p, len(own)))
