"""Made-up samples as a strategy of a study: what they are, and that nothing but a fit ever sees one."""

import sys
from types import ModuleType

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import ssm
from ssm.practice.data import datasets
from ssm.practice.options import StudyOptions
from ssm.practice.study import cells, fits, models, plans, strategies, studies, synthesis
from ssm.practice.study.rules import Currency

NAMES, FEATURES = ("a", "b", "c"), tuple("wxyz")


def made(seed=0, counts=(60, 25, 15), shift=1.5):
    """Overlapping classes of 4 features."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = rng.standard_normal((len(labels), 4)) + shift * np.eye(len(counts), 4)[labels]
    return datasets.Data("made", features, labels, NAMES[: len(counts)], FEATURES, None)


class Sampler:
    """SMOTE as its paper has it, in the place of imbalanced-learn's, which need not be installed."""

    def __init__(self, random_state, k_neighbors=0):
        self.rng, self.k = np.random.default_rng(random_state), k_neighbors

    def fit_resample(self, X, y):
        counts, rows, labels = np.bincount(y), [X], [y]
        for c in np.flatnonzero(counts < counts.max()):
            of_class = X[y == c]
            near = of_class
            if self.k:
                near = NearestNeighbors(n_neighbors=self.k).fit(of_class).kneighbors()[1]
            count = counts.max() - len(of_class)
            first = self.rng.integers(len(of_class), size=count)
            other = near[first, self.rng.integers(max(self.k, 1), size=count)] if self.k else first
            between = self.rng.random((count, 1)) * (of_class[other] - of_class[first])
            rows.append(of_class[first] + between)
            labels.append(np.full(count, c))
        return np.concatenate(rows), np.concatenate(labels)


@pytest.fixture(params=["stand-in", "imbalanced-learn"])
def library(request, monkeypatch):
    if request.param == "imbalanced-learn":
        pytest.importorskip(
            "imblearn", reason="imbalanced-learn is not among the project's own tools"
        )
        return
    module = ModuleType("imblearn.over_sampling")
    module.SMOTE, module.RandomOverSampler = Sampler, Sampler  # type: ignore[attr-defined] # made here
    monkeypatch.setitem(sys.modules, "imblearn", ModuleType("imblearn"))
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", module)


@pytest.fixture
def studied(monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_, **__: made())


@pytest.mark.usefixtures("library")
def test_classes_are_filled_up_between_their_own_samples():
    data = made(counts=(40, 12, 3))
    X, labels = synthesis.filled_up(data.features, data.labels, 0)
    assert np.bincount(labels).tolist() == [40, 40, 40]
    np.testing.assert_array_equal(X[:55], data.features)
    # Of three samples every made-up one lies on a side of their triangle.
    corners, found = data.features[data.labels == 2], X[55:][labels[55:] == 2]
    for row in found:
        gaps = []
        for i, j in ((0, 1), (0, 2), (1, 2)):
            side = corners[j] - corners[i]
            at = np.clip((row - corners[i]) @ side / (side @ side), 0, 1)
            gaps.append(np.abs(corners[i] + at * side - row).max())
        assert min(gaps) < 1e-12
    again, _ = synthesis.filled_up(data.features, data.labels, 0)
    np.testing.assert_array_equal(X, again)
    assert not np.array_equal(synthesis.filled_up(data.features, data.labels, 1)[0], X)


@pytest.mark.usefixtures("library")
def test_a_class_of_one_sample_is_repeated():
    data = made(counts=(10, 4, 1))
    X, labels = synthesis.filled_up(data.features, data.labels, 0)
    assert np.bincount(labels).tolist() == [10, 10, 10]
    assert (X[labels == 2] == data.features[data.labels == 2]).all()


