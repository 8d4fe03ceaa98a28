"""The reduced form against the full one: bases, laws of the draw, whole runs, the way back."""

import numpy as np
import pytest

import ssm
from ssm import defaults, losses, reduction, spectral
from ssm.dynamics import observer as observing
from ssm.dynamics.column_layouts import coordinate_columns, sample_columns
from ssm.dynamics.flow import Flow
from ssm.dynamics.parameters import Params
from ssm.dynamics.starts import Start
from ssm.dynamics.vector_field import Field
from ssm.problem import make_problem

NUMBERS = ["loss", "class_loss", "strength", "class_strength", "singular_value", "residual"]


def test_features_come_back_from_their_coordinates(rng):
    counts = [30, 7, 3, 1]
    H = rng.normal(size=(6, 41))
    B, bases = reduction.reduce_features(H, counts)
    assert B.shape == (6, 4 * 7)
    np.testing.assert_allclose(reduction.restore_features(B, bases), H, atol=1e-13)
    for n, Q in zip(counts, bases, strict=True):
        rank = min(n, 7)
        np.testing.assert_allclose(Q[:, 0], n**-0.5, atol=1e-14)
        np.testing.assert_allclose(Q.T @ Q, np.diag(np.arange(7) < rank), atol=1e-13)
    assert not B[:, 7 * 2 + 3 : 7 * 3].any()  # a class of three has three coordinates


@pytest.mark.parametrize("count", [1, 4, 40, 107, 108, 500])
def test_a_draw_of_every_size_is_complete(rng, count):
    """Drawn coordinates and basis belong together: on the drawn samples, and laid out over all."""
    counts = np.array([count, 3])
    reduced = reduction.draw(rng, counts, 6)
    assert reduced.drawn[0] == (count if count <= 107 else 100)
    bases = reduction.full_basis(reduced, counts, rng)
    H = reduction.restore_features(reduced.features, bases)
    assert H.shape == (6, count + 3)
    again, _ = reduction.reduce_features(H, counts)
    np.testing.assert_allclose(again, reduced.features, atol=1e-11)
    Q = bases[0]
    np.testing.assert_allclose(Q[:, 0], count**-0.5, atol=1e-13)
    np.testing.assert_allclose(Q[:100] @ Q.T, reduced.basis[0][: min(count, 100)] @ Q.T, atol=1e-13)


@pytest.mark.parametrize("count", [5, 300, 10**9])
def test_the_law_of_the_draw_is_that_of_gaussian_samples(rng, count):
    """Mean and scatter of n independent normal columns: sqrt(n) mean is normal, the scatter is
    Wishart with n - 1 degrees of freedom, of mean n - 1 and variance n - 1 (2 n - 2 on the
    diagonal)."""
    draws = 2000
    means, scatters = [], []
    for _ in range(draws):
        B = reduction.draw(rng, np.array([count]), 3).features
        means.append(B[:, 0])
        scatters.append(B[:, 1:] @ B[:, 1:].T)
    error = 4.5 / np.sqrt(draws)  # of 24 numbers, each within its standard error
    assert np.abs(np.mean(means, axis=0)).max() < error
    np.testing.assert_allclose(np.cov(np.transpose(means)), np.eye(3), atol=error * 1.5)
    dof = count - 1.0
    spread = np.sqrt(dof * (1 + np.eye(3)))
    assert (np.abs(np.mean(scatters, axis=0) - dof * np.eye(3)) < error * spread).all()
    variance = np.var(np.array(scatters), axis=0) / spread**2
    np.testing.assert_allclose(variance, 1, atol=5 * error)  # heavier tails at few degrees


def followed(params, problem, columns, config, times):
    components = spectral.components(problem)
    field = Field(columns)
    observer = observing.make_observer(config, problem, field, Start(params), components)
    atol = defaults.resolve(config, problem).absolute_tolerance
    tolerance = np.asarray(config.rtol), np.asarray(atol)
    return Flow(params, field, observer, times, *tolerance, np.asarray(100_000)).follow()


@pytest.mark.parametrize("coupling", [0.3])  # without it: at 22,000 samples
@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_the_reduced_flow_is_the_full_one(tiny, rng, coupling, exponent):
    """From any features, with the library's own reduction as the only step between."""
    config = tiny(
        loss="squared",
        coupling=coupling,
        weight_exponent=exponent,
        init_scale=0.1,
        imbalance_ratio=20.0,
        rtol=1e-11,
        atol=1e-13,
    )
    problem = make_problem(config)
    W, H = 0.1 * rng.normal(size=(4, 6)), 0.1 * rng.normal(size=(6, 84))
    B, _ = reduction.reduce_features(H, problem.counts)
    times = np.linspace(0, 200, 30)
    full = followed(Params(W, H), problem, sample_columns(problem, losses.Squared()), config, times)
    small = followed(Params(W, B), problem, coordinate_columns(problem, 7), config, times)
    for name in NUMBERS:  # a few hundred steps, each within 1e-11
        np.testing.assert_allclose(
            small.observations[name], full.observations[name], atol=1e-8, err_msg=name
        )
    np.testing.assert_allclose(small.crossings, full.crossings, rtol=1e-8)
    assert small.observations["drift"].max() < 1e-8


