"""Cards of models: what they derive from counts, limits that alarm as rarely as they say, and files that cannot be mistaken."""

import dataclasses
import itertools
import json
import math
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn.naive_bayes import GaussianNB

import ssm
from ssm.practice import cards, load_model, save_model
from ssm.practice.statistics.estimates import Estimate

CONFUSION = ((40, 10), (5, 145))


def card(**changes):
    fields = {
        "model": "Reweighted(estimator=LogisticRegression())",
        "classes": ("ill", "well"),
        "data": cards.Data("ward 3", 400, (100, 300), 2, ("age", "dose"), "0" * 64),
        "training": cards.Training((0.25, 0.75), (3.0, 1.0)),
        "rule": cards.Rule("costs", costs=((0, 50), (1, 0))),
        "probabilities_for": (0.25, 0.75),
        "calibration": "temperature 1.2",
        "costs": ((0, 50), (1, 0)),
        "performance": cards.Performance(
            CONFUSION, Estimate(0.02, 0.0, 0.05), Estimate(2525, 1500, 3700)
        ),
        "alarms": cards.alarm_limits(cards.Performance(CONFUSION)),
        "versions": {"numpy": "2.0.0"},
        "created": "2026-01-02T03:04:05+00:00",
        "files": {"model.skops": "a" * 64},
    }
    return cards.Card(**(fields | changes))


def test_what_follows_from_counts():
    """By hand: 40 of 50 ill ones are found, 40 of 45 alarms are right; pi w = (0.75, 0.75); Wilson's interval as its roots."""
    found = card()
    assert found.performance is not None
    recall, precision = found.performance.recall, found.performance.precision
    assert [(x.count, x.of) for x in recall] == [(40, 50), (145, 150)]
    assert [(x.count, x.of) for x in precision] == [(40, 45), (145, 155)]
    assert found.performance.num_cases == 200
    assert found.training.effective_shares == (0.5, 0.5)
    z = stats.norm.ppf(0.975)
    for end in (recall[0].low, recall[0].high):
        assert abs(0.8 - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 50), rel=1e-9)
    none = cards.Performance(((0, 0), (1, 3))).recall[0]
    assert none.of == 0 and all(math.isnan(x) for x in (none.share, none.low, none.high))


@pytest.mark.parametrize(
    ("num_held_out", "num_new", "level"), [(30, 20, 0.05), (8, 40, 0.1), (60, 15, 0.01)]
)
def test_an_unchanged_recall_alarms_no_more_often_than_the_level(num_held_out, num_new, level):
    """Summed over all that held-out and new cases may come to, at any recall."""
    s = np.arange(num_new + 1)
    rates, limits = np.linspace(0.05, 0.99, 20), []
    for x in range(num_held_out + 1):
        limit = cards.most_right(cards.Proportion(x, num_held_out), num_new, level)
        limits.append(-1 if limit is None else limit)
    false = np.zeros(len(rates))
    for x, limit in enumerate(limits):
        alarm = stats.binom.pmf(s[:, None], num_new, rates)[: limit + 1].sum(0)
        false += stats.binom.pmf(x, num_held_out, rates) * alarm
    assert float(false.max()) <= level * (1 + 1e-9)
    assert float(false.max()) > level / 5  # nor does the test hardly ever alarm
    assert limits == sorted(limits)


def test_limits_are_those_of_the_exact_test_of_fisher():
    for (x, n), w, level in itertools.product([(90, 100), (3, 7), (0, 5)], [4, 30], [0.05, 0.2]):
        p = [
            stats.fisher_exact([[s, w - s], [x, n - x]], alternative="less")[1]
            for s in range(w + 1)
        ]
        alarms = np.flatnonzero(np.array(p) <= level).tolist()
        assert cards.most_right(cards.Proportion(x, n), w, level) == max(alarms, default=None)
    assert cards.most_right(cards.Proportion(0, 0), 50) is None
    assert cards.most_right(cards.Proportion(9, 10), 0) is None


