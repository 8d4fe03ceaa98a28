"""STEP in closed form over grids: against the library's problems, and against SciPy point by point."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ssm import Config, InputError, exact, predictions, spectral, step, theory
from ssm.problem import make_problem

R = np.array([1.0, 3.0, 40.0])[:, None, None]
G = np.array([0.0, 0.5, 1.2])[None, :, None]
C = np.array([0.0, 0.05, 1.0])[None, None, :]


def problems(**fields):
    """The problem of every point of the grid, one by one."""
    for index in np.ndindex(3, 3, 3):
        config = Config(
            imbalance_ratio=float(R[index[0], 0, 0]),
            weight_exponent=float(G[0, index[1], 0]),
            coupling=float(C[0, 0, index[2]]),
            **fields,
        )
        yield index, config, make_problem(config)


def test_a_grid_has_the_problems_of_its_configs():
    fields = {"num_classes": 7, "minority_fraction": 0.3, "minority_count": 3}
    found = step.grid(R, G, C, **fields)
    rates = step.growth_rates(found)
    assert found.counts.shape == (3, 3, 3, 2) and rates.shape == (3, 3, 3, 3)
    for index, _, problem in problems(**fields):
        for own, other in zip(step.step_of(problem)[:5], found[:5], strict=True):
            np.testing.assert_allclose(other[index], own, rtol=1e-14)
        components = spectral.components(problem)
        each = theory.component_growth_rates(problem, components)
        np.testing.assert_allclose(
            rates[index], spectral.block_means(each, components.blocks), rtol=1e-12
        )


def test_a_point_alone_is_that_of_its_grid():
    """The cross block's steps and Newton iterations are each point's own but for the number of iterations:
    1e-12 is some of their rounding."""
    whole, times = step.grid(R, G, C), np.linspace(0, 400, 9)
    curves, learned = step.curves(times, whole, 1e-6), step.learning_times(whole, 1e-6)
    assert curves.shape == (3, 3, 3, 9, 3) and learned.shape == (3, 3, 3, 3)
    own = step.curves(np.broadcast_to(times, (3, 3, 3, 9)), whole, np.full((3, 1, 1), 1e-6))
    np.testing.assert_array_equal(own, curves)
    for index, config, problem in problems():
        if index[1] != 1:
            continue
        one = step.step_of(problem)
        np.testing.assert_allclose(step.curves(times, one, 1e-6), curves[index], rtol=1e-12)
        np.testing.assert_allclose(step.learning_times(one, 1e-6), learned[index], rtol=1e-12)
        config = dataclasses.replace(config, loss="squared", init="spectral", init_scale=1e-3)
        components = spectral.components(problem)
        wanted = predictions.predicted_learning_times(config, problem, components)
        blocks = spectral.block_means(wanted, components.blocks)
        known = np.isfinite(blocks)
        np.testing.assert_allclose(learned[index][known], blocks[known], rtol=1e-11)


def by_scipy(problem, start, times, growing, method="DOP853"):
    """x, a, b of `exact.cross_mode` by DOP853."""
    s, w, kappa = exact.cross_parts(problem)
    n = problem.num_samples

    def field(_, state):
        force = w / n * (s - state[0] * state[1:])
        return np.append(force @ state[1:], kappa * force * state[0])

    along = kappa * s * (w if growing else 1)
    along = along / np.linalg.norm(along / np.sqrt(kappa))
    first = np.sqrt(start) * np.append(1.0, along)
    found = solve_ivp(
        field, (0, times[-1]), first, method, times, rtol=1e-12, atol=1e-14 * np.abs(first).min()
    )
    return found.y[0] * (s @ found.y[1:]) / np.linalg.norm(s)


POINTS = [
    (1.0, 0.7, 0.4, 1e-6),
    (27.3, 1.31, 0.02, 1e-6),
    (311.0, 0.22, 1.0, 1e-2),
    (8.5, -0.6, 0.3, 1e-30),
    (640.0, 0.85, 0.0, 1e-12),
    (1e9, 0.0, 0.0, 1e-6),
    (1e5, 0.5, 0.0, 1e-6),
    (1e9, 0.9, 1.0, 1e-6),
]


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize(("ratio", "exponent", "coupling", "start"), POINTS)
def test_cross_curves_against_scipy(ratio, exponent, coupling, start, growing, untyped):
    """1e-9 of the singular value, of which errors of SciPy's steps are a part."""
    one = step.grid(ratio, exponent, coupling)
    learned = exact.cross_learning_time(one, start, growing=growing)
    times = learned * np.array([0.0, 0.3, 0.9, 1.0, 1.05, 1.5, 2.0])
    found = exact.cross_mode(times, one, start, growing=growing)
    expected = by_scipy(one, start, times, growing)
    size = float(np.linalg.norm(one.cross_targets))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * size)
    assert found[3] == pytest.approx(size / 2, rel=1e-10)


def test_rates_that_are_decades_apart(untyped):
    """What explicit steps cannot follow, against SciPy's Radau at its tightest useful tolerance."""
    one, start = step.grid([1e6, 1e9], 1.5), 1e-6
    learned = np.asarray(exact.cross_learning_time(one, start))
    times = learned[:1] * np.array([0.01, 0.5, 1.0, 2.0])
    found = exact.cross_mode(times, one, start)[0]
    expected = by_scipy(step.grid(1e6, 1.5), start, times, False, "Radau")
    size = np.linalg.norm(one.cross_targets, axis=-1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * size[0])
    end = exact.cross_mode(1e3 * learned[:, None], one, start)[:, 0]
    np.testing.assert_allclose(end, size, rtol=1e-9)


def test_numbers_that_no_config_may_have_are_refused():
    for name, arguments in (
        ("imbalance_ratio", (0.5,)),
        ("weight_exponent", (2.0, np.nan)),
        ("coupling", (2.0, 0.0, [0.0, 1.1])),
    ):
        with pytest.raises(InputError, match=f"^{name}="):
            step.grid(*arguments)
    with pytest.raises(InputError, match=r"^minority_fraction="):
        step.grid(2.0, num_classes=3, minority_fraction=0.1)
    with pytest.raises(InputError, match=r"^start="):
        step.curves(np.zeros(1), step.grid(2.0), 0.0)
    alone = step.curves(np.array([1.0]), step.grid(2.0, num_classes=2), 1e-3)
    np.testing.assert_array_equal(np.isnan(alone), [[True, False, True]])


def test_exponents_and_ratios_broadcast():
    counts = np.array([[8], [200]])
    found = np.asarray(theory.balancing_exponent(counts, 2, [0.0, 0.03, 1.0]))
    for i, j in np.ndindex(2, 3):
        assert found[i, j] == theory.balancing_exponent(int(counts[i, 0]), 2, [0.0, 0.03, 1.0][j])
    assert np.isnan(theory.margin_exponent([5, 6], 5, 0.5)).tolist() == [True, False]
    ratios = theory.learning_time_ratio([[4.0], [9.0]], 0.0, [0, 1])
    np.testing.assert_allclose(ratios, [[2, 4], [3, 9]], rtol=1e-15)
