"""Models in folders: they predict afterwards as before, say of themselves what is so, and run nobody's code."""

import inspect
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators

import ssm
from ssm.practice import cards, costs, factors, load_model, model_files, save_model
from ssm.practice.deployment import card_pages, probes

pytest.importorskip("skops.io", reason="skops is not installed: pip install skops")
PRICES = costs.of_prices({"ill": 50, "well": 1})


def samples(n=120, seed=0):
    """Two Gaussian classes at 3:1, with text for labels."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) % 4 == 0, "ill", "well")
    return rng.normal(size=(n, 2)) + (y == "ill")[:, None], y


class OnlyHere(ClassifierMixin, BaseEstimator):
    """A classifier of a type that nobody else knows."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def with_threshold(estimator: Any, threshold: Any, pos_label: str) -> Any:
    return FixedThresholdClassifier(estimator, threshold=threshold, pos_label=pos_label)


def trees() -> Any:
    return HistGradientBoostingClassifier(max_iter=3, random_state=0)


MODELS = {
    "weights, costs, temperature": lambda: ssm.Reweighted(
        make_pipeline(StandardScaler(), LogisticRegression()),
        class_weight="balanced",
        shares="training",
        decision=PRICES,
        calibration="temperature",
        cv=3,
        random_state=0,
    ),
    "isotonic, splitter": lambda: ssm.Reweighted(
        trees(), decision=np.array([[0, 9], [1, 0]]), calibration="isotonic", cv=StratifiedKFold(3)
    ),
    "factors": lambda: ssm.Reweighted(GaussianNB(), decision=factors.Tuned(), cv=3, random_state=0),
    "factors, costs": lambda: ssm.Reweighted(
        GaussianNB(), decision=factors.Tuned(PRICES), cv=3, random_state=0
    ),
    "schedule": lambda: ssm.Reweighted(
        LogisticRegression(), class_weight="balanced", schedule=ssm.schedules.Clip(0.5, 2.0)
    ),
    "pipeline": lambda: make_pipeline(StandardScaler(), ssm.Reweighted(GaussianNB())),
    "forest": lambda: RandomForestClassifier(3, random_state=0),
    "no probabilities": SVC,
    "neighbours": KNeighborsClassifier,
    "calibrated": lambda: CalibratedClassifierCV(GaussianNB(), cv=2),
    "search": lambda: GridSearchCV(
        KNeighborsClassifier(), {"n_neighbors": [1, 3]}, scoring="balanced_accuracy", cv=2
    ),
    "threshold": lambda: with_threshold(GaussianNB(), threshold=0.2, pos_label="ill"),
    "tuned": lambda: TunedThresholdClassifierCV(GaussianNB(), cv=2),
    "votes": lambda: VotingClassifier([("a", GaussianNB()), ("b", KNeighborsClassifier())]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_predicts_afterwards_as_before(tmp_path, name):
    X, y = samples()
    model = MODELS[name]().fit(X, y)
    card = save_model(model, tmp_path / "model", X, y)
    loaded = load_model(tmp_path / "model")
    new = samples(50, seed=1)[0]
    np.testing.assert_array_equal(loaded.predict(new), model.predict(new))
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(loaded.predict_proba(new), model.predict_proba(new))
    assert type(loaded) is type(model) and card == cards.read_card(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of classifiers that have not converged, or will change
def test_every_classifier_of_scikit_learn_can_be_saved(tmp_path):
    X, y = samples(80)
    X = np.abs(X)
    num_saved = 0
    for name, kind in all_estimators("classifier"):
        parameters = inspect.signature(kind).parameters
        given: dict[str, Any] = (
            {"estimator": LogisticRegression()} if "estimator" in parameters else {}
        )
        if "estimators" in parameters:
            given["estimators"] = [("a", LogisticRegression()), ("b", GaussianNB())]
        try:
            model = kind(**given).fit(X, y)
        except (ValueError, IndexError):  # for other data than these
            continue
        save_model(model, tmp_path / name, X, y)
        loaded = load_model(tmp_path / name)
        assert loaded.predict(X).tolist() == np.asarray(model.predict(X)).tolist(), name
        num_saved += 1
    assert num_saved > 35


def test_a_network_predicts_afterwards_as_before(tmp_path):
    """By itself, in a pipeline and in `Reweighted`; the record of its training stays behind, and with the user."""
    X, y = samples(40)
    net = ssm.ReweightedClassifier(hidden_layer_sizes=(4,), num_steps=3, random_state=0)
    plain = net.fit(X, y)
    for model in (
        plain,
        make_pipeline(StandardScaler(), net).fit(X, y),
        ssm.Reweighted(net).fit(X, y),
    ):
        save_model(model, tmp_path / "model", X, y, overwrite=True)
        loaded = load_model(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert plain.history_.sizes


def table(n=60):
    X, y = samples(n)
    frame = pd.DataFrame(X, columns=["age", "dose"])
    frame["ward"] = pd.Categorical(
        np.where(np.arange(n) % 3 == 0, "east", "west"), ["west", "east"]
    )
    frame["town"] = np.where(np.arange(n) % 5 == 0, "Ulm", "Bonn").astype(object)
    frame["seen"] = pd.array([None if i % 7 == 1 else i for i in range(n)], dtype="Int64")
    frame["ok"] = np.arange(n) % 2 == 0
    frame.loc[3, "age"] = np.nan
    frame.loc[4, "town"] = np.nan
    return frame, y


def test_tables_keep_the_types_of_their_columns(tmp_path):
    X, y = table()
    stored = json.loads(json.dumps(probes._to_json(X.head(10))))
    pd.testing.assert_frame_equal(probes._of_json(stored), X.head(10))
    X = X.drop(columns="seen")  # scikit-learn takes no missing integers
    imputer: Any = SimpleImputer()
    encoder = make_column_transformer(
        (OneHotEncoder(), ["ward", "town"]), remainder=imputer, sparse_threshold=0
    )
    model = make_pipeline(encoder, trees()).fit(X, y)
    card = save_model(model, tmp_path / "model", X, y)
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(X), model.predict(X))
    assert card.data.feature_names == ("age", "dose", "ward", "town", "ok")


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array, list])
def test_other_kinds_of_samples(tmp_path, kind):
    words, y = ["red hen", "old red fox", "hen", "fox"] * 5, np.array([1, 0, 1, 0] * 5)
    if kind is list:
        X, model = words, make_pipeline(TfidfVectorizer(), LogisticRegression())
    else:
        X, model = kind(TfidfVectorizer().fit_transform(words)), LogisticRegression()
    card = save_model(model.fit(X, y), tmp_path / "model", X, y)
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(X), model.predict(X))
    assert card.classes == (0, 1) and card.data.num_features == (None if kind is list else 4)


