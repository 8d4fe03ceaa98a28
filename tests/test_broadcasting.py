"""What theory says of an array of numbers is what it says of each of them: a heat map needs no loop."""

import mpmath as mp
import numpy as np
import pytest
from marks import UNCHECKED

import ssm
from ssm import Config, exact, regularised, spectral, step, theory
from ssm.problem import make_problem
from ssm.theory import deferral

ROUNDING = 1e-12  # sums over classes in another order, times growth by up to e^20
TIED = {"coupling": 0.3, "between_coupling": 0.1, "bias": "both"}


@pytest.mark.parametrize("fields", [{}, {"coupling": 0.3}, TIED])
def test_early_phases_of_a_grid_are_those_of_its_problems(rng, fields):
    ratios, exponents, times = (
        np.array([1.0, 4.0]),
        np.array([0.0, 0.7]),
        np.array([0.0, 9.0, 60.0]),
    )
    W, M = 0.01 * rng.normal(size=(3, 1, 1, 4, 6)), 0.01 * rng.normal(size=(3, 1, 1, 6, 4))
    grid = step.grid(ratios[:, None], exponents, num_classes=4, **fields)
    curves = theory.block_curves(W, M, grid, step.components(grid), times)
    logits = theory.linear_phase(W, M, grid, times)
    assert curves.shape == (3, 2, 2, 3, 3) and logits.shape == (3, 2, 2, 3, 4, 4)
    for s, i, j in np.ndindex(3, 2, 2):
        config = Config(
            num_classes=4,
            imbalance_ratio=float(ratios[i]),
            weight_exponent=float(exponents[j]),
            **fields,
        )
        problem = make_problem(config)
        start, components = (W[s, 0, 0], M[s, 0, 0]), spectral.components(problem)
        one = theory.block_curves(*start, problem, components, times)
        np.testing.assert_allclose(curves[s, i, j], one, rtol=ROUNDING)
        one = theory.linear_phase(*start, problem, times)
        np.testing.assert_allclose(logits[s, i, j], one, atol=ROUNDING * np.abs(one).max())


def test_own_times_of_an_early_phase(rng):
    W, M = 0.01 * rng.normal(size=(4, 6)), 0.01 * rng.normal(size=(6, 4))
    problem = make_problem(Config(num_classes=4, imbalance_ratio=4))
    components, times = spectral.components(problem), np.array([[0.0, 5.0], [20.0, 50.0]])
    curves = theory.block_curves(W, M, problem, components, times)
    logits = theory.linear_phase(W, M, problem, times)
    for i, own in enumerate(times):
        one = theory.block_curves(W, M, problem, components, own)
        np.testing.assert_array_equal(curves[i], one)
        np.testing.assert_array_equal(logits[i], theory.linear_phase(W, M, problem, own))


@UNCHECKED
def test_levels_broadcast():
    """Newton iterations stop when all points are there: some roundings."""
    grid, levels = step.grid([2.0, 30.0], 0.5), np.array([0.2, 0.5, 0.9])
    each = levels[:, None]
    for times in (
        lambda level: step.learning_times(grid, 1e-6, level),
        lambda level: exact.cross_learning_time(grid, 1e-6, level),
        lambda level: exact.cross_entropy_learning_times(grid, 1e-6, level),
        lambda level: exact.cross_entropy_class_times(grid, 1e-6, level),
    ):
        one_by_one = np.stack([times(float(level)) for level in levels])
        np.testing.assert_allclose(times(each), one_by_one, rtol=ROUNDING)
    rates, starts = np.array([0.1, 0.2]), np.array([1e-6, 1e-3])
    for depth in (1, 2, 3):
        arguments = (rates, starts, np.array([3.0, 1.0]), depth, 1.0)
        found = exact.deep_learning_time(*arguments, each)
        one_by_one = [exact.deep_learning_time(*arguments, float(level)) for level in levels]
        np.testing.assert_array_equal(found, one_by_one)


def test_numbers_of_classes_and_levels_of_learning_times_broadcast():
    rate, share = np.array([0.1]), np.array([1e-6])
    for learned in (
        lambda k, level: theory.learning_time(rate, share, "cross_entropy", k, level),
        lambda k, level: theory.unbalanced_learning_time(0.1, 0.3, "cross_entropy", k, level),
    ):
        found = np.asarray(learned(np.array([[3], [10]]), np.array([0.3, 0.5])))
        for i, j in np.ndindex(2, 2):
            assert found[i, j] == learned((3, 10)[i], (0.3, 0.5)[j])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_deep_modes_have_own_times(depth):
    rates, starts, target = np.array([0.1, 0.2]), np.array([1e-2, 1e-3]), np.array([3.0, 1.0])
    times = np.array([[0.0, 10.0, 30.0], [40.0, 5.0, 80.0]])
    found = exact.deep_mode(times, rates, starts, target, depth)
    one_by_one = [exact.deep_mode(own, rates, starts, target, depth) for own in times]
    np.testing.assert_allclose(found, one_by_one, rtol=ROUNDING)