@pytest.mark.usefixtures("library")
def test_nothing_but_a_fit_sees_a_made_up_sample(monkeypatch):
    """Samples are made of those of each fit alone: neither of a test sample nor of one by which thresholds and temperatures
    are chosen. Where a feature is a copy of the label in the test part, and noise elsewhere, decisions are no better
    than chance, and other labels of the test part change nothing but scores."""
    given, filled_up = [], synthesis.filled_up

    def kept(X, labels, seed):
        given.append(X)
        return filled_up(X, labels, seed)

    monkeypatch.setattr(synthesis, "filled_up", kept)
    monkeypatch.setattr(models, "TREES", 20)
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([0, 1], [80, 40]))
    features = rng.standard_normal((120, 4))
    data = datasets.Data("made", features, labels, NAMES[:2], FEATURES, None)
    train, test = np.arange(80), np.arange(80, 120)
    features[test, 0] = 6.0 * labels[test] - 3
    for c in (0, 1):
        members = train[labels[train] == c]
        features[members, 0] = np.resize([-3.0, 3.0], len(members))
    (variant,) = [
        each for each in strategies.on_model("forest", ["erm", "smote"]) if "smote" in each.name
    ]
    cell = cells.Cell(variant, 0, 0, train, test)
    found = cells.compute(cell, data, {}, Currency(None, 0.2, 1))
    early, whole = given
    scaler = StandardScaler().fit(features[train])
    X, X_test = (np.asarray(scaler.transform(features[part])) for part in (train, test))
    rows = [{row.tobytes() for row in part} for part in (X, X_test)]
    assert {row.tobytes() for row in whole} == rows[0] and not rows[0] & rows[1]
    assert {row.tobytes() for row in early} < rows[0] and len(early) == len(
        train
    ) - 16  # a fifth is held out
    assert found["scores.balanced_accuracy"].max() < 0.75  # a copy of the label would make it 1
    changed = data._replace(labels=np.concatenate([labels[train], 1 - labels[test]]))
    again = cells.compute(cell, changed, {}, Currency(None, 0.2, 1))
    unjudged = {"decided.threshold", "decided.alarm_share"}
    for name in found:
        if name in unjudged or not name.startswith(("scores.", "decided.")):
            assert found[name].tobytes() == again[name].tobytes(), name
    samples = fits.Samples(X, labels[train], X_test, NAMES[:2])
    held = fits.fit(variant, samples, {}, 0).held_out
    # real ones: a fifth of each class
    assert np.abs(np.bincount(held.labels) - np.bincount(labels[train]) / 5).max() < 1


@pytest.mark.usefixtures("library")
def test_probabilities_are_for_the_shares_of_training():
    """After a fit on as many samples of each class Bayes' rule puts those of training back: on average over fresh samples
    of a population they are its shares, within sampling error and what 400 samples leave open of them."""
    counts = np.array([400, 40])
    data, fresh = made(1, tuple(counts), 1.0), made(2, (20000, 2000), 1.0)
    variant = strategies.on_model("logistic", ["smote"])[0]
    samples = fits.Samples(data.features, data.labels, fresh.features, NAMES[:2])
    found = fits.fit(variant, samples, {}, 0).probabilities
    # 40 samples give a class's share of the odds with a relative error of 40^-1/2; what is reported itself says 0.3 and more.
    share = counts[1] / counts.sum()
    assert abs(found["training"][:, 1].mean() - share) < 2 * share * 40**-0.5
    assert found["none"][:, 1].mean() > 3 * share


@pytest.mark.usefixtures("library", "studied")
def test_a_study_tries_it_on_every_model_but_the_network(tmp_path):
    study = StudyOptions(
        "made",
        "erm,inverse,smote",
        2,
        1,
        models="logistic,network",
        ablations=False,
        sensitivity=False,
    )
    planned = plans.plan(study)
    logistic = [f"logistic: {name}" for name in ("erm", "inverse", "smote")]
    assert planned.compared == (*logistic, "erm", "inverse")
    study = StudyOptions("made", "erm,smote", 2, 1, models="logistic", num_steps=5)
    record = studies.run_study(study, tmp_path / "study")
    assert record["strategy"].values.tolist() == ["erm", "smote"]
    assert np.isfinite(record["expected_cost"].sel(rule=["argmax", "bayes"])).all()


@pytest.mark.usefixtures("library", "studied")
@pytest.mark.parametrize(
    ("names", "tried", "message"),
    [
        ("erm,smote", "network", "strategies='smote': must be tried on another model than network"),
        ("erm,smote", "balanced_forest,network", "strategies='smote': must be tried on another"),
        ("erm,smote", "logistic,network", "strategies='erm,smote': must be with a strategy of net"),
    ],
)
def test_where_it_says_nothing_it_is_refused(names, tried, message, monkeypatch):
    monkeypatch.setattr(models, "check", lambda names: None)
    with pytest.raises(ssm.InputError) as refused:
        plans.plan(StudyOptions("made", names, models=tried))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_a_library_that_is_not_installed_is_named(studied, monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(ssm.InputError, match=r"^strategies='smote'.*imbalanced-learn$"):
        plans.plan(StudyOptions("made", "erm,smote", models="logistic"))
