"""The digits experiment: its training against a plain one, its recall against scikit-learn's, its claims and files."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence
from scipy import special
from sklearn.metrics import recall_score

import ssm
from experiments import data, digits, digits_figures, digits_network, stepping
from ssm.practice.network import networks, objective, training

CONFIG = digits_network.Config(
    seeds=(0, 1), num_steps=24, dense_steps=4, num_sparse=3, confusion_steps=(2, 24)
)


@pytest.fixture(scope="module")
def images_and_labels():
    return data.load_digits()


@pytest.fixture(scope="module")
def split(images_and_labels):
    return digits_network.drawn(CONFIG, *images_and_labels, seed=0)


@pytest.fixture(scope="module")
def traced_and_results(images_and_labels):
    """How often the gradient was traced when each run had ended, and the outcomes."""
    draw = functools.partial(digits_network.drawn, CONFIG, *images_and_labels)
    traced, counts, gradient = [], [], objective.parameter_gradient

    def counting(*args):
        traced.append(args)
        return gradient(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "parameter_gradient", counting)
        configs = dict.fromkeys(digits_network.METHODS, CONFIG)
        found = digits_network.outcomes(configs, draw, lambda share: counts.append(len(traced)))
    return counts, found


@pytest.fixture(scope="module")
def results(traced_and_results):
    return traced_and_results[1]


@pytest.fixture(scope="module")
def trained(split, traced_and_results):
    """Logits and predictions of one run of ERM, compiled by then for all tests."""
    return digits_network.run_one(CONFIG, split, 0.0, seed=0)


def test_evaluated_at_every_early_step_and_to_the_end():
    steps = digits_network.Config().evaluation_steps()
    assert list(steps[:61]) == list(range(61))
    assert (np.diff(steps) > 0).all()
    assert steps[-1] == digits_network.Config().num_steps
    assert set(digits_network.Config().confusion_steps) <= set(steps)


@pytest.mark.parametrize("method", digits_network.METHODS)
def test_weights_are_ones_or_balance_the_classes(split, method):
    counts = np.bincount(split.train_labels)
    begun = digits_network.start(CONFIG, split, digits_network.METHODS[method], seed=0)
    if method == digits.ERM:
        np.testing.assert_array_equal(begun.task.class_weights, 1)
    else:
        shares = counts * begun.task.class_weights
        np.testing.assert_allclose(shares, counts.sum() / 10, rtol=1e-12)


@pytest.mark.slow
def test_same_seed_same_bits(split, trained):
    again, other = (digits_network.run_one(CONFIG, split, 0.0, seed) for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(trained, again, strict=True))
    assert not np.array_equal(trained[0], other[0])


def test_both_methods_have_one_start_and_the_same_batches(split):
    one, other = (digits_network.start(CONFIG, split, g, seed=0) for g in (0.0, 1.0))
    leaves = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    assert all(np.array_equal(a, b) for a, b in leaves)
    assert one.options.seed == other.options.seed


def test_chosen_steps_are_those_of_a_fit_and_what_is_logged_is_what_the_network_says(
    split, trained
):
    """To the bit, since both advance by the same compiled steps."""
    with jax.enable_x64(False):
        begun = digits_network.start(CONFIG, split, 0.0, seed=0)
        options = dataclasses.replace(begun.options, num_steps=CONFIG.num_steps)
        fit = training.train(begun.task, options, training.begin(begun.task, options, begun.params))
        steps = CONFIG.evaluation_steps().tolist()
        *_, last = stepping.networks_at(begun, steps)
    for one, other in zip(jax.tree.leaves(last), jax.tree.leaves(fit.state.params), strict=True):
        np.testing.assert_array_equal(one, other)
    logits, predictions, _ = trained
    assert len(logits) == len(predictions) == len(steps)
    kernels = [np.asarray(x, float) for x in jax.tree.leaves(last)]
    params = tuple(networks.Layer(*kernels[i : i + 2]) for i in range(0, len(kernels), 2))
    for images, said in ((split.train_images, logits[-1]), (split.test_images, predictions[-1])):
        expected = networks.logits(params, jnp.asarray(digits_network.rows(images), float), (8, 8))
        if said.ndim == 2:
            np.testing.assert_allclose(said, expected, atol=2e-5)  # float32 against float64
        else:
            assert (said == np.asarray(expected).argmax(-1)).mean() > 0.99  # ties


def test_training_lowers_the_loss(split, trained):
    logits = trained[0]
    of_label = special.log_softmax(logits, axis=-1)[:, np.arange(logits.shape[1]), trained[2]]
    assert -of_label[-1].mean() < -0.8 * of_label[0].mean()


def test_logged_images_keep_the_imbalance(split):
    few = digits_network.logged(split.train_labels, digits_network.Config(max_logged=150))
    assert len(few) <= 150
    share, all_share = (np.bincount(labels) / len(labels) for labels in (few, split.train_labels))
    np.testing.assert_allclose(share, all_share, atol=1 / len(few))
    np.testing.assert_array_equal(
        digits_network.logged(split.train_labels, CONFIG), split.train_labels
    )


def test_recall_is_that_of_scikit_learn(rng):
    labels = np.repeat(np.arange(10), 30)
    predictions = np.where(rng.random((4, 300)) < 0.6, labels, rng.integers(0, 10, (4, 300)))
    found = digits_network.recall(digits_network.confusions(labels, predictions), CONFIG)
    for t, predicted in enumerate(predictions):
        apart: Any = None  # classes apart, which scikit-learn's types do not name
        by_class = np.asarray(recall_score(labels, predicted, average=apart))
        assert found["majority"][t] == pytest.approx(by_class[:5].mean(), abs=1e-12)
        assert found["minority"][t] == pytest.approx(by_class[5:].mean(), abs=1e-12)
        assert found["balanced accuracy"][t] == pytest.approx(by_class.mean(), abs=1e-12)


def test_first_passing_wants_all_curves_at_once():
    steps, rising = np.array([0, 2, 4]), np.array([0.1, 0.9, 1.0])
    assert digits.first_passing(steps, 0.9, rising) == 2
    assert digits.first_passing(steps, 0.9, rising, rising - 0.05) == 4
    assert digits.first_passing(steps, 0.9, rising, rising - 0.5) == np.inf


def outcome(majority: list[float], minority: list[float], learning_time: list[float]):
    """Two equal seeds whose classes of one group have equal recall, at the evaluated steps of a short run."""
    diagonals = np.stack([majority] * 5 + [minority] * 5, axis=-1)
    confusion = diagonals[:, :, None] * np.eye(10)
    progress = np.zeros((len(majority), 3))
    arrays = (confusion, progress, progress[:, 1], np.array(learning_time))
    return digits_network.Outcome(*(np.stack([a, a]) for a in arrays))


@pytest.mark.parametrize(
    ("erm_minority", "weighted_minority", "erm_delay", "expected"),
    [
        ([0.0, 0.2, 0.5, 0.95], [0.1, 0.92, 0.93, 0.95], 6.0, [True, True, True, True, True]),
        ([0.0, 0.6, 0.7, 0.72], [0.1, 0.7, 0.75, 0.8], 1.0, [False, False, False, False, False]),
        ([0.0, 0.2, 0.3, 0.95], [0.1, 0.2, 0.9, 0.95], 6.0, [True, True, False, True, True]),
    ],
)
def test_claims_follow_their_definitions(erm_minority, weighted_minority, erm_delay, expected):
    config = digits_network.Config(num_steps=3, dense_steps=3, num_sparse=1, confusion_steps=(1,))
    majority = [0.5, 0.98, 0.98, 0.98]
    results = {
        digits.ERM: outcome(majority, erm_minority, [1.0, 2.0, erm_delay]),
        digits.WEIGHTED: outcome(majority, weighted_minority, [2.0, 2.0, 2.0]),
    }
    claims = digits.make_claims(config, results)
    assert [claim.holds for claim in claims] == expected


def test_an_offset_for_all_images_is_taken_out_and_moves_the_cross_block_only(rng):
    labels = np.repeat(np.arange(10), [9] * 5 + [2] * 5)
    logits = rng.normal(size=(3, len(labels), 10))
    offset = rng.normal(size=10)
    without = digits_network.without_offset(logits, labels)
    np.testing.assert_allclose(digits_network.without_offset(logits + offset, labels), without)
    plain, shifted = ssm.track(without, labels), ssm.track(without + offset, labels)
    moved = np.abs(plain.block_strength - shifted.block_strength).max("time")
    assert (
        moved.sel(block="cross") > 0.1 and moved.sel(block=["majority", "minority"]).max() < 1e-12
    )


def test_never_passing_fails_the_claims_without_a_warning():
    config = digits_network.Config(num_steps=3, dense_steps=3, num_sparse=1, confusion_steps=(1,))
    low = outcome([0.5] * 4, [0.1] * 4, [1.0, 2.0, np.nan])
    high = outcome([0.6] * 4, [0.2] * 4, [1.0, 2.0, np.nan])
    claims = digits.make_claims(config, {digits.ERM: low, digits.WEIGHTED: high})
    assert not any(claim.holds for claim in claims)


def test_all_runs_share_one_compilation(traced_and_results):
    counts, _ = traced_and_results
    assert len(counts) == 2 * len(CONFIG.seeds)
    assert counts[0] == counts[-1] > 0


@pytest.mark.slow
def test_same_figures_to_the_byte(tmp_path, results):
    for draw, name in (
        (digits_figures.draw_recall, "recall.png"),
        (digits_figures.draw_spectrum, "spectrum.png"),
        (digits_figures.draw_confusion, "confusion.png"),
        (digits_figures.film_confusion, "confusion.gif"),
    ):
        draw(tmp_path / name, CONFIG, results)
        first = (tmp_path / name).read_bytes()
        draw(tmp_path / name, CONFIG, results)
        assert (tmp_path / name).read_bytes() == first


def test_film_has_a_frame_for_every_other_step_and_ends_at_the_last(tmp_path, results):
    digits_figures.film_confusion(tmp_path / "film.gif", CONFIG, results)
    count = len(CONFIG.evaluation_steps())
    with Image.open(tmp_path / "film.gif") as film:
        frames = sum(1 for _ in ImageSequence.Iterator(film))
    assert frames == len({*range(0, count, 2), count - 1})


@pytest.mark.slow
def test_a_quick_run_writes_its_files_and_reports(tmp_path, monkeypatch):
    short = {"seeds": (0,), "num_steps": 4, "dense_steps": 2, "confusion_steps": (1, 4)}
    monkeypatch.setattr(digits, "QUICK", short)
    shares = []
    claims = digits.run(tmp_path, True, shares.append)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".gif", ".png")) == [
        "digits_confusion.gif",
        "digits_confusion.png",
        "digits_recall.png",
        "digits_spectrum.png",
    ]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(claims) == 5