def test_ramps_and_starts_of_weights_broadcast():
    ramps, starts = np.array([[0.0], [7.0], [300.0]]), np.array([0.0, 20.0])
    for of_time in (deferral.effective_time, deferral.deferred_learning_time):
        found = of_time(50.0, 2.5, starts, ramps)
        for i, j in np.ndindex(3, 2):
            assert found[i, j] == of_time(50.0, 2.5, float(starts[j]), float(ramps[i, 0]))
    erm, weights = np.array([[30.0, 70.0], [10.0, 90.0]]), np.array([0.5, 4.0])
    assert deferral.balancing_start(erm, weights).tolist() == [
        deferral.balancing_start(own, weights) for own in erm
    ]
    assert deferral.earliest_end(erm, np.array([9, 1])).tolist() == pytest.approx([34.0, 18.0])


def problems_of(grid_axes, **fields):
    """One problem at a time of a grid of ratios and exponents, with its place."""
    for place in np.ndindex(*(len(values) for values in grid_axes)):
        R, g = (float(values[i]) for values, i in zip(grid_axes, place, strict=True))
        config = Config(num_classes=4, imbalance_ratio=R, weight_exponent=g, **fields)
        yield place, make_problem(config)


@UNCHECKED
def test_numbers_of_classes_and_shares_of_minorities_broadcast():
    k, rho, R = np.array([3, 10, 10, 2]), np.array([0.4, 0.5, 0.25, 0.5]), np.array([[1.0], [20.0]])
    grid = step.grid(R, 0.5, 0.2, num_classes=k, minority_fraction=rho)
    times = np.array([1.0, 40.0, 300.0])
    found = step.curves(times, grid, 1e-4), step.learning_times(grid, 1e-4)
    crossed = exact.cross_entropy_learning_times(grid, 1e-4)
    for i, j in np.ndindex(2, 4):
        fields = {"num_classes": int(k[j]), "minority_fraction": float(rho[j])}
        one = step.grid(float(R[i, 0]), 0.5, 0.2, **fields)
        np.testing.assert_allclose(found[0][i, j], step.curves(times, one, 1e-4), rtol=1e-9)
        np.testing.assert_allclose(found[1][i, j], step.learning_times(one, 1e-4), rtol=1e-9)
        one = exact.cross_entropy_learning_times(one, 1e-4)
        np.testing.assert_allclose(crossed[i, j], one, rtol=1e-9)
    with pytest.raises(ssm.InputError, match="sizes="):
        step.components(grid)
    with pytest.raises(ssm.InputError, match="num_classes="):
        step.grid(2.0, num_classes=[3, 2.5])


def test_growing_starts_of_a_grid_are_those_of_its_problems(rng):
    axes = np.array([1.0, 7.0]), np.array([0.0, 0.7])
    W, M = 1e-3 * rng.normal(size=(3, 1, 1, 4, 6)), 1e-3 * rng.normal(size=(3, 1, 1, 6, 4))
    grid = step.grid(axes[0][:, None], axes[1], 0.3, num_classes=4)
    found = exact.growing_start(W, M, grid)
    for (i, j), problem in problems_of(axes, coupling=0.3):
        for s in range(3):
            one = exact.growing_start(W[s, 0, 0], M[s, 0, 0], problem)
            for name in ("contrasts", "classifier", "features"):
                np.testing.assert_allclose(
                    getattr(found, name)[s, i, j], getattr(one, name), rtol=ROUNDING
                )
    times = exact.cross_entropy_learning_times(grid, found)
    assert times.shape == (3, 2, 2, 3) and np.isfinite(times).all()
    with pytest.raises(ssm.InputError, match="common="):
        exact.growing_start(W, M, step.grid(axes[0], bias="hidden", num_classes=4))
    with pytest.raises(ssm.InputError, match="bias="):
        exact.growing_start(W, M, step.grid(axes[0], bias="output", num_classes=4))