def test_limits_share_the_level_among_the_classes():
    performance = cards.Performance(CONFUSION)
    limits = cards.alarm_limits(performance, 0.04, [10, 100])
    assert limits.windows == (10, 100) and limits.level == 0.04
    for c, recall in enumerate(performance.recall):
        own = [cards.most_right(recall, w, 0.02) for w in (10, 100)]
        assert limits.most_right[c] == tuple(own)
        assert limits.recall(c) == tuple(
            None if s is None else s / w for s, w in zip(own, (10, 100), strict=True)
        )


def test_a_card_is_the_same_after_a_file(tmp_path):
    path = tmp_path / "card.json"
    whole, least = (
        card(),
        cards.Card("x", (0, 1), cards.Data("x", 5, (2, 3)), cards.Training((0.4, 0.6))),
    )
    for each in (whole, least, dataclasses.replace(whole, classes=(True, 2.5), rule=cards.Rule())):
        cards.write_card(each, path, overwrite=True)
        assert cards.read_card(path) == each
        assert list(tmp_path.iterdir()) == [path]
    cards.write_card(whole, path, overwrite=True)
    document = json.loads(path.read_text())
    assert document["format"] == cards.FORMAT and document["training"]["effective_shares"] == [
        0.5,
        0.5,
    ]
    assert document["performance"]["recall"][0]["of"] == 50
    assert document["alarms"]["recall"][0][2] == document["alarms"]["most_right"][0][2] / 100
    path.write_text(json.dumps(document))  # blanks do not matter
    assert cards.read_card(path) == whole
    with pytest.raises(ssm.InputError, match="does not exist yet"):
        cards.write_card(whole, path)


def sealed(document):
    """A document as a writer makes it who knows the digest."""
    from ssm.practice.deployment.cards import _digest

    content = {k: x for k, x in document.items() if k not in ("digest", "format")}
    return json.dumps(document | {"digest": _digest(content)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d | {"model": "another"}, "its contents have changed"),
        (lambda d: d | {"digest": None}, "its contents have changed"),
        (lambda d: d | {"format": "ssm-card/2"}, "reads no other"),
        (lambda d: d | {"format": "else"}, "a card, whose format is"),
        (lambda d: [d], "a card, whose format is"),
    ],
)
def test_a_file_that_is_no_card_is_refused_in_one_line(tmp_path, change, said):
    path = tmp_path / "card.json"
    cards.write_card(card(), path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ssm.InputError, match=said) as caught:
        cards.read_card(path)
    assert "\n" not in str(caught.value) and "card.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\x00\xff", "[" * 100_000, "null"])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "card.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ssm.InputError, match=r"card=.*card.json"):
        cards.read_card(path)
    with pytest.raises(ssm.InputError, match="FileNotFoundError"):
        cards.read_card(tmp_path / "other.json")


def test_a_sealed_file_is_checked_as_well(tmp_path):
    path = tmp_path / "card.json"
    cards.write_card(card(), path)
    document = json.loads(path.read_text())
    changes = {
        "field='colour'": {"colour": "red"},
        "field='data.colour'": {"data": document["data"] | {"colour": "red"}},
        "classes": {"classes": ["ill"]},
        "derived numbers": {"training": document["training"] | {"effective_shares": [0.4, 0.6]}},
        "performance.calibration_error": {
            "performance": document["performance"] | {"calibration_error": {"value": 1}}
        },
        "rule.costs": {"rule": document["rule"] | {"costs": [[0, 1]]}},
        "performance": {"performance": [1]},
        "data": {"data": None},
    }
    for said, change in changes.items():
        path.write_text(sealed(document | change))
        with pytest.raises(ssm.InputError, match=said):
            cards.read_card(path)
    path.write_text(sealed({k: x for k, x in document.items() if k != "costs"}))
    with pytest.raises(ssm.InputError, match="costs=None: must be given"):
        cards.read_card(path)


