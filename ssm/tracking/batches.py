"""The sums over a probe at one step, which its batches of samples add up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssm.measures.probes import Probe
from ssm.measures.sample_sums import ROWS, SampleSums
from ssm.support import arrays, checks, errors
from ssm.tracking import features as of_features
from ssm.tracking import observing
from ssm.tracking.alarms import Alarm

BLOCK = 2**15
"""How many numbers are converted to float64 at once; at least those of `ROWS` samples are."""


class Layer(NamedTuple):
    """The last layer at one step and the weights of the classes."""

    classifier: np.ndarray | None
    gradient: np.ndarray | None
    weights: np.ndarray
    are_given: bool

    @classmethod
    def of(cls, k: int, classifier: object, gradient: object, weights: object) -> Layer:
        """The layer made of arguments of `Tracker.add`, checked; weights are 1 where none are given."""
        W, G = (
            None if value is None else _matrix(name, value, k, rows=True).astype(np.float64)
            for name, value in (("classifier", classifier), ("gradient", gradient))
        )
        if weights is None:
            return cls(W, G, np.ones(k), False)
        what = f"{k} positive finite numbers, one a class"
        found = checks.positive("weights", arrays.as_numpy("weights", weights, what), what)
        if len(found) != k:
            raise errors.invalid("weights", found.tolist(), what)
        return cls(W, G, found, True)


class Batches:
    """The sums over a probe at one step, to which its batches of samples are added."""

    def __init__(self, labels: np.ndarray, held_out: np.ndarray | None, num_classes: int):
        self._labels, self._held_out, self._k = labels, held_out, num_classes
        self._sums, self._losses = SampleSums(num_classes), observing.CrossEntropy(num_classes)
        self._predictions: list[np.ndarray] = []
        self._features: np.ndarray | None = None
        self._num_bad, self._num_added, self._num_held_out = 0, 0, 0
        if held_out is not None:
            self._held_sums = SampleSums(num_classes)
            self._held_losses = observing.CrossEntropy(num_classes)
        self.raised: list[Alarm] = []
        """The alarms of the step, once it is recorded."""

    def add(self, logits: object, features: object = None) -> None:
        """Add the logits of the next samples of the probe, shape (m, k), and their features, shape (m, d)."""
        logits = _matrix("logits", logits, self._k)
        labels = self._next("logits", logits, self._labels, self._num_added)
        bad = ~_usable_rows(logits)
        if features is not None:
            features = _matrix("features", features)
            if len(features) != len(logits):
                allowed = f"{len(logits)} rows, as many as logits has"
                raise errors.invalid("features", arrays.shape_of(features), allowed)
            before = self._features
            if before is not None and features.shape[1] != before.shape[1]:
                allowed = f"{before.shape[1]} columns, as in the batch before"
                raise errors.invalid("features", arrays.shape_of(features), allowed)
            bad |= ~_usable_rows(features)
        if (features is None) != (self._features is None) and self._predictions:
            raise errors.invalid(
                "features", "left out of some batches", "given for all of them, or none"
            )
        self._num_bad += int(bad.sum())
        if features is not None:
            self._keep(features, self._num_added)
        self._num_added += len(logits)
        self._predictions.append(logits.argmax(axis=1))
        if not self._num_bad:
            _sum_up(self._sums, self._losses, logits, labels)

    def _keep(self, features: np.ndarray, first: int) -> None:
        """Keep the features of a batch, whose samples begin at the index `first`. A batch of all samples is kept as it is.
        Smaller batches are copied, since training loops reuse their buffers."""
        n, before = len(self._labels), self._features
        if len(features) == n:
            self._features = features
            return
        kind = features.dtype if before is None else np.result_type(before, features)
        if before is None:
            before = np.empty((n, features.shape[1]), kind)
        self._features = before.astype(kind, copy=False)
        self._features[first : first + len(features)] = features

    def add_held_out(self, logits: object) -> None:
        """Add the logits of the next held-out samples, shape (m, k)."""
        logits = _matrix("held_out_logits", logits, self._k)
        if self._held_out is None:
            allowed = "left out: the tracker was made without held_out_labels"
            raise errors.invalid("held_out_logits", arrays.shape_of(logits), allowed)
        labels = self._next("held_out_logits", logits, self._held_out, self._num_held_out)
        self._num_held_out += len(logits)
        self._num_bad += int((~_usable_rows(logits)).sum())
        if not self._num_bad:
            _sum_up(self._held_sums, self._held_losses, logits, labels)

    def _next(self, field: str, logits: np.ndarray, labels: np.ndarray, first: int) -> np.ndarray:
        if first + len(logits) > len(labels):
            allowed = f"{len(labels)} rows in all, one a label"
            raise errors.invalid(field, f"{first + len(logits)} rows", allowed)
        return labels[first : first + len(logits)]

    def observed(self, probe: Probe, layer: Layer) -> dict[str, np.ndarray | float]:
        """The variables of the step by name."""
        if self._num_added < len(self._labels):
            allowed = f"{len(self._labels)} rows in all, one a label"
            raise errors.invalid("logits", f"{self._num_added} rows", allowed)
        found = observing.spectrum(self._sums, probe) | self._losses.observed(probe, layer.weights)
        if self._held_out is not None:
            if self._num_held_out < len(self._held_out):
                allowed = f"{len(self._held_out)} rows, one a label"
                raise errors.invalid("held_out_logits", f"{self._num_held_out} rows", allowed)
            counts = np.bincount(self._held_out, minlength=self._k)
            found |= observing.held_out(self._held_sums, self._held_losses, counts)
        found |= self._of_layer(probe, layer)
        if self._num_bad:
            found |= {
                name: np.full_like(value, np.nan, dtype=float) for name, value in found.items()
            }
        if layer.are_given:
            found["weight"] = layer.weights
        return found | {"not_finite": np.array(self._num_bad)}

    def _of_layer(self, probe: Probe, layer: Layer) -> dict[str, np.ndarray | float]:
        """The variables of those of features, classifier and gradient that were given."""
        features, classifier, gradient = self._features, layer.classifier, layer.gradient
        found: dict[str, np.ndarray | float] = {}
        if (
            features is not None
            and classifier is not None
            and features.shape[1] != classifier.shape[1]
        ):
            allowed = f"{features.shape[1]} columns, as many as features has"
            raise errors.invalid("classifier", arrays.shape_of(classifier), allowed)
        if features is not None or classifier is not None:
            if self._num_bad and features is not None:
                features = np.zeros_like(features)
            predictions = np.concatenate(self._predictions)
            found |= of_features.observe(features, classifier, self._labels, predictions, probe)
        if gradient is not None:
            squares = (gradient**2).sum(axis=1)
            total = squares.sum()
            found["classifier_gradient_share"] = squares / (total if total > 0 else np.nan)
        return found


def _sum_up(
    sums: SampleSums, losses: observing.CrossEntropy, logits: np.ndarray, labels: np.ndarray
) -> None:
    """Add samples to both sums, in blocks. Each block is converted to float64 once, and only one is in memory at a time."""
    rows = max(BLOCK // (logits.shape[1] * ROWS), 1) * ROWS
    for first in range(0, len(labels), rows):
        block = np.ascontiguousarray(logits[first : first + rows], dtype=np.float64)
        sums.add(block, labels[first : first + rows])
        losses.add(block, labels[first : first + rows])


def _matrix(name: str, value: object, size: int | None = None, rows: bool = False) -> np.ndarray:
    """An array of real numbers with two axes, one of them of a given size: columns, or rows."""
    axis = (
        "(samples, features)"
        if size is None
        else f"({size}, features)"
        if rows
        else f"(samples, {size})"
    )
    allowed = f"real numbers of shape {axis}, with no axis empty"
    array = arrays.as_numpy(name, value, allowed)
    fits = array.ndim == 2 and array.size > 0 and array.dtype.kind in "fiu"
    if not fits or (size is not None and array.shape[0 if rows else 1] != size):
        raise errors.invalid(name, arrays.shape_of(array), allowed)
    return array


def _usable_rows(values: np.ndarray) -> np.ndarray:
    if observing.is_usable(values):
        return np.ones(len(values), bool)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(values) <= observing.LARGEST_LOGIT).all(axis=1))
