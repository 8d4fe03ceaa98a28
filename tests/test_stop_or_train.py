"""The experiment on stopping: its parts of images, what it measures, its claims, and a quick run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import special

from experiments import mnist_data, stop_or_train
from experiments import stop_or_train_runs as runs
from experiments.digits_network import Config

CONFIG = Config(seeds=(0, 1))


def images(per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel of an image is its number among all."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), per_class))
    pixels = np.arange(len(labels), dtype=np.float32)
    return np.broadcast_to(pixels[:, None, None], (len(labels), 2, 2)), labels


def numbers(pictures: np.ndarray) -> set[float]:
    return set(pictures[:, 0, 0].tolist())


def test_the_parts_have_nothing_in_common_and_the_validation_part_is_as_imbalanced():
    source = runs.Source(*images(70), 50, None, 8, (5,), learning_rate=0.1, num_steps=4)
    own = runs.parts(source, 5, CONFIG, seed=0)
    counts = [np.bincount(x) for x in (own.training.train_labels, own.validation[1], own.test[1])]
    assert [x.tolist() for x in counts] == [[50] * 5 + [10] * 5, [10] * 5 + [2] * 5, [8] * 10]
    each = [numbers(x) for x in (own.training.train_images, own.validation[0], own.test[0])]
    assert len(set.union(*each)) == sum(map(len, each)) == 300 + 60 + 80
    labels = dict(zip(source.images[:, 0, 0], source.labels, strict=True))
    for pictures, given in (own.validation, own.test):
        assert [labels[x] for x in pictures[:, 0, 0]] == given.tolist()
    test = source.images[:3], source.labels[:3]
    elsewhere = dataclasses.replace(source, test=test)
    assert runs.parts(elsewhere, 5, CONFIG, seed=0).test is test


def test_noise_of_known_gaussians(rng):
    """Isotropic noise of variance 1/4 in 9 dimensions, class means 3 e_c, of 9 classes and one at the origin: pairs
    at 3 sqrt(2) and at 3. With 3000 images a class variances are known within 2 %."""
    labels = np.repeat(np.arange(10), 3000)
    means = np.vstack([3 * np.eye(9), np.zeros((1, 9))])
    X = means[labels] + 0.5 * rng.normal(size=(len(labels), 9))
    noise = runs.measured_noise(X.reshape(-1, 3, 3), labels)
    pairs = np.array([3 * np.sqrt(2)] * 36 + [3.0] * 9)
    assert noise.dimension == pytest.approx(9, rel=0.02)
    assert noise.signal == pytest.approx((pairs / 2 / 0.5).mean(), rel=0.02)


def course(accuracy: list[float], worst: list[float], balanced: list[float]) -> runs.Course:
    """Two seeds alike."""
    losses = dict(zip(runs.CRITERIA, ([worst] * 2, [balanced] * 2), strict=True))
    by_criterion = {name: np.array(values) for name, values in losses.items()}
    return runs.Course(np.array([accuracy] * 2), by_criterion, np.array([0.98] * 2), np.ones(2))


def test_stopping_is_where_a_loss_is_least():
    own = course([0.1, 0.895, 0.9, 0.8], [4, 1, 2, 3], [4, 3, 1, 2])
    assert own.stopped("worst-class log loss").tolist() == [0.895, 0.895]
    np.testing.assert_allclose(own.gain("balanced log loss"), [0.1, 0.1], atol=1e-12)
    assert own.nearly_best.tolist() == [1, 1]


def test_losses_are_means_over_classes_of_the_networks_own_log_loss(monkeypatch, rng):
    """Against a loop over images."""
    source = runs.Source(*images(20), 10, None, 5, (2,), learning_rate=0.1, num_steps=2)
    own = runs.parts(source, 2, CONFIG, seed=0)
    images_of = {name: len(x[1]) for name, x in (("v", own.validation), ("t", own.test))}
    said = rng.normal(size=(3, images_of["v"] + images_of["t"], 10))
    of_training = rng.normal(size=(1, len(own.training.train_labels), 10))
    monkeypatch.setattr(runs.digits_network, "start", lambda *args: None)
    monkeypatch.setattr(
        runs.digits_network,
        "logits_at",
        lambda begun, seen, steps: said if len(steps) == 3 else of_training,
    )
    accuracy, losses, fitted = runs._course(CONFIG, own, 0.0, 0, np.arange(3))
    for t in range(3):
        of_class: list[list[float]] = [[] for _ in range(10)]
        right: list[list[bool]] = [[] for _ in range(10)]
        for i, label in enumerate(own.validation[1]):
            of_class[label].append(special.logsumexp(said[t, i]) - said[t, i, label])
        for i, label in enumerate(own.test[1]):
            right[label].append(said[t, images_of["v"] + i].argmax() == label)
        means = [np.mean(x) for x in of_class]
        np.testing.assert_allclose(losses[:, t], [max(means), np.mean(means)], rtol=1e-12)
        assert accuracy[t] == pytest.approx(np.mean([np.mean(x) for x in right]), abs=1e-12)
    right_of = (of_training[0].argmax(-1) == own.training.train_labels, own.training.train_labels)
    every = [right_of[0][right_of[1] == c].mean() for c in range(10)]
    assert fitted == pytest.approx(np.mean(every), abs=1e-12)


def test_claims_follow_their_definitions():
    weighted = course([0.5, 0.9, 0.88, 0.85], [4, 1, 2, 3], [4, 1, 2, 3])
    erm = course([0.4, 0.5, 0.7, 0.86], [4, 3, 2, 1], [4, 3, 2, 1])
    found = dict.fromkeys(runs.WEIGHTINGS, weighted) | {"ERM": erm}
    steps, noise = np.arange(4), runs.Noise(10.0, 2.0)
    case = stop_or_train.Case("MNIST", 10, steps, found, noise, 100, np.array([0.04, 0.06]))
    claims = stop_or_train.make_claims([case])
    # a gain of 0.05 is the model's; a lead of 0.4 turns into one of -0.01; 0.9 is above 0.86
    assert [claim.holds for claim in claims] == [True] * 5
    far = case._replace(model=np.zeros(2), ratio=2, courses=found | {"ERM": weighted})
    assert [claim.verdict for claim in stop_or_train.make_claims([far])] == [
        "fails",
        "fails",
        "holds",  # no lead at any time, none the less at the end
        "holds",
    ]


@pytest.mark.slow
@pytest.mark.long
def test_a_quick_run_draws_its_figure_and_reports(mnist_folder, tmp_path):
    shares = []
    claims = stop_or_train.run(tmp_path, True, shares.append, mnist_folder)
    assert {path.suffix for path in tmp_path.glob("stop_or_train.*")} == {".png", ".pdf", ".svg"}
    assert shares == sorted(shares) and shares[-1] == 1
    assert len(claims) == 2 * 4 + 1


def test_the_test_files_are_the_test_images_of_mnist(mnist_folder):
    found = mnist_data.load(mnist_folder)
    sources = stop_or_train.sources(found)
    assert sources["MNIST"].test is not None and sources["digits"].test is None
    np.testing.assert_array_equal(sources["MNIST"].test[0], found.test_images[::5])
    np.testing.assert_array_equal(sources["MNIST"].test[1], found.test_labels[::5])
