"""Networks of `ssm.practice` at chosen steps of their training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ssm import ReweightedClassifier
from ssm.practice.network import parameters, tasks, training
from ssm.practice.network.networks import Params


def prepared(
    classifier: ReweightedClassifier, X: np.ndarray, labels: np.ndarray, seed: int
) -> parameters.Prepared:
    """What a fit of the classifier would begin with, for features (n, p) and labels (n,)."""
    classifier.classes_ = np.unique(labels)  # as a fit begins, since weights may be by label
    samples = tasks.Samples(X, labels, np.ones(len(labels)))
    return parameters.prepared(classifier, samples, None, seed)


def networks_at(start: parameters.Prepared, steps: Iterable[int]) -> Iterator[Params]:
    """The network after each of the ascending `steps`, the first of which may be 0, without any
    of the evaluations of a fit."""
    task, options, params = start
    state, done = training.untrained(task, options, params), 0
    for step in steps:
        if step > done:
            class_weights = np.tile(task.class_weights, (step - done, 1))
            state, done = training.advance(task, options, state, done, class_weights), step
        yield state.params