def test_the_card_says_what_the_model_does(tmp_path):
    """Weights of 30 and 90 samples are 2 and 2/3, which make equal shares of them."""
    X, y = samples()
    model = MODELS["weights, costs, temperature"]().fit(X, y)
    X_new, y_new = samples(80, seed=1)
    decided, p = model.predict(X_new), model.predict_proba(X_new)
    card = save_model(
        model,
        tmp_path / "model",
        X,
        y,
        data="ward 3",
        held_out=(y_new, decided, p),
        windows=[20, 99],
    )
    assert card.classes == ("ill", "well") and card.data.class_counts == (30, 90)
    assert (card.data.name, card.data.num_rows, card.data.num_features) == ("ward 3", 120, 2)
    assert card.training.class_shares == (0.25, 0.75) == card.probabilities_for
    assert card.training.class_weights == pytest.approx((2, 2 / 3))
    assert card.training.effective_shares == pytest.approx((0.5, 0.5))
    assert (
        card.rule == cards.Rule("costs", costs=((0, 50), (1, 0))) and card.costs == card.rule.costs
    )
    assert card.calibration is not None and card.calibration.startswith("temperature ")
    found = card.performance
    assert found is not None and card.alarms is not None and found.expected_cost is not None
    for c, label in enumerate(card.classes):
        right = int(((y_new == label) & (decided == label)).sum())
        assert (found.recall[c].count, found.recall[c].of) == (right, int((y_new == label).sum()))
        assert found.precision[c].of == int((decided == label).sum())
    each = np.where(y_new == decided, 0, np.where(y_new == "ill", 50, 1))
    assert found.expected_cost.mean == pytest.approx(1000 * each.mean())
    assert found.calibration_error is not None and card.alarms.windows == (20, 99)
    page = (tmp_path / "model" / "card.md").read_text()
    assert page == card_pages.as_markdown(card)
    for part in (
        "ward 3: 120 rows of 2 features",
        f"{found.recall[0].count} of 20",
        "| ill | 0 | 50 |",
    ):
        assert part in page


