"""Sign descent by class means: against all samples, one by one, and where counting signs says how it goes."""

import dataclasses

import numpy as np
import pytest

from experiments import sign_descent
from ssm import Config

STEPS = 60
CONFIG = Config(
    num_classes=4,
    imbalance_ratio=3,
    minority_count=2,
    feature_dim=5,
    loss="squared",
    optimizer="sign",
    learning_rate=0.01,
    num_steps=STEPS,
    num_saves=2,
    init_scale=0.02,
)
COUNTS = np.array([6, 6, 2, 2])


def test_class_means_go_as_all_samples_do_that_start_equal():
    """The steps as a text on sign descent writes them, with a column for each sample, from the same start;
    to rounding, which the mean over contrasts takes in another order."""
    start = sign_descent.gaussian_start(CONFIG, 2, 5)
    mine = sign_descent.shares(CONFIG, start)
    labels = np.repeat(np.arange(4), COUNTS)
    S = np.eye(4)[:, labels] - 1 / 4
    contrasts = {0: np.array([1, -1, 0, 0]), 1: np.array([0, 0, 1, -1])}
    for draw in range(2):
        W, H = start.rows[draw].copy(), start.means[draw].T[:, labels].copy()
        for step in range(STEPS + 1):
            for group, c in contrasts.items():
                u, n = c / np.sqrt(2), COUNTS[2 * group]
                v = c[labels] / np.sqrt(2 * n)
                assert mine[draw, step, group] == pytest.approx(
                    u @ W @ H @ v / np.sqrt(n), abs=1e-12
                )
            G = (W @ H - S) / len(labels)
            W, H = W - 0.01 * np.sign(G @ H.T), H - 0.01 * np.sign(W.T @ G)


def base(**changes):
    config = dataclasses.replace(CONFIG, num_classes=10, minority_count=5, feature_dim=16)
    return dataclasses.replace(
        config, learning_rate=5e-4, init_scale=1e-3, num_steps=400, **changes
    )


def growth(config):
    return sign_descent.growth_at(sign_descent.wide_course(config, 2000), config, 0.1)


def test_groups_of_equal_classes_grow_alike():
    """Five classes against five others; of 2000 coordinates the mean scatters by some 2 %."""
    majority, minority = growth(base(imbalance_ratio=1, class_weights=None))
    assert majority == pytest.approx(minority, rel=0.08)


def test_minorities_stay_where_any_majority_row_outweighs_them():
    """Of five signs the sum is 1 at least. At R = 100 that pulls a minority's row by 100 n_min / 10, which is
    more than its own n_min and a tenth of the others': all rows go one way and no contrast grows, but for
    what the start leaves, of some steps in more than a hundred."""
    majority, minority = growth(base(imbalance_ratio=100))
    assert minority < 0.05 * majority