DATA, TRAINING = cards.Data("x", 400, (100, 300)), cards.Training((0.25, 0.75))


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("model=", lambda: card(model=" ")),
        ("model=", lambda: card(model="two\nlines")),
        ("classes=", lambda: card(classes=("ill",))),
        ("classes=", lambda: card(classes=("ill", "ill"))),
        ("classes=", lambda: card(classes=("ill", math.nan))),
        ("classes=", lambda: card(classes=("ill", ("a", "b")))),
        ("data.class_counts=", lambda: card(classes=("ill", "well", "dead"))),
        ("data=", lambda: card(data=None)),
        ("data.num_rows=", lambda: cards.Data("x", 2.5, (1, 1))),  # pyright: ignore[reportArgumentType] # on purpose
        ("data.class_counts=", lambda: cards.Data("x", 10, (5, 6))),
        ("data.feature_names=", lambda: cards.Data("x", 10, (5, 5), 2, ("age",))),
        ("data.digest=", lambda: cards.Data("x", 10, (5, 5), digest="abc")),
        ("training.class_shares=", lambda: cards.Training((0.5, 0.6))),
        ("training.class_shares=", lambda: cards.Training((1.0, 0.0))),
        ("training.class_weights=", lambda: cards.Training((0.5, 0.5), (1, 2, 3))),
        ("training.class_shares=", lambda: card(training=cards.Training((0.2, 0.3, 0.5)))),
        ("rule.kind=", lambda: cards.Rule("cheapest")),
        ("rule.costs=", lambda: cards.Rule("costs")),
        ("rule.costs=", lambda: cards.Rule("costs", costs=((0, -1), (1, 0)))),
        ("rule.shares=", lambda: cards.Rule("trained", shares=(0.5, 0.5))),
        ("rule.threshold=", lambda: cards.Rule("threshold", label="ill", threshold=1.5)),
        ("rule.label=", lambda: card(rule=cards.Rule("threshold", label="dead", threshold=0.5))),
        ("costs=", lambda: card(costs=None)),
        ("count=", lambda: cards.Proportion(5, 4)),
        ("performance.confusion=", lambda: cards.Performance(((1, 2), (3,)))),  # pyright: ignore[reportArgumentType] # on purpose
        ("performance.confusion=", lambda: cards.Performance(((0, 0), (0, 0)))),
        (
            "performance.expected_cost=",
            lambda: cards.Performance(CONFUSION, None, Estimate(1, 2, 3)),
        ),  # pyright: ignore[reportArgumentType] # on purpose
        ("alarms.level=", lambda: cards.AlarmLimits(1.0, (20,), ((3,), (4,)))),
        ("alarms.most_right=", lambda: cards.AlarmLimits(0.05, (20,), ((3, 4), (4,)))),
        ("alarms.most_right=", lambda: cards.AlarmLimits(0.05, (20,), ((20,), (4,)))),
        ("alarms.windows=", lambda: cards.AlarmLimits(0.05, (), ((), ()))),
        ("created=", lambda: card(created="yesterday")),
        ("created=", lambda: card(created="2026-01-02T03:04:05")),
        ("versions=", lambda: card(versions=["numpy"])),
        ("files", lambda: card(files={"model.skops": "abc"})),
    ],
)
def test_a_bad_field_is_named_in_one_line(said, made):
    with pytest.raises(ssm.InputError) as caught:
        made()
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_models_say_in_one_line_that_skops_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    X, y = [[0.0], [1.0]], [0, 1]
    model = GaussianNB().fit(X, y)
    for call in (
        lambda: save_model(model, tmp_path / "model", X, y),
        lambda: load_model(tmp_path / "model"),
    ):
        with pytest.raises(ssm.InputError, match="skops: must be installed: pip install") as caught:
            call()
        assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())


def test_a_card_cannot_be_changed():
    found = card()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.model = "another"  # pyright: ignore[reportAttributeAccessIssue] # on purpose
    with pytest.raises(TypeError):
        found.versions["numpy"] = "1"  # pyright: ignore[reportIndexIssue] # on purpose
