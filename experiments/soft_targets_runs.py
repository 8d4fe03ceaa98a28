"""Supports of next tokens whose spectra are known, their runs, and closed forms of when they are learned."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.integrate import quad
from scipy.linalg import hadamard

import ssm
from ssm import spectral
from ssm.theory.growth import learning_time
from ssm.theory.overlapping import overlapping_learning_times

NUMBERS = np.array([16, 12, 8, 4, 4, 2, 2])  # contexts of each sign, for each contrast of halves
VALUES = 0.9 * 2 * 0.75 ** np.arange(7)
SHARPNESS = VALUES / np.sqrt(NUMBERS / 4)  # a
AT_NODES = (32, 8, 1)  # contexts at a node of each level of the tree
NUM_TOKENS, OCCURRENCES, NUM_NEXT = 16, 48, 4  # of bigrams; of their commonest context
LOSSES = {"squared": "squared loss", "cross_entropy": "cross-entropy"}
WEIGHTINGS = {"ERM": 0.0, "$w \\sim 1/s$": 1.0, "$w \\sim 1/s^2$": 2.0}
SCALE, SPREAD = 1e-5, 1e-4  # of Gaussian and of spectral starts
SEEDS = 5
END = 1e6
SOFT = 0.1  # of the sharpness of bigrams, claimed of after looking


class Support(NamedTuple):
    """What contexts are taught, sorted by their likeliest token."""

    targets: Float[np.ndarray, "n k"]
    component: np.ndarray
    """Which contrast a context of halves has, or which level of the tree; else 0."""

    @property
    def centred(self) -> Float[np.ndarray, "k n"]:
        """T."""
        return self.targets.T - 1 / self.targets.shape[1]

    def follow(self, weights: Any = None, start: Any = None, **numbers: Any) -> xr.Dataset:
        """A run, with its states, from a small Gaussian start unless another is said."""
        size: dict[str, Any] = {} if start is not None else {"init_scale": SCALE}
        k = self.targets.shape[1]
        fields: dict[str, Any] = (
            {"feature_dim": k + 2, "num_saves": 100, "save_state": True} | size | numbers
        )
        config = ssm.Config(**fields)
        return ssm.simulate(config, targets=self.targets, sample_weights=weights, start=start)


def _sorted(targets: np.ndarray, component: np.ndarray) -> Support:
    order = np.argsort(targets.argmax(axis=1), kind="stable")
    return Support(targets[order], component[order])


def halves() -> Support:
    """Contexts of seven contrasts, in both signs."""
    H = hadamard(8)[:, 1:]
    component = np.repeat(np.arange(7), 2 * NUMBERS)
    signs = np.resize([1, -1], len(component))
    return _sorted((1 + (signs * SHARPNESS[component])[:, None] * H.T[component]) / 8, component)


def tree() -> Support:
    """Contexts that allow the leaves under a node, by level 1, 2, 3."""
    rows, levels = [], []
    for level, number in enumerate(AT_NODES, 1):
        nodes = np.kron(np.eye(2**level), np.ones(2 ** (3 - level))) / 2 ** (3 - level)
        rows.append(np.repeat(nodes, number, axis=0))
        levels += [level] * (number * 2**level)
    return _sorted(np.concatenate(rows), np.array(levels))


def tree_values() -> np.ndarray:
    """The singular values of the three scales, as derived."""
    m = np.array(AT_NODES)
    levels = np.arange(1, 4)
    return np.sqrt([(m * 2.0 ** (levels - 3))[levels > j].sum() for j in range(3)])


def bigrams(seed: int, sharpness: float = 1.0) -> Support:
    """Occurrences of contexts, each with four next tokens, by their frequencies; all less sharp where even shares of all
    tokens are mixed in."""
    rng = np.random.default_rng([seed, 7])
    zipf = 1 / np.arange(1, NUM_TOKENS + 1)
    numbers = np.round(OCCURRENCES * zipf).astype(int)
    P = np.zeros((NUM_TOKENS, NUM_TOKENS))
    for row in P:
        allowed = rng.choice(NUM_TOKENS, NUM_NEXT, replace=False, p=zipf / zipf.sum())
        row[allowed] = zipf[allowed] / zipf[allowed].sum()
    P = sharpness * P + (1 - sharpness) / NUM_TOKENS
    return _sorted(np.repeat(P, numbers, axis=0), np.zeros(numbers.sum(), dtype=int))


def context_weights(exponent: float) -> np.ndarray:
    """Of the contexts of each contrast of halves, of unit mean over contexts: w ~ s^-exponent."""
    weights = VALUES**-exponent
    return weights / np.average(weights, weights=NUMBERS)


def halves_times(loss: str, weights: np.ndarray) -> np.ndarray:
    """When contrasts of halves are half learned from a spectral start, by the closed forms of one contrast."""
    rates = weights * VALUES / (2 * NUMBERS.sum())
    if loss == "squared":
        return learning_time(rates, SPREAD**2 / VALUES, "squared", 8)
    folds = []
    for a, m in zip(SHARPNESS, NUMBERS, strict=True):
        first, half = SPREAD**2 / np.sqrt(2 * m * 8), a / 16
        slowed, _ = quad(lambda c, a=a: (1 / (1 - np.tanh(c) / a) - 1) / c, first, half)
        folds.append(np.log(half / first) + slowed)
    return np.array(folds) / (2 * rates)


def closed_form(support: Support, found: xr.Dataset) -> np.ndarray:
    """When components of a run's start are half learned under the squared loss, as modes that share directions."""
    spectrum = spectral.target_spectrum(support.targets.T)
    left, values = spectrum.left, spectrum.singular_values
    right = left.T @ support.centred / values[:, None]
    rows = (left.T @ found["W"].values[0] + right @ found["H"].values[0].T) / 2
    gram = rows @ rows.T / np.sqrt(values[:, None] * values)
    rates = values / len(support.targets)
    return overlapping_learning_times(rates, np.zeros_like(rates), gram, 1.0).times


def long_enough(support: Support, weights: Any = 1.0) -> float:
    """A length in which the slowest component is learned, which a run of automatic length does not wait for."""
    values = np.linalg.svd(support.centred * weights, compute_uv=False)
    return 30 / (2 * values[values > 1e-9 * values[0]].min() / len(support.targets))


def early_rates(support: Support, weights: np.ndarray, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Half the growth of the logits' singular values while small, along the weighted targets, and these' own values over n."""
    weighted = support.centred * weights / len(weights)
    left, values, right = np.linalg.svd(weighted, full_matrices=False)
    rank = int((values > 1e-9 * values[0]).sum())
    k, n = weighted.shape
    W, H = np.zeros((k, k + 2)), np.zeros((k + 2, n))
    W[:, :rank], H[:rank] = SPREAD * left[:, :rank], SPREAD * right[:rank]
    length = np.log(1e-3 / SPREAD**2) / (2 * values[0])
    found = support.follow(weights, ssm.Params(W, H), loss=loss, t1=length, num_saves=3)
    grown = found["singular_value"].values[:, :rank]
    return np.log(grown[2] / grown[1]) / length, values[:rank]


def logits(found: xr.Dataset) -> Float[np.ndarray, "t k n"]:
    """Z at every saved time."""
    return found["W"].values @ found["H"].values


def cosines(Z: Float[np.ndarray, "t k n"], matrix: Float[np.ndarray, "k n"]) -> np.ndarray:
    """Of logits with a matrix, at every saved time."""
    sizes = np.linalg.norm(Z, axis=(1, 2)) * np.linalg.norm(matrix)
    return (Z * matrix).sum(axis=(1, 2)) / sizes
