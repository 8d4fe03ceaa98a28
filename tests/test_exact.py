"""Exact solutions against simulated flows, DOP853, many-digit arithmetic and each other."""

import itertools

import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ssm
from ssm import exact, spectral, theory
from ssm.problem import make_problem, membership, simplex_labels

PRECISE = {"loss": "squared", "rtol": 1e-11, "atol": 1e-13}
FLOAT32_SQUARED = (
    77  # decades: e^(2 s t / n) beyond this overflows when float32 numbers are squared
)


def balanced_start(rng, width, counts, scale, balance=0.0):
    """A random (W, H) with W^T W - H H^T = balance I."""
    k, n = len(counts), sum(counts)
    if balance <= 0:
        W = scale * rng.normal(size=(k, width))
        values, vectors = np.linalg.eigh(W.T @ W - balance * np.eye(width))
        rows = np.linalg.qr(rng.normal(size=(n, width)))[0].T
        return W, (vectors * np.sqrt(values.clip(0))) @ vectors.T @ rows
    H = scale * rng.normal(size=(width, n))
    values, vectors = np.linalg.eigh(H @ H.T + balance * np.eye(width))
    rows = np.linalg.qr(rng.normal(size=(k, width)))[0]
    return rows @ (vectors * np.sqrt(values)) @ vectors.T, H


