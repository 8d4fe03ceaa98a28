"""What the experiment `tracked` trains and reads off: against geometries that are known, and plain sums."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import tracked, tracked_runs
from experiments.tracked_runs import Config, Family
from ssm import geometry

COUNTS = Config().counts(10.0)
HALF_STEP = 0.0026  # of the grid of positions


@pytest.fixture(scope="module")
def family() -> Family:
    return Family.of(COUNTS)


def test_counts_are_of_the_ratio_to_the_image():
    """100 of a majority class, and the tenth and the hundredth part of them of a minority class."""
    counts = [Config().counts(ratio) for ratio in Config().ratios]
    assert [sorted(set(own.tolist())) for own in counts] == [[100], [10, 100], [1, 100]]
    assert all((own[5:] == own.min()).all() for own in counts)


@pytest.mark.parametrize("a", [-0.25, 0.0, 0.4, 1.0])
def test_a_geometry_of_the_family_is_at_its_own_position(family, a):
    found = geometry.seli(COUNTS.astype(float) ** a)
    grams = np.array([3.0 * found.classifier, 0.1 * found.features])
    np.testing.assert_allclose(family.positions(grams), a, atol=HALF_STEP)
    stacked = np.stack([grams, grams])[None]
    assert family.positions(stacked).shape == (1, 2, 2)


@pytest.mark.parametrize("coupling", [0.0, 0.1, 0.4, 1.0])
def test_coupled_features_end_at_the_predicted_position(family, coupling):
    """`geometry.coupled_seli` takes the kernel of class means itself, diag(kappa_c / n_c), and knows nothing of positions."""
    kappa = 1 + coupling * (COUNTS - 1)
    limit = geometry.coupled_seli(np.diag(kappa / COUNTS))
    grams = np.array([limit.classifier, limit.features])
    predicted = tracked_runs.predicted_position(COUNTS, coupling)
    np.testing.assert_allclose(family.positions(grams), predicted, atol=HALF_STEP)


def test_samples_that_are_alike_have_the_kernel_of_the_model():
    """K = (1 - c) I + c 11^T within a class, and 0 between classes."""
    counts, c = np.repeat([4, 2], 5), 0.3
    X, labels = tracked_runs.alike(counts, c), np.repeat(np.arange(10), counts)
    same = labels[:, None] == labels
    np.testing.assert_allclose(X @ X.T, c * same + (1 - c) * np.eye(30), atol=1e-15)


def test_a_step_has_one_length_however_small_the_gradient():
    """The squares of a gradient of 1e-200 are 0 in double precision."""
    rng = np.random.default_rng(0)
    kernel, bias = jnp.asarray(rng.standard_normal((4, 3))), jnp.ones(3)
    for size in (1.0, 1e-200, 1e200):
        step, still = tracked_runs._unit((size * kernel, size * bias), None)
        np.testing.assert_allclose(step, -kernel / jnp.linalg.norm(kernel), rtol=1e-12)
        assert not still.any()


def test_losses_and_margins_of_logits_that_are_known():
    """Every image leads by m over nine equal others, so that its loss is log(1 + 9 e^-m)."""
    labels = np.repeat(np.arange(10), 2)
    leads = np.where(labels < 5, 3.0, 500.0)
    weights = np.where(np.arange(10) < 5, 0.5, 1.5)
    logits = leads[:, None] * np.eye(10)[labels]
    least, mean, carriers, log_loss = tracked_runs._read_off(logits, labels, weights)
    assert least == pytest.approx([3.0, 500.0]) and mean == pytest.approx([3.0, 500.0])
    assert carriers == pytest.approx([2.0, 2.0])
    assert log_loss == pytest.approx(np.log(0.5 * 0.5 * np.log1p(9 * np.exp(-3.0))), rel=1e-12)
    far = tracked_runs._read_off(logits + 497 * (leads == 3)[:, None] * logits / 3, labels, weights)
    assert far[3] == pytest.approx(np.log(9) - 500.0, rel=1e-12)  # weights have a mean of 1


@pytest.mark.slow
def test_a_short_log_is_that_of_its_matrices():
    """The tracker's distances of W are those of the matrices kept beside it, and its first accuracies a network's that was
    not trained; one run a weighting, from one start."""
    config = dataclasses.replace(Config(), ratios=(10.0,), seeds=(0,), num_steps=20)
    runs = tracked_runs.follow(config, lambda share: None).sel(imbalance_ratio=10.0)
    for weighting in tracked_runs.WEIGHTINGS:
        own = runs.sel(weighting=weighting).isel(seed=0)
        grams = tracked_runs.unit(own["gram"].isel(factor=0).values)
        for name, target in (("etf", geometry.etf(10)), ("seli", geometry.seli(COUNTS))):
            apart = np.linalg.norm(grams - tracked_runs.unit(target.classifier), axis=(1, 2))
            np.testing.assert_allclose(own[f"{name}_distance"].sel(part="W"), apart, rtol=1e-9)
        assert own["class_accuracy"].isel(time=0).mean() < 0.5
    apart = tracked_runs.apart(runs)[0]
    assert (apart[0] == 0).all() and (apart[-1] > 1e-3).all()


@pytest.mark.slow
@pytest.mark.long
def test_a_quick_tracked_run_draws_its_figure_and_stays_undecided(tmp_path):
    """One seed of 200 steps has no terminal phase, and decides nothing."""
    found = tracked.run(tmp_path, True, lambda share: None)
    failed = [claim.statement for claim in found if claim.verdict == "fails"]
    assert len(found) == 20 and all(said.startswith("every run: ") for said in failed)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf", ".svg"}