def test_what_is_not_known_is_not_said(tmp_path):
    X, y = samples()

    def card_of(model):
        return save_model(model.fit(X, y), tmp_path / "model", X, y, overwrite=True)

    plain = card_of(GaussianNB())
    assert plain.training.class_weights == (1, 1) and plain.probabilities_for == (0.25, 0.75)
    assert plain.performance is None and plain.alarms is None and plain.rule == cards.Rule()
    own = card_of(make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")))
    assert own.training.class_weights == pytest.approx((2, 2 / 3))
    assert own.probabilities_for == pytest.approx((0.5, 0.5))
    drawn = card_of(RandomForestClassifier(2, class_weight="balanced_subsample", random_state=0))
    assert drawn.training.class_weights is None and drawn.probabilities_for is None
    inside = card_of(CalibratedClassifierCV(LogisticRegression(class_weight="balanced"), cv=2))
    assert inside.training.class_weights is None and inside.calibration is not None
    assert card_of(SVC()).probabilities_for is None
    ill = card_of(with_threshold(GaussianNB(), threshold=0.2, pos_label="ill"))
    assert ill.rule == cards.Rule("threshold", label="ill", threshold=0.2)
    score = card_of(with_threshold(SVC(), threshold=-1.0, pos_label="ill"))
    assert score.rule == cards.Rule()
    for decision in ("uniform", {"ill": 0.1, "well": 0.9}):
        found = card_of(ssm.Reweighted(GaussianNB(), shares="uniform", decision=decision))
        assert found.rule.shares == ((0.5, 0.5) if decision == "uniform" else (0.1, 0.9))
        assert found.probabilities_for == (0.5, 0.5)


@pytest.mark.parametrize("positive", ["ill", "well"])
def test_the_threshold_of_the_card_is_the_models(tmp_path, positive):
    X, y = samples()
    model = with_threshold(GaussianNB(), threshold=0.3, pos_label=positive).fit(X, y)
    rule = save_model(model, tmp_path / "model", X, y).rule
    at = model.predict_proba(X)[:, list(model.classes_).index(rule.label)]
    assert ((at >= rule.threshold) == (model.predict(X) == rule.label)).all()


def test_unknown_types_are_refused_with_their_names(tmp_path):
    X, y = samples()
    model, name = OnlyHere().fit(X, y), f"{__name__}.OnlyHere"
    with pytest.raises(ssm.InputError, match=f"not of {name}") as caught:
        save_model(model, tmp_path / "model", X, y)
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())
    save_model(model, tmp_path / "model", X, y, trusted=[name])
    with pytest.raises(ssm.InputError, match=f"not of {name}"):
        load_model(tmp_path / "model")
    assert load_model(tmp_path / "model", trusted=[name]).predict(X).tolist() == ["ill"] * len(X)
    bad: list[Any] = ["a.b", ["Own"], [OnlyHere]]
    for trusted in bad:
        with pytest.raises(ssm.InputError, match="trusted="):
            save_model(model, tmp_path / "other", X, y, trusted=trusted)


def test_functions_are_refused(tmp_path):
    """Those of others, of this package and of scikit-learn beside its metrics; a name that leads elsewhere, too."""
    from ssm.practice.deployment import trust

    X, y = samples()
    model = make_pipeline(FunctionTransformer(os.getenv), OnlyHere())
    with pytest.raises(ssm.InputError, match="getenv"):
        trust.as_bytes(model, [f"{__name__}.OnlyHere"])
    function = ssm.Reweighted(GaussianNB(), class_weight=lambda counts: 1 / counts).fit(X, y)
    with pytest.raises(ssm.InputError, match="model='Reweighted'"):
        save_model(function, tmp_path / "model", X, y)
    for name in (
        "ssm.practice.decisions.costs.read",
        "ssm.support.files.replacing",
        "ssm.practice.decisions.costs.Path",
        "sklearn.utils._testing.raises",
        "sklearn.datasets._openml.fetch_openml",
        "sklearn.tests.test_base.MyEstimator",
        "sklearn.nowhere.Else",
        "sklearnish.Else",
        "builtins.eval",
    ):
        assert not trust._is_known(name), name
    assert trust._is_known("sklearn.metrics._classification.balanced_accuracy_score")


def saved(tmp_path, model=None):
    X, y = samples()
    folder = tmp_path / "model"
    save_model(GaussianNB().fit(X, y) if model is None else model, folder, X, y)
    return folder


