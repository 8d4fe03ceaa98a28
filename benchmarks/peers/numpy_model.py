"""The model in plain NumPy, every sample a column: field and observables for the peers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssm import Config, defaults, losses, preparation, spectral
from ssm.dynamics import starts
from ssm.dynamics.column_layouts import sample_columns
from ssm.problem import make_problem


class NumpyModel:
    """One run: its start and times, its field on flat states, and what is observed of states."""

    def __init__(self, config: Config) -> None:
        problem = make_problem(config)
        columns = sample_columns(problem, losses.LOSSES[config.loss])
        self.config, self.counts = config, problem.counts
        self.components = spectral.components(problem)
        self.labels, self.risk_weights = columns.labels, columns.risk_weights
        self.sum_columns = columns.sum_columns
        resolved = defaults.resolve(config, problem)
        length = resolved.num_steps if resolved.t1 is None else resolved.t1
        assert length is not None  # a flow has a length, the steps of an optimiser a number
        self.times = preparation.save_times(config, float(length))
        W, H, *_ = starts.make_start(config, problem, columns)[0]
        self.W, self.H = W, H
        self.start = np.concatenate([W.ravel(), H.ravel()])
        self.conserved = W.T @ W - H @ H.T
        self._samples = np.arange(len(self.labels))
        self._negative_weights = -self.risk_weights

    def field(self, time: float, state: np.ndarray) -> np.ndarray:
        """d(state)/dt; the time is not used."""
        W, H = self.split(state)
        G = W @ H
        if self.config.loss == "cross_entropy":
            G -= G.max(0)
            np.exp(G, out=G)
            G /= G.sum(0)
        else:
            G += 1 / len(self.counts)
        G[self.labels, self._samples] -= 1
        G *= self._negative_weights
        rate = np.empty_like(state)
        W_rate, H_rate = self.split(rate)
        np.matmul(G, H.T, out=W_rate)
        np.matmul(W.T, G, out=H_rate)
        return rate

    def split(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W and H of flat states (..., size)."""
        (k, d), (_, n) = self.W.shape, self.H.shape
        batch = state.shape[:-1]
        return state[..., : k * d].reshape(*batch, k, d), state[..., k * d :].reshape(*batch, d, n)

    def observe(self, W: np.ndarray, H: np.ndarray) -> dict[str, np.ndarray]:
        """Everything over time that `ssm.simulate` returns, of states (t, k, d) and (t, d, n)."""
        Z = W @ H
        of_samples = self._losses(Z)
        sums = Z @ self.sum_columns
        strength = spectral.strengths(sums, self.components)
        gram = Z @ Z.swapaxes(1, 2)
        classifier, features = W.swapaxes(1, 2) @ W, H @ H.swapaxes(1, 2)
        moved = np.linalg.norm(classifier - features - self.conserved, axis=(1, 2))
        scale = np.linalg.norm(classifier, axis=(1, 2)) + np.linalg.norm(features, axis=(1, 2))
        return {
            "loss": of_samples @ self.risk_weights,
            "class_loss": of_samples @ self.sum_columns / self.counts,
            "class_accuracy": (Z.argmax(1) == self.labels) @ self.sum_columns / self.counts,
            "strength": strength,
            "block_strength": spectral.block_means(strength, self.components.blocks),
            "class_strength": spectral.class_strengths(sums, self.counts),
            "singular_value": np.sqrt(np.linalg.eigvalsh(gram).clip(0))[:, ::-1],
            "residual": spectral.residual(strength, np.trace(gram, axis1=1, axis2=2)),
            "drift": moved / scale,
        }

    def _losses(self, Z: np.ndarray) -> np.ndarray:
        """Loss of every sample (t, n)."""
        if self.config.loss == "squared":
            deviation = Z + 1 / len(self.counts)
            deviation[:, self.labels, self._samples] -= 1
            return 0.5 * (deviation**2).sum(1)
        shifted = Z - Z.max(1, keepdims=True)
        own = shifted[:, self.labels, self._samples]
        return np.log(np.exp(shifted).sum(1)) - own


def seli_distance(W: np.ndarray, H: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Distances to SELI of W W^T (k x k), H^T H (n x n) and W H (k x n), shape (3,): Frobenius, all
    scaled to unit norm, from the SVD of the whole label matrix.

    Args:
        H: samples in the order of their classes, shape (d, n).
        counts: samples of each class.
    """
    simplex = np.repeat(np.eye(len(counts)), counts, axis=1) - 1 / len(counts)
    U, values, Vt = np.linalg.svd(simplex, full_matrices=False)
    pairs = (W @ W.T, (U * values) @ U.T), (H.T @ H, (Vt.T * values) @ Vt), (W @ H, simplex)
    return np.array(
        [np.linalg.norm(X / np.linalg.norm(X) - D / np.linalg.norm(D)) for X, D in pairs]
    )