def integrated(factors, problem, times):
    """Class-mean logits of the flow of a product of any number of factors, by DOP853."""
    labels, n, k = problem.labels, problem.counts.sum(), len(problem.counts)
    S = simplex_labels(labels, k)
    c = float(problem.coupling)
    kernel = (1 - c) * np.eye(n) + c * (labels[:, None] == labels)
    ends = np.cumsum([factor.size for factor in factors])[:-1]

    def unpack(state):
        parts = np.split(state, ends)
        return [part.reshape(factor.shape) for part, factor in zip(parts, factors, strict=True)]

    def product(matrices):
        return np.linalg.multi_dot(matrices) if len(matrices) > 1 else matrices[0]

    def field(_, state):
        now = unpack(state)
        pull = (S - product(now)) * problem.class_weights[labels] / n
        left = [np.eye(k)] + [product(now[:i]) for i in range(1, len(now))]
        right = [product(now[i:]) for i in range(1, len(now))] + [np.eye(n)]
        forces = [L.T @ pull @ R.T for L, R in zip(left, right, strict=True)]
        return np.concatenate([force.ravel() for force in [*forces[:-1], forces[-1] @ kernel]])

    start = np.concatenate([factor.ravel() for factor in factors])
    scale = np.abs(start).max()
    done = solve_ivp(field, (0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-14 * scale)
    means = membership(labels, k) / problem.counts
    return np.array([product(unpack(state)) @ means for state in done.y.T])


def plain(counts):
    return make_problem(ssm.Config(profile="custom", counts=counts))


def test_balanced_runs_follow_the_riccati_solution():
    config = ssm.Config(
        **PRECISE,
        num_classes=4,
        imbalance_ratio=4.0,
        minority_count=2,
        feature_dim=6,
        init="balanced",
        init_scale=0.1,
        num_saves=50,
        save_state=True,
    )
    ds = ssm.simulate(config)
    counts = make_problem(config).counts
    W, H = ds.W.values[0], ds.H.values[0]
    found = exact.balanced_flow(ds.time.values, W, H, counts)
    means = membership(np.repeat(np.arange(len(counts)), counts), len(counts)) / counts
    expected = ds.W.values @ (ds.H.values @ means)
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()  # 10 x rtol
    learned = exact.balanced_learning_times(W, H, counts)
    np.testing.assert_allclose(learned, ds.learning_time, rtol=1e-8)


@pytest.mark.parametrize(
    ("counts", "width", "scale", "balance"),
    [
        ((9, 4, 1), 3, 0.3, 0.0),
        ((20, 11, 7, 3, 1), 2, 0.2, 0.0),  # too narrow for S
        ((40, 20, 10, 4, 2, 1), 8, 1e-4, 0.0),
        ((8, 8, 2, 2), 6, 0.3, -0.5),
        ((8, 8, 2, 2), 2, 0.1, -0.01),
        ((20, 11, 7, 3, 1), 6, 0.3, -5.0),
        ((8, 8, 2, 2), 3, 0.3, 0.7),
    ],
)
def test_the_riccati_solution_against_dop853(rng, counts, width, scale, balance):
    W, H = balanced_start(rng, width, counts, scale, balance)
    folds = 5 - np.log(scale)
    times = sum(counts) * np.concatenate([[0, 1e-3, 0.1], np.linspace(0.5, folds, 20)])
    found = exact.balanced_flow(times, W, H, counts, balance)
    expected = integrated([W, H], plain(counts), times)
    # errors of the integration (rtol 1e-12) grow with the modes that are learned last
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()
    backwards = exact.balanced_flow(times[::-1], W, H, np.array(counts), balance)
    np.testing.assert_array_equal(backwards[::-1], found)


@pytest.mark.parametrize(
    ("width", "scale", "balance"), [(6, 1e-20, 0.0), (2, 1e-20, 0.0), (6, 1e-3, -1e-3)]
)
def test_the_riccati_solution_to_its_last_digits(rng, width, scale, balance):
    """The formula as it stands in 400 digits, over all n samples, from starts whose late modes
    no integration in float64 can follow: roundings of the early ones are larger."""
    counts = (8, 4, 2, 1)
    k, n = 4, 15
    W, H = balanced_start(rng, width, counts, scale, balance)
    times = n * -2 * np.log(scale) * np.array([0.1, 0.2, 0.4, 0.6, 0.8, 1.2, 2.0])
    found = exact.balanced_flow(times, W, H, counts, balance)
    labels = np.repeat(np.arange(k), counts)
    with mp.workdps(400):
        F, half = mp.zeros(n + k), mp.mpf(balance) / 2
        for i in range(n):
            F[i, i] = -half
            for c in range(k):
                F[i, n + c] = F[n + c, i] = mp.mpf(int(labels[i] == c)) - mp.mpf(1) / k
        for c in range(k):
            F[n + c, n + c] = half
        rates, vectors = mp.eigsy(F)
        rows = vectors.T * mp.matrix(np.vstack([H.T, W]).tolist())
        for t, logits in zip(times, found, strict=True):
            t = mp.mpf(float(t)) / n
            phi = mp.diag([mp.expm1(2 * r * t) / (2 * r) if r else t for r in rates])
            grown = mp.diag([mp.exp(r * t) for r in rates]) * rows
            inner = mp.inverse(mp.eye(width) + rows.T * phi * rows)
            Q = vectors * grown
            Z = np.array((Q[n:, :] * inner * Q[:n, :].T).tolist(), dtype=float)
            expected = Z @ (membership(labels, k) / counts)
            # some dozen roundings, relative to what is learned by then
            np.testing.assert_allclose(
                logits, expected, rtol=0, atol=1e-13 * np.abs(expected).max()
            )
    if scale < 1e-9:  # e^(2 s t / n), in decades
        assert 2 * np.sqrt(counts[0]) * times[-1] / n / np.log(10) > FLOAT32_SQUARED


@pytest.mark.parametrize(
    ("width", "balance"), [(3, 0.0), (3, -0.3), (9, -0.3), (2, 0.0), (1, -0.1)]
)
def test_the_end_is_the_best_fit_of_its_rank(rng, width, balance):
    counts = (20, 20, 3, 3)
    W, H = balanced_start(rng, width, counts, 0.2, balance)
    n, root = sum(counts), np.sqrt(counts)
    left, values, right = np.linalg.svd((np.eye(4) - 0.25) * root)
    # not for width 1, where the two equal majority components share what they had at the start
    late = exact.balanced_flow(n * np.array([1e3, 1e6, 1e300]), W, H, counts, balance)
    np.testing.assert_allclose(late[2], late[1], atol=1e-14)
    if width > 1:
        best = (left[:, :width] * values[:width]) @ right[:width] / root
        np.testing.assert_allclose(late, np.broadcast_to(best, late.shape), atol=1e-14)
    assert np.linalg.matrix_rank(late[2], 1e-9) == min(width, 3)


def test_a_balanced_start_with_room_to_spare_ends_as_slowly_as_one_over_time(rng):
    counts = (8, 8, 2, 2)
    W, H = balanced_start(rng, 4, counts, 0.3)
    times = 20 * np.array([1e3, 1e6, 1e15])
    error = np.abs(exact.balanced_flow(times, W, H, counts) - (np.eye(4) - 0.25)).max(axis=(1, 2))
    assert error[0] * 1e3 == pytest.approx(error[1] * 1e6, rel=1e-2) and error[1] > 1e-10
    assert error[2] < 1e-14
    slow = integrated([W, H], plain(counts), times[:1])[0] - (np.eye(4) - 0.25)
    assert np.abs(slow).max() == pytest.approx(error[0], rel=1e-5)


def test_balanced_learning_times_reach_the_level(rng):
    counts = (20, 11, 7, 3, 1)
    components = spectral.label_spectrum(counts)
    for width, scale, level, balance in [
        (6, 0.2, 0.5, 0.0),
        (4, 1e-8, 0.9, 0.0),
        (6, 0.2, 0.3, -0.4),
    ]:
        W, H = balanced_start(rng, width, counts, scale, balance)
        found = exact.balanced_learning_times(W, H, counts, balance, level)
        grid = np.linspace(0, found.max() * 1.01, 2000)
        shares = spectral.strengths(
            exact.balanced_flow(grid, W, H, counts, balance) * counts, components
        )
        shares = shares / components.singular_values
        read = spectral.learning_times(grid, shares, level)
        np.testing.assert_allclose(found, read, atol=grid[1])
        sums = exact.balanced_flow(found, W, H, counts, balance) * counts
        reached = np.diag(spectral.strengths(sums, components)) / components.singular_values
        np.testing.assert_allclose(reached, level, atol=1e-10)


def test_what_is_never_learned_has_no_learning_time(rng):
    counts = (20, 11, 7, 3, 1)
    found = exact.balanced_learning_times(*balanced_start(rng, 2, counts, 1e-6), counts)
    np.testing.assert_array_equal(np.isnan(found), [False, False, True, True])
    nothing = exact.balanced_learning_times(np.zeros((5, 2)), np.zeros((2, 42)), counts)
    assert np.isnan(nothing).all()
    W, S = np.eye(5) - 0.2, simplex_labels(np.repeat(np.arange(5), counts), 5)
    left, values, right = np.linalg.svd(W @ S, full_matrices=False)
    W, H = left * np.sqrt(values), np.sqrt(values)[:, None] * right  # S itself, balanced
    np.testing.assert_array_equal(exact.balanced_learning_times(W, H, counts), 0)


def test_a_balanced_spectral_start_follows_the_sigmoid(rng):
    counts, scale = np.array([30, 10, 10, 2, 1]), 1e-5
    components = spectral.label_spectrum(counts)
    frame = np.linalg.qr(rng.normal(size=(7, 4)))[0]
    right = (components.left / components.singular_values)[np.repeat(np.arange(5), counts)]
    W, H = scale * components.left @ frame.T, scale * frame @ right.T
    rates, start = components.singular_values / 53, np.full(4, scale**2)
    times = np.linspace(0, 1500, 60)
    found = spectral.strengths(exact.balanced_flow(times, W, H, counts) * counts, components)
    expected = theory.sigmoid(times, rates, start, components.singular_values)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    learned = exact.balanced_learning_times(W, H, counts)
    predicted = theory.learning_time(rates, start / components.singular_values, "squared", 5)
    np.testing.assert_allclose(learned, predicted, rtol=1e-12)


@pytest.mark.parametrize("balance", [0.0, -0.2])
def test_a_grid_of_balanced_starts_is_each_of_them_alone(rng, balance):
    """Points of a grid differ in samples, in sizes of starts, in times and in levels; class means stand for features."""
    sizes, scales = [(40, 40, 4, 4, 4), (9, 7, 5, 2, 1)], np.array([1e-6, 1e-2, 0.3])
    starts = [[balanced_start(rng, 7, n, a, a * balance) for a in scales] for n in sizes]
    counts = np.array(sizes)[:, None]
    W = np.array([[start[0] for start in row] for row in starts])
    means = np.array(
        [
            [start[1] @ membership(np.repeat(np.arange(5), n), 5) / n for start in row]
            for n, row in zip(sizes, starts, strict=True)
        ]
    )
    balances, levels = balance * scales, np.array([0.5, 0.9])
    learned = exact.balanced_learning_times(
        W[..., None, :, :], means[..., None, :, :], counts[:, None], balances[:, None], levels
    )
    times = learned[..., 0, -1, None] * np.linspace(0, 2, 9)
    found = exact.balanced_flow(times, W, means, counts, balances)
    assert learned.shape == (2, 3, 2, 4) and found.shape == (2, 3, 9, 5, 5)
    for i, j in np.ndindex(2, 3):
        one_W, one_H = starts[i][j]
        alone = one_W, one_H, sizes[i], float(balances[j])
        expected = exact.balanced_flow(times[i, j], *alone)
        # What the means leave to the balance is known to roundings of all of it.
        np.testing.assert_allclose(found[i, j], expected, rtol=0, atol=1e-12)
        for m, level in enumerate(levels):
            one = exact.balanced_learning_times(*alone, level)
            np.testing.assert_allclose(learned[i, j, m], one, rtol=1e-11)


def test_starts_that_cannot_be_solved_are_refused(rng):
    counts, times = (4, 2, 1), np.array([0.0, 1.0])
    W, H = balanced_start(rng, 3, counts, 0.3)
    with pytest.raises(ValueError, match=r"^balance=0\.1: must be"):
        exact.balanced_flow(times, W, H, counts, 0.1)
    with pytest.raises(ValueError, match=r"^balance=0\.0: must be"):
        exact.balanced_learning_times(W, 1.001 * H, counts)
    with pytest.raises(ValueError, match=r"^shapes of W, H and counts=.*must be"):
        exact.balanced_flow(times, W, H, (4, 2, 2))
    with pytest.raises(ValueError, match=r"^times=.*must be finite and not negative$"):
        exact.balanced_flow(-times, W, H, counts)
    with pytest.raises(ValueError, match=r"^level=1"):
        exact.balanced_learning_times(W, H, counts, level=1.0)


@pytest.mark.parametrize("coupling", [0.0, 0.5])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_cross_component_of_spectral_runs(tiny, exponent, coupling):
    config = tiny(
        **PRECISE,
        init="spectral",
        weight_exponent=exponent,
        coupling=coupling,
        init_scale=1e-2,
        t1=90.0,
    )
    ds, problem = ssm.simulate(config), make_problem(config)
    cross = list(ds.component_block.values).index("cross")
    found = exact.cross_mode(ds.time.values, problem, config.init_scale**2)
    np.testing.assert_allclose(found, ds.strength[:, cross], rtol=0, atol=1e-9)  # 100 x rtol
    learned = exact.cross_learning_time(problem, config.init_scale**2)
    assert learned == pytest.approx(float(ds.learning_time[cross]), rel=1e-8)
    assert found[-1] == pytest.approx(float(ds.component_target[cross]), rel=1e-2)


@pytest.mark.parametrize("start", [1e-4, 1e-30, 1e-140])
def test_an_unweighted_cross_component_is_a_sigmoid(tiny, start):
    problem = make_problem(tiny())
    components = spectral.components(problem)
    cross = components.blocks == "cross"
    rates = theory.component_growth_rates(problem, components)[cross]
    target, starts = components.singular_values[cross], np.array([start])
    end = theory.learning_time(rates, starts / target, "squared", 4)[0]
    for growing in (False, True):
        learned = exact.cross_learning_time(problem, start, growing=growing)
        assert learned == pytest.approx(end, rel=1e-11)
        times = np.linspace(0, 1.5 * end, 40)[::-1]
        found = exact.cross_mode(times, problem, start, growing=growing)
        expected = theory.sigmoid(times, rates, starts, target)[:, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-9)  # 1e-13 a step, 320 e-folds


@pytest.mark.parametrize("exponent", [0.5, 1.0])
@pytest.mark.parametrize("coupling", [0.0, 0.5])
def test_any_small_start_tends_to_the_growing_direction(tiny, exponent, coupling):
    """From W = e u f^T, H = 0 half of x and none of the decaying half is left."""
    problem, scale = make_problem(tiny(weight_exponent=exponent, coupling=coupling)), 1e-6
    components = spectral.components(problem)
    cross = components.blocks == "cross"
    W = scale * components.left[:, cross] * np.array([[0.6, 0.8]])
    growing = exact.cross_learning_time(problem, scale**2 / 4, growing=True)
    assert growing != pytest.approx(exact.cross_learning_time(problem, scale**2 / 4), rel=1e-4)
    times = growing * np.array([0, 0.9, 1.0, 1.1])
    logits = integrated([W, np.zeros((2, problem.counts.sum()))], problem, times)
    found = exact.cross_mode(times, problem, scale**2 / 4, growing=True)
    expected = spectral.strengths(logits * problem.counts, components)[:, cross][:, 0]
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-8)  # what decays is left out
    assert found[2] == pytest.approx(components.singular_values[cross][0] / 2, rel=1e-10)


