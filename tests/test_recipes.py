"""The recipes of the documentation are better than plain ERM at what they are for, over ten seeds."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssm.practice.data import datasets
from ssm.practice.network.estimator import ReweightedClassifier

EXAMPLE = Path(__file__).parents[1] / "examples" / "classifier_recipes.py"
SEEDS = 10
TESTED = 0.3  # share of the samples


def recipes():
    """As they stand in the example that their page shows."""
    text, names = EXAMPLE.read_text(), {}
    exec(text[: text.index("digits = ")], names)
    return names["recipes"]


def balanced_accuracy(pipeline, X, y):
    return metrics.balanced_accuracy_score(y, pipeline.predict(X))


def balanced_log_loss(pipeline, X, y):
    """Where classes are equally frequent; less is better."""
    weights = 1 / np.bincount(y)[y]
    return -metrics.log_loss(y, pipeline.predict_proba(X), sample_weight=weights)


PURPOSES = {
    "every class counts alike": balanced_accuracy,
    "probabilities where classes are equally frequent": balanced_log_loss,
    "margins": balanced_accuracy,
    "margins, weights, stopped early": balanced_accuracy,
}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ssm.practice.alarms.TrainingWarning")
def test_every_recipe_beats_plain_erm_at_what_it_is_for():
    """By the 95 % interval of the paired difference over ten seeds, each with a subsample, a split and
    a network of its own, corrected for training parts that overlap (Nadeau and Bengio 2003)."""
    named = recipes()
    assert list(named) == ["plain ERM", *PURPOSES]
    assert named["plain ERM"] == {}
    digits = datasets.load("digits")
    gains = {name: [] for name in PURPOSES}
    for seed in range(SEEDS):
        data = datasets.imbalanced(digits, 10.0, seed)
        X, X_test, y, y_test = train_test_split(
            data.features, data.labels, test_size=TESTED, stratify=data.labels, random_state=seed
        )
        fitted = {
            name: make_pipeline(
                StandardScaler(), ReweightedClassifier(**parameters, random_state=seed)
            ).fit(X, y)
            for name, parameters in named.items()
        }
        for name, score in PURPOSES.items():
            gain = score(fitted[name], X_test, y_test) - score(fitted["plain ERM"], X_test, y_test)
            gains[name].append(gain)
    for name, values in gains.items():
        error = np.sqrt((1 / SEEDS + TESTED / (1 - TESTED)) * np.var(values, ddof=1))
        low = np.mean(values) - stats.t.isf(0.025, SEEDS - 1) * error
        assert low > 0, (name, np.round(values, 3))
