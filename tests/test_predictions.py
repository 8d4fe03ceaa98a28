"""What is expected of a Config against closed forms, exact solutions and runs."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import UNCHECKED
from scipy.integrate import solve_ivp
from scipy.linalg import sqrtm

import ssm
from ssm import exact, predictions, preparation, spectral, theory
from ssm.problem import make_problem
from ssm.theory import class_flow


def expected(config):
    problem = make_problem(config)
    return predictions.predicted_learning_times(config, problem, spectral.components(problem))


def test_many_classes_are_not_followed_before_a_run_of_them():
    """Class means of a thousand would take half an hour under cross-entropy; the squared loss has closed forms."""
    many = ssm.Config(
        num_classes=predictions.MOST_CLASSES + 1, feature_dim=predictions.MOST_CLASSES
    )
    assert np.isnan(expected(many)).all()
    squared = dataclasses.replace(many, loss="squared", init="spectral")
    assert np.isfinite(expected(squared)).any()


def test_the_damped_rate_is_that_of_the_linear_system():
    """p' = r q - sigma p, q' = r p."""
    rates, damping = np.array([1.0, 0.3, 1e-4]), np.array([0.0, 0.5, 10.0])
    grown = theory.damped_rate(rates, damping)
    first, second = theory.growing_half(rates, damping)
    for j, (r, sigma) in enumerate(zip(rates, damping, strict=True)):
        generator = np.array([[-sigma, r], [r, 0.0]])
        mode = np.array([first[j], second[j]])
        np.testing.assert_allclose(generator @ mode, grown[j] * mode, atol=1e-12)
        np.testing.assert_allclose(mode @ mode, 1, rtol=1e-12)
    assert grown[0] == 1 and grown[2] == pytest.approx(1e-4**2 / 10, rel=1e-6)


@pytest.mark.parametrize("damping", [0.0, 1e-3, 10.0])
def test_damped_and_overlapping_modes_against_the_exact_solution(rng, damping):
    """W^T W - H H^T = -N I, N up to 2.2 times the minorities' targets, in hardly enough directions:
    what is left out is the decaying half of the start, gone after some e-folds."""
    counts, k, d = np.array([500, 500, 20, 20]), 4, 4
    config = ssm.Config(profile="custom", counts=tuple(counts), loss="squared", feature_dim=d)
    problem = make_problem(config)
    components, n = spectral.components(problem), counts.sum()
    W = 1e-4 * rng.normal(size=(k, d))
    frame = np.linalg.qr(rng.normal(size=(n, d)))[0].T
    H = np.real(sqrtm(W.T @ W + damping * np.eye(d))) @ frame
    wanted = exact.balanced_learning_times(W, H, counts, -damping)
    means = np.add.reduceat(H, np.cumsum(counts) - counts, axis=1) / counts

    rates, sigma = theory.mean_growth_rates(problem, components), np.full(k - 1, damping / n)
    first, second = theory.growing_half(rates, sigma)
    right = np.sqrt(counts)[:, None] * components.left / components.singular_values
    rows = first[:, None] * (components.left.T @ W)
    rows += second[:, None] * (right.T @ (np.sqrt(counts)[:, None] * means.T))
    rows *= np.sqrt(first * second / components.singular_values)[:, None]
    found = theory.overlapping_learning_times(rates, sigma, rows @ rows.T, 1.0)
    np.testing.assert_allclose(found.times, wanted, rtol=5e-3)
    assert (found.first <= found.times).all() and (found.times <= found.last).all()
    plain = theory.learning_time(rates, (rows**2).sum(1), "squared", k)
    if damping == 10:
        assert plain[-1] < 0.6 * wanted[-1]


def test_rows_that_are_orthogonal_are_sigmoids():
    rates, start = np.array([2.0, 1.0, 0.1]), np.array([1e-3, 1e-6, 0.2])
    found = theory.overlapping_learning_times(rates, np.zeros(3), np.diag(start), 1.0)
    np.testing.assert_allclose(
        found.times, theory.learning_time(rates, start, "squared", 4), rtol=1e-12
    )


def held(**changes):
    """Largest error of a run's predictions, those of what was learned; a run to its end has learned
    all that was predicted within its length, or says so."""
    config = ssm.Config(**{"num_saves": 10, "max_steps": 5000, **changes})
    ds = ssm.simulate(config)
    wanted, found = ds["predicted_learning_time"].values, ds["learning_time"].values
    assert ds.status in ("finished", "not learned", "out of steps")
    if ds.status == "finished":
        assert np.isfinite(found[wanted < 0.95 * ds.t1]).all()
    errors = np.abs(found / wanted - 1)
    return errors[np.isfinite(errors)]


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e-2, 3e-2, 1e-1])
def test_predictions_hold_within_a_tenth_or_are_not_given(scale):
    """From n s^2 / sqrt(n_min) of 1e-11 to beyond 100, where minorities are that much later."""
    given = 0
    for ratio in (1.0, 10.0, 100.0, 1e4, 1e6):
        shape = {"num_classes": 4, "feature_dim": 6, "loss": "squared"}
        errors = held(imbalance_ratio=ratio, init_scale=scale, **shape)
        assert (errors < 0.1).all(), (ratio, errors)
        given += len(errors)
    # of 15; at 0.1 the slower blocks take fewer than five e-folds, or more steps than these
    assert given >= (6 if scale > 0.05 else 11)


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e-1])
def test_predictions_for_25_billion_samples_against_an_implicit_solver(scale):
    """n s^2 / sqrt(n_min) up to 2e7, which explicit steps cannot reach; BDF can."""
    config = ssm.Config(
        loss="squared", num_classes=3, feature_dim=4, imbalance_ratio=1e9, init_scale=scale
    )
    run = preparation.prepare(config)
    columns, (W, H, *_) = run.flow.field.columns, run.flow.params
    shapes, parts = (W.shape, H.shape), [W.size]
    target = (np.eye(3)[:, columns.labels] - 1 / 3) * columns.constant[None]

    def field(state):
        W, H = (x.reshape(s) for x, s in zip(jnp.split(state, parts), shapes, strict=True))
        G = (W @ H - target) * columns.risk_weights[None]
        return -jnp.concatenate([(G @ H.T).ravel(), (W.T @ G).ravel()])

    slope, jacobian = jax.jit(field), jax.jit(jax.jacfwd(field))
    wanted = run.predicted_learning_time
    assert np.isfinite(wanted).all()
    times = np.unique(np.multiply.outer(wanted, np.linspace(0.97, 1.03, 25)))
    start = np.concatenate([W.ravel(), H.ravel()])
    options = {"rtol": 1e-6, "atol": 1e-9 * scale, "jac": lambda _, y: np.asarray(jacobian(y))}
    # SciPy's BDF subtracts rows of an array that it has not filled yet, before it fills them.
    with np.errstate(invalid="ignore", over="ignore"):
        solved = solve_ivp(lambda _, y: slope(y), (0, times[-1]), start, "BDF", times, **options)
    assert solved.success
    shares = []
    for state in solved.y.T:
        W, H = (x.reshape(s) for x, s in zip(np.split(state, parts), shapes, strict=True))
        strength = spectral.strengths(W @ H @ columns.sum_columns, run.components)
        shares.append(strength / run.components.singular_values)
    # the start of 1e-6 takes 25 e-folds, over which steps of 1e-6 add up
    np.testing.assert_allclose(spectral.learning_times(times, np.array(shares)), wanted, rtol=5e-3)


@UNCHECKED
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize(("num_classes", "dim"), [(10, 9), (10, 16), (3, 16)])
def test_predictions_hold_in_many_shapes(loss, num_classes, dim):
    shape = {"num_classes": num_classes, "feature_dim": dim, "loss": loss}
    kinds = [
        {},
        {"weight_exponent": 0.5},
        {"weight_exponent": 1.0},
        {"coupling": 0.1},
        {"coupling": 1.0},
        {"init": "balanced"},
    ]
    ratios = (3.0, 100.0) if loss == "cross_entropy" else (3.0, 100.0, 1e4)
    starts = list(itertools.product((1e-6, 1e-3, 1e-2, 1e-1), ratios))
    seeds = itertools.count()  # each run has one of its own
    for i, kind in enumerate(kinds):
        for scale, ratio in starts[i % 2 :: 2]:  # so that three kinds of six have each
            changes = {"init_scale": scale, "imbalance_ratio": ratio, "seed": next(seeds)}
            errors = held(**shape, **kind, **changes)
            # cross-entropy's are those of the class means, where noise is all that is left out
            worst = 0.1 if loss == "squared" else 0.03
            assert (errors < worst).all(), (kind, changes, errors)


def test_a_run_that_leaves_a_prediction_unlearned_says_so():
    """One contrast of nine that share nine directions has nearly none of its own."""
    config = ssm.Config(loss="squared", imbalance_ratio=1.0, feature_dim=9, num_saves=10)
    short = ssm.simulate(config)
    unlearned = np.isnan(short["learning_time"].values)
    assert short.status == "not learned" and unlearned.sum() == 1
    later = short["predicted_learning_time"].values[unlearned][0]
    assert later > short.t1
    long = ssm.simulate(dataclasses.replace(config, t1=1.1 * later))
    assert long.status == "finished"
    np.testing.assert_allclose(long["learning_time"], long["predicted_learning_time"], rtol=1e-3)
    # a length that was asked for, in which nothing should be learned
    assert ssm.simulate(dataclasses.replace(config, t1=1.0)).status == "finished"


def test_the_length_of_a_run_knows_the_noise():
    """The issue's run: 2.25 million samples from a start of 1e-3, m = 1.1."""
    config = ssm.Config(loss="squared", imbalance_ratio=1e5, num_saves=10)
    ds = ssm.simulate(config)
    assert ds.status == "finished" and np.isfinite(ds["learning_time"]).all()
    np.testing.assert_allclose(ds["learning_time"], ds["predicted_learning_time"], rtol=0.02)
    problem = make_problem(config)
    n = problem.counts.sum()
    np.testing.assert_allclose(predictions.noise_damping(config, problem), 1e-6, rtol=1e-4)
    late = 1 / theory.damped_rate(np.array([1.0]), np.array([n * 1e-6 / 5**0.5]))[0]
    assert late == pytest.approx(1.7, abs=0.05)