def test_problems_and_levels_without_a_cross_mode_are_refused(tiny):
    problem = make_problem(tiny(profile="long_tailed"))
    with pytest.raises(ValueError, match=r"^problem=.*must be two groups"):
        exact.cross_mode(np.zeros(1), problem, 1e-6)
    step = make_problem(tiny())
    with pytest.raises(ValueError, match=r"^start=0"):
        exact.cross_mode(np.zeros(1), step, 0.0)
    with pytest.raises(ValueError, match=r"^level=1"):
        exact.cross_learning_time(step, 1e-6, 1.0)
    assert exact.cross_learning_time(step, 10.0) == 0
    assert exact.cross_mode(np.zeros(2), step, 1e-6) == pytest.approx([1e-6, 1e-6])


RATES, START, TARGET = (
    np.array([0.3, 0.03, 1.0]),
    np.array([1e-4, 1e-3, 0.9]),
    np.array([2, 1, 3.0]),
)


def test_one_and_two_factors_have_closed_forms():
    times = np.linspace(0, 300, 50)
    kernel = np.array([1.0, 4.0, 9.0])
    one = exact.deep_mode(times, RATES, START, TARGET, 1, kernel)
    speed = RATES * np.sqrt(kernel) / TARGET  # w kappa / n
    expected = TARGET + (START - TARGET) * np.exp(-np.outer(times, speed))
    np.testing.assert_allclose(one, expected, rtol=1e-13)
    two = exact.deep_mode(times, RATES, START, TARGET, 2, kernel)
    np.testing.assert_allclose(two, theory.sigmoid(times, RATES, START, TARGET), rtol=1e-13)
    np.testing.assert_allclose(
        exact.deep_learning_time(RATES, START, TARGET, 2),
        theory.learning_time(RATES, START / TARGET, "squared", 4),
        rtol=1e-13,
    )


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_deep_learning_times_reach_the_level(depth):
    kernel = np.array([1.0, 4.0, 9.0])
    for level in (0.2, 0.5, 0.999):
        learned = exact.deep_learning_time(RATES, START, TARGET, depth, kernel, level)
        found = exact.deep_mode(learned, RATES, START, TARGET, depth, kernel)
        reached = np.diag(found) / TARGET
        np.testing.assert_allclose(reached, np.maximum(level, START / TARGET), rtol=1e-8)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("exponent", "coupling"), [(0.0, 0.0), (1.0, 0.3)])