@pytest.mark.parametrize("name", ["model.skops", "probe.json", "card.json"])
@pytest.mark.parametrize("way", ["changed", "lost", "cut"])
def test_a_bad_folder_is_refused_in_one_line(tmp_path, name, way):
    path = saved(tmp_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if way == "lost":
        path.unlink()
    else:
        path.write_bytes(content if way == "changed" else content[:100])
    with pytest.raises(ssm.InputError) as caught:
        load_model(path.parent)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_what_is_no_folder_of_a_model_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none", saved(tmp_path) / "card.json"):
        with pytest.raises(ssm.InputError):
            load_model(path)


def reseal(folder, name, content):
    """Replace a file as somebody does who knows the digests."""
    import dataclasses
    import hashlib

    card = cards.read_card(folder)
    (folder / name).write_bytes(content)
    files = dict(card.files) | {name: hashlib.sha256(content).hexdigest()}
    cards.write_card(dataclasses.replace(card, files=files), folder / "card.json", overwrite=True)


def test_a_model_that_predicts_otherwise_is_refused(tmp_path):
    folder = saved(tmp_path)
    X, y = samples()
    other = save_model(GaussianNB(var_smoothing=1.0).fit(X, y), tmp_path / "other", X, y)
    assert other.classes == cards.read_card(folder).classes
    reseal(folder, "model.skops", (tmp_path / "other" / "model.skops").read_bytes())
    with pytest.raises(ssm.InputError, match="predicts the rows of its probe as it did"):
        load_model(folder)
    three = np.arange(len(X)) % 3
    save_model(GaussianNB().fit(X, three), tmp_path / "three", X, three)
    reseal(folder, "model.skops", (tmp_path / "three" / "model.skops").read_bytes())
    with pytest.raises(ssm.InputError, match="of the classes of its card"):
        load_model(folder)
    reseal(folder, "model.skops", b"no model")
    with pytest.raises(ssm.InputError, match="a readable model"):
        load_model(folder)
    for probe in (b"{}", b"[", b'{"rows": {"kind": "else"}, "classes": [], "probabilities": null}'):
        reseal(tmp_path / "other", "probe.json", probe)
        with pytest.raises(ssm.InputError, match="probe="):
            load_model(tmp_path / "other")


def test_other_versions_are_said(tmp_path):
    folder = saved(tmp_path)
    import dataclasses

    card = cards.read_card(folder)
    before = dict(card.versions) | {"numpy": "1.0.0"}
    cards.write_card(
        dataclasses.replace(card, versions=before), folder / "card.json", overwrite=True
    )
    with pytest.warns(model_files.VersionWarning, match=r"saved with numpy 1.0.0 \(now "):
        load_model(folder)


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    X, y = samples()
    model, folder = GaussianNB().fit(X, y), saved(tmp_path)
    with pytest.raises(ssm.InputError, match="does not exist yet"):
        save_model(model, folder, X, y)
    save_model(model, folder, X, y, data="again", overwrite=True)
    assert cards.read_card(folder).data.name == "again"
    (folder / "thesis.tex").write_text("years")
    with pytest.raises(ssm.InputError, match="thesis"):
        save_model(model, folder, X, y, overwrite=True)
    with pytest.raises(ssm.InputError, match="folder of a model"):
        save_model(model, tmp_path, X, y, overwrite=True)
    with pytest.raises(ssm.InputError, match="folder of a model"):
        save_model(model, folder / "thesis.tex", X, y, overwrite=True)
    assert (folder / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("model=", {"model": GaussianNB()}),
        ("model=", {"model": "model"}),
        ("model=", {"model": StandardScaler().fit(samples()[0])}),
        ("y=", {"y": samples()[1][:-1]}),
        ("y=", {"y": ["dead"] * 120}),
        ("y=", {"y": np.linspace(0, 1, 120)}),
        ("data.name=", {"data": ""}),
        ("held_out=", {"held_out": samples()[1]}),
        ("y_decided=", {"held_out": (["ill"], ["dead"])}),
        ("probabilities=", {"held_out": (["ill"], ["ill"], [[0.5, 0.6]])}),
        ("cost", {"costs": costs.of_prices({"a": 1, "b": 1})}),
        ("alarms.level=|level=", {"held_out": (["ill"], ["ill"]), "level": 2}),
        ("windows=", {"held_out": (["ill"], ["ill"]), "windows": [0]}),
        ("out=", {"folder": "/nowhere/model"}),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(tmp_path, said, arguments):
    X, y = samples()
    given = {"model": GaussianNB().fit(X, y), "folder": tmp_path / "model", "X": X, "y": y}
    with pytest.raises(ssm.InputError, match=said) as caught:
        save_model(**(given | arguments))
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from sklearn.naive_bayes import GaussianNB
from ssm.practice.deployment import model_files

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

model_files.write_card = kill  # when all other files are written
for folder in sys.argv[1:]:
    if os.fork() == 0:
        X, y = [[0.0], [1.0]], [0, 1]
        model_files.save_model(GaussianNB().fit(X, y), folder, X, y, overwrite=True)
    assert os.wait()[1] == signal.SIGKILL
"""


@pytest.mark.slow
def test_a_kill_in_between_leaves_nothing_half(tmp_path):
    """Neither of a new model nor of one that is replaced; the next model cleans up."""
    (tmp_path / "old").mkdir()
    old, new = saved(tmp_path / "old"), tmp_path / "new"
    subprocess.run([sys.executable, "-c", KILLED, str(new), str(old)], check=True)
    assert not new.exists() and load_model(old).classes_.tolist() == ["ill", "well"]
    X, y = samples()
    for folder in (old, new):
        save_model(GaussianNB().fit(X, y), folder, X, y, overwrite=True)
        assert load_model(folder).classes_.tolist() == ["ill", "well"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["model"]
