"""Per-class accuracy against scikit-learn's recall."""

from typing import Any

import numpy as np
from sklearn.metrics import recall_score

from ssm import metrics
from ssm.problem import membership


def test_class_accuracy_is_recall(rng):
    labels = rng.permutation(np.repeat(np.arange(4), (9, 5, 2, 1)))
    logits = rng.normal(size=(3, 4, 17))
    found = metrics.class_accuracy(logits, labels, membership(labels, 4))
    apart: Any = None  # classes apart, which scikit-learn's types do not name
    expected = [recall_score(labels, now.argmax(0), average=apart) for now in logits]
    np.testing.assert_allclose(found, expected)


def test_group_mean():
    values = np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 0.2]])
    groups = np.array(["majority", "majority", "minority"])
    np.testing.assert_allclose(metrics.group_mean(values, groups, "majority"), [0.75, 1.0])
    np.testing.assert_allclose(metrics.group_mean(values, groups, "minority"), [0.0, 0.2])
    assert np.isnan(metrics.group_mean(values, groups, "other")).all()