def test_deep_modes_against_all_factors(rng, tiny, depth, exponent, coupling):
    """From a balanced spectral start of every factor; under weights or coupling only contrasts
    within a group are modes by themselves."""
    problem, scale = make_problem(tiny(weight_exponent=exponent, coupling=coupling)), 0.4
    components = spectral.components(problem)
    own = (components.blocks != "cross") | (exponent == coupling == 0)
    kernel = (components.left**2 * problem.kernel_eigenvalues[:, None]).sum(axis=0)
    frames = [components.left] + [
        np.linalg.qr(rng.normal(size=(5, 3)))[0] for _ in range(depth - 1)
    ]
    root = np.sqrt(kernel)
    right = (components.left / components.singular_values * root)[problem.labels]
    layers = [scale * a @ b.T for a, b in itertools.pairwise(frames)]
    factors = [*layers, scale * frames[-1] @ right.T]
    if not own.all():  # what is not a mode is left out, for it moves nothing else
        components = components._replace(
            left=components.left[:, own],
            singular_values=components.singular_values[own],
            blocks=components.blocks[own],
        )
    times = np.linspace(0, 150, 30)
    logits = integrated(factors, problem, times)
    found = exact.deep_mode(
        times,
        theory.component_growth_rates(problem, components),
        root[own] * scale**depth,
        components.singular_values,
        depth,
        kernel[own],
    )
    expected = spectral.strengths(logits * problem.counts, components)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)  # steps of 1e-12
    assert (found[-1] > 0.9 * components.singular_values).any()


def test_deep_modes_at_the_ends_of_time():
    times = np.array([1e9, 0.0, 1e6])
    found = exact.deep_mode(times, RATES, START, TARGET, 3)
    np.testing.assert_allclose(found, [TARGET, START, TARGET], rtol=1e-11)
    np.testing.assert_allclose(exact.deep_mode(times[1:2], RATES, START, TARGET, 3), START[None])
    with pytest.raises(ValueError, match=r"^depth=0"):
        exact.deep_mode(times, RATES, START, TARGET, 0)
    with pytest.raises(ValueError, match=r"^start=.*must be positive$"):
        exact.deep_mode(times, RATES, 0 * START, TARGET, 3)
    with pytest.raises(ValueError, match=r"^times=.*must be finite and not negative$"):
        exact.deep_mode(-times, RATES, START, TARGET, 3)