def test_where_noise_damps_and_where_not(tiny):
    for changes in ({"init": "balanced"}, {"init": "collapsed"}, {"coupling": 1.0}, {"depth": 3}):
        config = tiny(**changes)
        assert (predictions.noise_damping(config, make_problem(config)) == 0).all()
    config = tiny(init_scale=0.1)  # counts 8, 8, 2, 2
    found = predictions.noise_damping(config, make_problem(config))
    np.testing.assert_allclose(found, 0.01 / 4 / 20 * np.array([16, 16, 2, 2]), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [pytest.param(0.1, marks=pytest.mark.slow), 0.5])
def test_smoothed_labels_slow_contrasts_down(tiny, smoothing):
    """By 1 - e, which is what all rates are multiplied by, but for logits that saturate sooner."""
    plain = tiny(init_scale=1e-5)
    smooth = dataclasses.replace(plain, label_smoothing=smoothing)
    times, own = expected(plain), expected(smooth)
    within = spectral.components(make_problem(plain)).blocks != "cross"
    np.testing.assert_allclose(own[within], times[within] / (1 - smoothing), rtol=0.02)
    found = ssm.simulate(smooth)
    np.testing.assert_allclose(found["learning_time"], found["predicted_learning_time"], rtol=1e-3)


def test_labels_that_are_nearly_even_are_never_learned(tiny):
    """They end at a gap of log((1 - e) k / e + 1) = 0.37 between the logits of a label and of others, or 0.69."""
    ends = {e: np.log((1 - e) * 4 / e + 1) for e in (0.9, 0.8)}
    assert ends[0.9] < 0.5 < ends[0.8]
    assert np.isnan(expected(tiny(label_smoothing=0.9))).all()
    problem = make_problem(tiny())
    start = predictions.mean_start(tiny(), problem)
    found = [
        class_flow.component_learning_times(
            problem, spectral.components(problem), *start, smoothing=0.9, level=level
        )
        for level in (ends[0.9] - 0.02, ends[0.9] + 0.02)
    ]
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    assert np.isfinite(expected(tiny(label_smoothing=0.8))).all()