@pytest.mark.parametrize("coupling", [0.0, 0.4])
def test_ends_under_decay_of_a_grid_are_those_of_its_problems(coupling):
    axes, decays = (
        (np.array([1.0, 9.0]), np.array([0.0, 1.0])),
        np.array([0.0, 1e-9, 0.01, 0.03, 5.0]),
    )
    grid = step.grid(axes[0][:, None, None], axes[1][:, None], coupling, num_classes=4)
    found = regularised.cross_strengths(grid, decays, 2 * decays)
    deep = np.asarray(regularised.deep_cross_strength(grid, decays, 2 * decays, 3))
    strength = np.asarray(found.strength)
    assert found.row.shape == (2, 2, 5, 2) and strength.shape == deep.shape == (2, 2, 5)
    for place, problem in problems_of(axes, coupling=coupling):
        for i, decay in enumerate(decays.tolist()):
            one = regularised.cross_strengths(problem, decay, 2 * decay)
            np.testing.assert_allclose(found.row[place][i], one.row, rtol=ROUNDING)
            np.testing.assert_allclose(strength[place][i], one.strength, rtol=ROUNDING)
            one = regularised.deep_cross_strength(problem, decay, 2 * decay, 3)
            np.testing.assert_allclose(deep[place][i], one, rtol=ROUNDING)
    assert (strength[..., -1] == 0).all() and (deep[..., -1] == 0).all()
    targets = np.linalg.norm(grid.cross_targets, axis=-1)
    np.testing.assert_allclose(strength[..., 0], targets[..., 0], rtol=ROUNDING)
    # stationary: |pull / (w kappa q + n lambda)| = 1 with q the length of z / sqrt(kappa)
    s, w, kappa = exact.cross_parts(grid)
    length = np.linalg.norm(found.row / np.sqrt(kappa), axis=-1, keepdims=True)
    least = np.asarray(grid.num_samples)[..., None] * np.sqrt(2) * decays[:, None]
    share = np.linalg.norm(np.sqrt(kappa) * w * s / (w * kappa * length + least), axis=-1)
    kept = (strength > 0) & (decays > 0)
    assert kept.sum() > 8
    np.testing.assert_allclose(share[kept], 1, rtol=ROUNDING)


@pytest.mark.parametrize("depth", [3, 4, 9])
def test_ends_of_deep_components_solve_their_equation(depth):
    """(1 - z) z^(1 - 2 / L) = c up to the largest c that has a root, where the two roots meet."""
    limit = regularised.squared_threshold(2.0, 20, depth)
    decays = limit * np.array([[1e-12, 1e-3, 0.5, 0.99], [1 - 1e-9, 1 - 1e-15, 1 + 1e-9, 3.0]])
    z = regularised.squared_strength(2.0, 20, decays, decays, depth) / 2
    assert (z.ravel()[-2:] == 0).all() and (z.ravel()[:-2] >= (depth - 2) / (2 * depth - 2)).all()
    c = 20 * decays * 2.0 ** (2 / depth - 2)
    left = ((1 - z) * z ** (1 - 2 / depth)).ravel()[:-2]
    np.testing.assert_allclose(left, c.ravel()[:-2], rtol=ROUNDING, atol=1e-15)  # z is rounded


def test_modes_that_overlap_take_grids(rng):
    rates = np.array([[2.0, 2.0, 0.3], [1.0, 1.0, 1.0]])[:, None]
    damping = np.repeat([[0.0], [0.5]], 3, axis=1)
    rows = 1e-3 * rng.normal(size=(2, 3, 4))
    gram, levels = rows @ rows.swapaxes(1, 2), np.array([0.5, 0.8])
    found = theory.overlapping_learning_times(rates, damping, gram, 1.0, levels)
    assert found.times.shape == (2, 2, 3)
    for i, j in np.ndindex(2, 2):
        alone = (rates[i, 0], damping[j], gram[j], 1.0, float(levels[j]))
        one = theory.overlapping_learning_times(*alone)
        np.testing.assert_allclose(found.first[i, j], one.first, rtol=ROUNDING)
        # Modes that are alike at one point only look at times of their own: all straight lines between these.
        np.testing.assert_allclose(found.times[i, j], one.times, rtol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3, 7])
def test_learning_times_of_many_layers_are_their_integral(depth):
    """t = int da / a', by quadrature of 30 digits."""
    levels, starts = np.array([0.3, 0.999]), np.array([1e-8, 0.1, 0.5])
    found = exact.deep_learning_time(
        np.full(3, 0.7), starts, np.ones(3), depth, 1.0, levels[:, None]
    )
    for i, j in np.ndindex(2, 3):
        first, end = min(starts[j], levels[i]) ** (1 / depth), levels[i] ** (1 / depth)
        with mp.workdps(30):
            nodes = [mp.mpf(x) for x in np.geomspace(first, end, 12)]
            whole = mp.quad(lambda g: g ** (1 - depth) / (1 - g**depth), nodes)
        np.testing.assert_allclose(found[i, j], float(whole / mp.mpf(0.7)), rtol=1e-11)
