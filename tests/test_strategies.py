"""Strategies by name: what weights each gives, and that variants differ in what they are to show."""

import numpy as np
import pytest
from sklearn.base import clone

import ssm
from ssm.practice.network import training
from ssm.practice.network.estimator import ReweightedClassifier
from ssm.practice.study import strategies
from ssm.practice.study.strategies import STRATEGIES, Variant
from ssm.problem.schedules import Chain, Fixed, Statistics

STEPS = 20
COUNTS = np.array([200.0, 60.0, 20.0])
INVERSE = 280 / (3 * COUNTS)
RARE = np.array([1000.0, 500.0, 10.0])  # so rare that weights come to their bound
PARAMETERS = ReweightedClassifier().get_params()


def schedule_weights(schedule, steps, counts=COUNTS, recall=(0.5, 0.5, 0.5)):
    """Weights of some steps, recall being the same all along."""
    chain = Chain(Fixed(np.ones(3)), schedule)
    stats = Statistics(counts, np.array(recall))
    class_weights = training._weights_of_steps(chain, chain.init(counts), stats, np.arange(10))
    if max(steps) >= 10:  # the same ten at a time as elsewhere, which shares what is compiled
        later = training._weights_of_steps(chain, chain.init(counts), stats, np.arange(10, 20))
        return np.concatenate([class_weights[0], later[0]])[list(steps)]
    return np.asarray(class_weights[0])[list(steps)]


def of(name, steps=STEPS):
    return strategies.strategies(["erm", name], steps)[1].parameters


# Each by its name


def test_every_variant_is_a_classifier():
    variants = strategies.strategies(list(STRATEGIES), STEPS)
    variants += strategies.ablations(STEPS)[0] + strategies.sensitivities(STEPS)[0]
    for variant in variants:
        assert variant.parameters.keys() <= PARAMETERS.keys()
        clone(ReweightedClassifier(**variant.parameters))
        assert variant.description[0].isupper()
        assert not variant.description.endswith(".")
    assert [variant.name for variant in variants[: len(STRATEGIES)]] == list(STRATEGIES)
    assert of("cdt") == {"loss": "cdt"}
    assert variants[0] == Variant("erm", "Every sample counts alike", {})


def test_deferred_weights():
    """Ones for the first half, to the bit."""
    class_weights = schedule_weights(of("drw")["schedule"], range(20))
    assert (class_weights[:10] == 1).all()
    np.testing.assert_allclose(class_weights[10:], np.tile(INVERSE, (10, 1)), rtol=1e-14)
    assert of("ldam-drw") == of("ldam") | {"schedule": of("ldam-drw")["schedule"]}


def test_growing_weights():
    class_weights = schedule_weights(of("ramp")["schedule"], [0, 5, 10, 19])
    halfway = (1 + INVERSE) / 2
    np.testing.assert_allclose(class_weights, [np.ones(3), halfway, INVERSE, INVERSE], rtol=1e-14)


def test_clipped_weights():
    """Inverse frequency where that is within the bounds."""
    clipped = of("clipped")["schedule"]
    np.testing.assert_allclose(schedule_weights(clipped, [0]), INVERSE[None], rtol=1e-14)
    (class_weights,) = schedule_weights(clipped, [0], RARE)
    assert class_weights[2] == 5 < 1510 / 30
    assert RARE @ class_weights / 1510 == pytest.approx(1, abs=1e-14)
    assert class_weights[1] / class_weights[0] == pytest.approx(2, rel=1e-14)
    assert clipped.bounds == (0.2, 5.0)


def test_adaptive_weights():
    """Of classes at the same recall those of the square root; a class that is behind has more."""
    adaptive = of("adaptive")["schedule"]
    (even,) = schedule_weights(adaptive, [0])
    root = COUNTS**-0.5
    np.testing.assert_allclose(even, 280 * root / (COUNTS @ root), rtol=1e-13)
    (behind,) = schedule_weights(adaptive, [9], recall=(0.7, 0.7, 0.5))
    ratio = (behind[2] / behind[0]) / (even[2] / even[0])
    assert ratio == pytest.approx(np.exp(2.0 * 0.2), rel=1e-12)
    assert adaptive.needs_performance