@pytest.mark.slow
def test_the_reduced_flow_is_the_full_one_at_22_000_samples(rng):
    config = ssm.Config(
        loss="squared", num_classes=4, minority_count=1000, rtol=1e-10, init_scale=1e-2,
        weight_exponent=0.5, feature_dim=8,
    )  # fmt: skip
    problem = make_problem(config)
    assert problem.counts.sum() == 22_000
    W, H = 1e-2 * rng.normal(size=(4, 8)), 1e-2 * rng.normal(size=(8, 22_000))
    B, _ = reduction.reduce_features(H, problem.counts)
    times = np.linspace(0, 4000, 5)
    full = followed(Params(W, H), problem, sample_columns(problem, losses.Squared()), config, times)
    small = followed(Params(W, B), problem, coordinate_columns(problem, 9), config, times)
    scale = np.sqrt(problem.counts.max())  # of the strengths
    assert full.observations["strength"][-1].max() > 0.5 * scale
    for name in NUMBERS:
        unit = scale if name in ("strength", "singular_value") else 1.0
        error = np.abs(small.observations[name] - full.observations[name]).max() / unit
        assert error < 1e-8, name
    np.testing.assert_allclose(small.crossings, full.crossings, rtol=1e-8)
    assert small.observations["drift"].max() < 1e-8


@pytest.mark.parametrize("init", ["gaussian", pytest.param("balanced", marks=pytest.mark.slow)])
@pytest.mark.parametrize("ratio", [4.0, 200.0])
def test_a_kept_state_is_of_samples_and_has_what_was_observed(run, init, ratio):
    """H comes back with a column a sample; everything observed in coordinates follows from it,
    accuracy of classes of up to a hundred samples too."""
    ds = run(loss="squared", init=init, imbalance_ratio=ratio, save_state=True, init_scale=0.1)
    counts = ds.class_count.values
    labels = np.repeat(np.arange(4), counts)
    assert ds.sizes["sample"] == counts.sum()
    Z = ds.W.values @ ds.H.values
    S = np.eye(4)[:, labels] - 1 / 4
    class_loss = [0.5 * ((Z - S) ** 2).sum(1)[:, labels == c].mean(1) for c in range(4)]
    np.testing.assert_allclose(ds.class_loss, np.transpose(class_loss), rtol=1e-9, atol=1e-12)
    dense = np.linalg.svd(Z, compute_uv=False)
    np.testing.assert_allclose(ds.singular_value, dense, atol=1e-11)
    right = Z.argmax(1) == labels
    for c in range(4):
        own = right[:, labels == c][:, : (counts[c] if counts[c] <= 107 else 100)]
        np.testing.assert_allclose(ds.class_accuracy[:, c], own.mean(1), atol=1e-12)
    # W^T W - H H^T is constant, however H was laid out
    conserved = ds.W.values.transpose(0, 2, 1) @ ds.W.values - ds.H.values @ ds.H.values.transpose(
        0, 2, 1
    )
    scale = np.abs(ds.H.values[-1] @ ds.H.values[-1].T).max()
    np.testing.assert_allclose(conserved, conserved[:1].repeat(50, 0), atol=1e-4 * scale)


def test_a_billion_samples_learn_when_theory_says(run):
    """The smallest start keeps the noise of 1e9 samples below what is learned."""
    changes = {"loss": "squared", "minority_count": 10**8, "init_scale": 1e-9}
    ds = run(**changes)
    known = np.isfinite(ds.predicted_learning_time.values)
    ratio = (ds.learning_time / ds.predicted_learning_time).values[known]
    np.testing.assert_allclose(ratio, 1, atol=0.1)  # O(1) of about 50 e-folds
    assert ds.class_count.sum() == 10**9


def test_a_wide_draw_keeps_no_more_coordinates_than_there_are_samples():
    """The same draw, whatever is kept of it; what is left out is 0."""
    counts = np.array([30, 7, 1])
    whole = reduction.draw(np.random.default_rng(0), counts, 80)
    kept = reduction.draw(np.random.default_rng(0), counts, 80, 32)
    every = whole.features.reshape(80, 3, 81)
    np.testing.assert_allclose(kept.features.reshape(80, 3, 32), every[:, :, :32], atol=1e-12)
    assert not every[:, :, 32:].any()
    bases = reduction.full_basis(kept, counts, np.random.default_rng(1))
    np.testing.assert_allclose(
        reduction.restore_features(kept.features, bases),
        reduction.restore_features(
            whole.features, [Q[:n] for Q, n in zip(whole.basis, counts, strict=True)]
        ),
        atol=1e-12,
    )


def test_the_cost_of_wide_features_follows_the_samples(tiny):
    """4 classes of at most 8 samples and 300 dimensions."""
    config = tiny(loss="squared", feature_dim=300)
    assert config.num_columns == 4 * 32 and tiny(loss="squared").num_columns == 4 * 7
    assert tiny(loss="squared", feature_dim=300, imbalance_ratio=50.0).num_columns == 4 * 100


@pytest.mark.slow
def test_the_drift_of_wide_features(tiny):
    """In the frame of the start it is that in all dimensions."""
    ds = ssm.simulate(tiny(loss="squared", feature_dim=300, init_scale=1e-2, save_state=True))
    W, H = ds["W"].values, ds["H"].values
    left, right = W.transpose(0, 2, 1) @ W, H @ H.transpose(0, 2, 1)
    change = np.linalg.norm(left - right - (left - right)[0], axis=(1, 2))
    size = np.linalg.norm(left, axis=(1, 2)) + np.linalg.norm(right, axis=(1, 2))
    np.testing.assert_allclose(ds["drift"], change / size, atol=1e-13)
    assert 0 < ds["drift"].max() < 1e-4
