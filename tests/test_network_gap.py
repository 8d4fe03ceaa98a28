"""What the experiment `network_gap` trains and reads off: against plain descent, and the model's own kernels."""

from __future__ import annotations

from typing import get_args

import jax
import numpy as np
import pytest

import ssm
from experiments import bridge, data, digits_network, network_gap, network_gap_runs
from experiments import bridge_network as networks
from experiments.network_gap_runs import Cell, Units
from ssm import weights
from ssm.config.model import Bias


@pytest.mark.parametrize("units", get_args(Units))
@pytest.mark.parametrize(
    "bias",
    [
        pytest.param(bias, marks=() if bias == "both" else pytest.mark.slow)
        for bias in get_args(Bias)
    ],
)
def test_what_is_left_out_of_a_network_stays_out(units: Units, bias: Bias, rng):
    counts = np.repeat([3, 2], 5)
    y = np.repeat(np.arange(10), counts)
    n, rate = len(y), 0.05
    X, A, W = rng.normal(size=(n, 6)), rng.normal(size=(6, 7)), rng.normal(size=(7, 10))
    own = np.stack([weights.power_law(counts, g)[y] for g in (0.0, 1.0)])
    moving = np.array([bias in ("hidden", "both"), bias in ("output", "both")])
    given = (A, W, X, np.eye(10)[y], own, np.asarray(rate), moving)
    with jax.enable_x64(False):
        floats = [x.astype(np.float32) for x in given]
        steps, gains = network_gap_runs._descend(*floats, units)
    assert int(steps) > 4
    for e, w in enumerate(own):
        B, V, a, b = A.copy(), W.copy(), np.zeros(7), np.zeros(10)
        for step in range(4):
            H = X @ B + a
            gates = {"rectified": H > 0, "fixed gates": X @ A > 0, "linear": np.ones_like(H)}[units]
            Z = (H * gates) @ V + b
            means = np.array([Z[y == c].mean(axis=0) for c in range(10)])
            np.testing.assert_allclose(gains[step, e], networks.contrasts(means), atol=1e-4)
            P = np.exp(Z - Z.max(axis=1, keepdims=True))
            G = w[:, None] * (P / P.sum(axis=1, keepdims=True) - np.eye(10)[y]) / n
            back, grad = (G @ V.T) * gates, (H * gates).T @ G
            B, V = B - rate * X.T @ back, V - rate * grad
            a = a - rate * back.sum(axis=0) * moving[0]
            b = b - rate * G.sum(axis=0) * moving[1]


@pytest.mark.slow
def test_a_whole_network_has_the_slope_that_bridge_measures():
    images, labels = data.load_digits()
    found = network_gap_runs.slope(Cell("rectified", "both", True, "standard"), images, labels, 0)
    _, records = bridge.trained(networks.samples(images, labels, 0.0, 0), 1.0, 0)
    times = np.array([bridge.gain_times(record) for record in records])
    powers = np.log10(times[:, 1] / times[:, 0])
    assert found == pytest.approx(np.polyfit(networks.EXPONENTS, powers, 1)[0], abs=1e-3)  # float32


def test_every_cell_is_there_once():
    cells = network_gap.cells()
    assert len(cells) == len(set(cells)) == 2 * 2 * (2 + 2 + 4)


def test_blocks_of_kernels_are_the_models(rng):
    """Of a kernel that is the model's in each class, beside what samples share by class, is left what is the
    class's own; one coupling and size where all classes have the same."""
    labels = np.repeat(np.arange(10), np.repeat([6, 3], 5))
    same = labels[:, None] == labels
    common = rng.normal(size=10)[labels]
    couplings, sizes = rng.uniform(0, 0.9, 10), rng.uniform(1, 3, 10)
    for c, a in ((couplings, sizes), (np.full(10, 0.3), np.full(10, 2.0))):
        own = np.where(same, (a * c)[labels], 0.0) + np.diag((a * (1 - c))[labels])
        whole = own + common[:, None] + common
        coupling, classes = network_gap_runs.block_kernels(whole, labels)
        np.testing.assert_allclose(classes, own, atol=1e-12)
    np.testing.assert_allclose(coupling, own, atol=1e-12)
    inputs = network_gap_runs.factor(own)
    np.testing.assert_allclose(inputs @ inputs.T, own, atol=1e-12)


def test_block_times_are_those_of_tracked_logits(rng):
    labels = np.repeat(np.arange(10), np.repeat([6, 3], 5))
    times = np.linspace(0, 5, 30)
    rising = (labels[:, None] == np.arange(10)) * rng.uniform(0.5, 2, 10)
    logits = times[:, None, None] * rising + rng.normal(size=10) * times[:, None, None] ** 2
    tracked = ssm.track(digits_network.without_offset(logits, labels), labels, times)
    means = np.stack([logits[:, labels == c].mean(axis=1) for c in range(10)], axis=1)
    found = network_gap_runs.block_times(means, labels, times)
    np.testing.assert_allclose(found, tracked["block_learning_time"], rtol=1e-10)


@pytest.mark.slow
def test_the_models_times_are_read_as_a_run_reads_them():
    """Contrasts in the groups feel no offset, and start 1e-5 of their target away from 0."""
    labels = np.repeat(np.arange(10), np.repeat([4, 2], 5))
    inputs = np.eye(len(labels))
    config = ssm.Config(num_classes=10, feature_dim=12, init_scale=1e-3, save_state=True)
    run = ssm.simulate(config, inputs=inputs, labels=labels)
    found = network_gap_runs._times_of_run(run, inputs, labels)
    np.testing.assert_allclose(found[[0, 2]], run["block_learning_time"][[0, 2]], rtol=1e-3)
