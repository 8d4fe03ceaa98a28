"""Cross-entropy for any number of groups of alike classes, against runs of the whole model."""

import tracemalloc

import numpy as np
import pytest

import ssm
from ssm.config import profiles
from ssm.theory.many_groups import ManyGroups, curves, learning_times, octaves

COUNTS = (12, 6, 6, 3, 3, 3, 3)


@pytest.mark.parametrize("changes", [{}, {"coupling": 0.3, "weight_exponent": 0.5}])
def test_groups_are_a_run_of_all_classes(changes):
    config = ssm.Config(
        counts=COUNTS, init="spectral", init_scale=0.05, feature_dim=8, t1=150.0, num_saves=30,
        rtol=1e-10, atol=1e-13, **changes,
    )  # fmt: skip
    run = ssm.simulate(config)
    weights = ssm.weights.power_law(np.array(COUNTS), config.weight_exponent)
    groups = ManyGroups(
        np.array([1, 2, 4]), np.array([12.0, 6.0, 3.0]), weights[[0, 1, 3]], config.coupling
    )
    found = curves(groups, run["time"].values, config.init_scale, rtol=1e-11)
    first = [0, 1, 3]
    np.testing.assert_allclose(found.class_loss, run["class_loss"].values[:, first], rtol=1e-7)
    assert found.class_loss[-1].max() < 0.1  # all is learned


def test_octaves_keep_every_sample():
    counts = np.array(profiles.zipf_counts(1000, 1000.0, 5))
    for parts in (1, 3):
        sizes, number, group = octaves(counts, parts)
        np.testing.assert_allclose(sizes @ number, counts.sum(), rtol=1e-12)
        assert number.sum() == 1000 and (np.diff(sizes) < 0).all()
        assert (counts / sizes[group]).max() < 2 and (sizes[group] / counts).max() < 2
    assert (np.diff(counts) <= 0).all()


def test_zipf_counts_fall_as_a_power_of_the_rank():
    counts = profiles.zipf_counts(100, 100.0, 10)
    assert counts == tuple(round(1000 / (c + 1)) for c in range(100))
    assert profiles.zipf_counts(4, 16.0, 3) == tuple(round(48 / (c + 1) ** 2) for c in range(4))


def test_ten_thousand_classes_take_no_matrix_of_them():
    counts = np.array(profiles.zipf_counts(10_000, 10_000.0, 5))
    sizes, number, _ = octaves(counts)
    groups = ManyGroups(number, sizes, np.ones(len(sizes)))
    t = np.geomspace(1e2, 1e5, 40) * 1.0
    tracemalloc.start()
    found = curves(groups, t, 1e-3, rtol=1e-6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**30 / 8  # a matrix of all classes alone has 800 MB
    learned = learning_times(found, num_classes=10_000)
    known = learned[np.isfinite(learned)]
    assert len(known) > 3 and (np.diff(known) > 0).all()  # larger classes first


def test_bad_groups_get_one_line():
    one = ManyGroups(np.array([3]), np.array([5.0]), np.ones(1))
    with pytest.raises(ssm.InputError, match="groups='1 group'"):
        curves(one, np.array([1.0]), 1e-3)
    two = ManyGroups(np.array([1, 2]), np.array([5.0, 2.0]), np.ones(2))
    with pytest.raises(ssm.InputError, match="times="):
        curves(two, np.array([2.0, 1.0]), 1e-3)
    with pytest.raises(ssm.InputError, match="per_octave=0"):
        octaves([3, 2], 0)