# Lists of them


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (["erm", "magic"], "strategies='magic': must be one of erm, inverse, "),
        (["erm", "la", "la"], "strategies='erm,la,la': must be each named once"),
        (["inverse", "erm"], "strategies='inverse,erm': must be erm, the baseline, first"),
        (["erm"], "strategies='erm': must be erm, the baseline, first and another after it"),
        ([], "strategies='': must be erm, the baseline, first"),
    ],
    ids=["unknown", "twice", "baseline last", "baseline alone", "none"],
)
def test_names_that_make_no_study(names, allowed):
    with pytest.raises(ssm.InputError) as refused:
        strategies.strategies(names, STEPS)
    assert str(refused.value).startswith(allowed)
    assert "\n" not in str(refused.value)


def test_ablations_switch_each_factor():
    """Alone and out of all five; either side is trained, and only the factor differs."""
    variants, pairs = strategies.ablations(STEPS)
    parameters = {variant.name: variant.parameters for variant in variants}
    assert len(parameters) == len(variants)
    factors = ["weights", "schedule", "clip", "margin", "post-hoc"]
    for setting in ("alone", "combined"):
        assert sorted(pair.factor for pair in pairs if pair.setting == setting) == sorted(factors)
    margin = {"loss", "largest_margin", "logit_scale"}
    moved = {"weights": {"class_weight", "schedule"}, "margin": margin, "post-hoc": set()}
    for pair in pairs:
        (on, corrected), (off, plain) = pair.on, pair.off
        a, b = parameters[on], parameters[off]
        different = {name for name in a.keys() | b.keys() if repr(a.get(name)) != repr(b.get(name))}
        assert different <= moved.get(pair.factor, {"class_weight", "schedule"})
        assert bool(different) == (pair.factor != "post-hoc")
        assert (corrected != plain) == (pair.factor == "post-hoc")


def test_strategies_of_mini_batches_are_ablated_where_they_are_named():
    """Either side is trained, and only the factor differs: sampling from the same weights in the loss, mixtures from
    samples, and their labels from those by shares."""
    _, plain = strategies.ablations(STEPS)
    for names in (["sampling"], ["mixup", "remix"], ["remix"], ["sampling", "mixup", "remix"]):
        variants, pairs = strategies.ablations(STEPS, names)
        parameters = {variant.name: variant.parameters for variant in variants}
        assert [pair for pair in pairs if pair.factor not in names] == plain
        more = [pair for pair in pairs if pair.factor in names]
        assert {(p.factor, p.setting) for p in more} == {
            (name, setting) for name in names for setting in ("alone", "combined")
        }
        moved = {"sampling": "sampling", "mixup": "mixup", "remix": "mixup"}
        for pair in more:
            (on, corrected), (off, plainly) = pair.on, pair.off
            a, b = parameters[on], parameters[off]
            different = {x for x in a.keys() | b.keys() if repr(a.get(x)) != repr(b.get(x))}
            assert different == {moved[pair.factor]} and corrected == plainly
        settings = [pair.setting for pair in pairs]
        assert settings == sorted(settings)
    assert of("sampling-effective") == {"class_weight": "effective", "sampling": True}


def test_what_combined_variants_weight_by():
    """The same weights in the end, but for the factor that is off."""
    parameters = {variant.name: variant.parameters for variant in strategies.ablations(STEPS)[0]}
    at = {
        name: schedule_weights(parameters[name]["schedule"], [0, 19], RARE)
        for name in parameters
        if name.startswith("combined")
    }
    inverse = 1510 / (3 * RARE)
    np.testing.assert_array_equal(at["combined"], at["combined, no margin"])
    np.testing.assert_array_equal(at["combined"][0], np.ones(3))
    np.testing.assert_array_equal(at["combined, no schedule"], at["combined"][[1, 1]])
    np.testing.assert_allclose(at["combined, no clip"], [np.ones(3), inverse], rtol=1e-13)
    assert at["combined"][1, 2] == 5 < inverse[2]


def test_sensitivity():
    variants, entries = strategies.sensitivities(STEPS)
    by_name = {variant.name: variant for variant in variants}
    assert {entry.variant for entry in entries} == by_name.keys()
    assert {entry.reference for entry in entries} <= STRATEGIES.keys()
    for entry in entries:
        variant = by_name[entry.variant]
        if entry.kind == "weight scale":
            class_weights = variant.parameters["class_weight"](COUNTS)
            np.testing.assert_allclose(class_weights, entry.value * INVERSE, rtol=1e-14)
            assert variant.fraction == 1
        else:
            assert (entry.kind, variant.fraction) == ("sample size", entry.value)
            expected = {"erm": {}, "inverse": {"class_weight": "balanced"}}[entry.reference]
            assert variant.parameters == expected
    assert {entry.value for entry in entries if entry.kind == "weight scale"} == {0.25, 4.0}
