"""Ends under weight decay against flows and L-BFGS over all factors, which know no formula."""

import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

from ssm import exact, regularised, spectral
from ssm.problem import make_problem, membership, simplex_labels

FACTORS = [(2, 1.0), (3, 1.0), (4, 1.0), (3, 2.5), (2, 0.4), (5, 0.4)]  # depth, weight


def minimum(objective, start):
    """The minimum near `start` of an objective that also returns its gradient."""
    options = {"ftol": 0, "gtol": 1e-13, "maxiter": 50_000, "maxfun": 100_000, "maxcor": 50}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x


def end_of_factors(problem, factors, decays, cross_entropy=False):
    """Class-mean logits at the minimum that `factors`, W first and features last, lead to."""
    labels, n, k = problem.labels, problem.counts.sum(), len(problem.counts)
    sample_weights = problem.class_weights[labels] / n
    Y, S = membership(labels, k).T, simplex_labels(labels, k)
    c, same = float(problem.coupling), labels[:, None] == labels
    values, vectors = np.linalg.eigh((1 - c) * np.eye(n) + c * same)
    root = (vectors * np.sqrt(values)) @ vectors.T  # features are the last factor times K^(1/2)
    ends = np.cumsum([factor.size for factor in factors])[:-1]

    def unpack(state):
        parts = np.split(state, ends)
        return [part.reshape(factor.shape) for part, factor in zip(parts, factors, strict=True)]

    def objective(state):
        now = unpack(state)
        left, right = [np.eye(k)], [root]
        for factor in now:
            left.append(left[-1] @ factor)
        for factor in reversed(now):
            right.insert(0, factor @ right[0])
        Z = left[-1] @ root
        if cross_entropy:
            top = Z.max(axis=0)
            log_sum = np.log(np.exp(Z - top).sum(axis=0)) + top
            values, G = log_sum - (Z * Y).sum(axis=0), np.exp(Z - log_sum) - Y
        else:
            values, G = 0.5 * ((Z - S) ** 2).sum(axis=0), Z - S
        value = sample_weights @ values
        slopes = []
        for i, (factor, decay) in enumerate(zip(now, decays, strict=True)):
            value += decay / 2 * (factor**2).sum()
            slope = left[i].T @ (G * sample_weights) @ right[i + 1].T + decay * factor
            slopes.append(slope.ravel())
        return value, np.concatenate(slopes)

    found = unpack(minimum(objective, np.concatenate([factor.ravel() for factor in factors])))
    return np.linalg.multi_dot([*found, root]) @ (membership(labels, k) / problem.counts)


def large_start(rng, problem, depth, width=5):
    """Factors whose product is near S, and everything else not far from 0."""
    left, values, right = np.linalg.svd(simplex_labels(problem.labels, len(problem.counts)))
    root = np.pad(np.diag(values ** (1 / depth)), ((0, 1), (0, 1)))
    frames = [left] + [np.linalg.qr(rng.normal(size=(width, 4)))[0] for _ in range(depth - 1)]
    frames.append(right[:4].T)
    return [
        a @ root[:4, :4] @ b.T + 0.02 * rng.normal(size=(len(a), len(b)))
        for a, b in itertools.pairwise(frames)
    ]


@pytest.mark.parametrize(
    ("depth", "weight"),
    [
        pytest.param(*case, marks=[] if case in FACTORS[::2] else pytest.mark.slow)
        for case in FACTORS
    ],
)
def test_the_flow_of_one_mode_ends_at_its_strength(depth, weight):
    """Each factor free, from a large start. A minimiser may step over an end near the threshold."""
    s, n = np.sqrt(8.0), 20
    limit = regularised.squared_threshold(s, n, depth, weight)
    for share in (0.1, 0.6, 0.97):
        decay_W, decay_H = share * limit * 3 ** (1 / depth), share * limit * 3 ** (1 / depth - 1)
        decays = np.append(np.full(depth - 1, decay_W), decay_H)

        def field(_, factors, decays=decays):
            product = factors.prod()
            return weight / n * (s - product) * product / factors - decays * factors

        start = s ** (1 / depth) * np.linspace(0.95, 1.05, depth)
        flow = solve_ivp(field, (0, 1e6), start, "Radau", rtol=1e-10, atol=1e-12)
        found = regularised.squared_strength(s, n, decay_W, decay_H, depth, weight)
        assert found == pytest.approx(flow.y[:, -1].prod(), abs=1e-9)
        pull = weight / n * (s - found) * found ** (1 - 2 / depth)
        assert pull == pytest.approx(share * limit, rel=1e-12)  # it is stationary


@pytest.mark.parametrize(("depth", "weight"), FACTORS)
def test_the_root_in_x_is_the_root_in_z(depth, weight):
    """The published form, M = depth - 1 layers beside the features."""
    s, n, M = np.sqrt(np.array([50.0, 5.0, 2.0])), 110, depth - 1
    decays = (2e-3, 5e-4)
    z = regularised.squared_strength(s, n, *decays, depth, weight) / s
    z = z[z > 0]
    x = (z / (1 - z)) ** (1 / M)
    b = M * n / weight * (n / weight * decays[0] ** M * decays[1]) ** (1 / M)
    np.testing.assert_allclose(M * x ** (M - 1) / (x**M + 1) ** 2, b / s[: len(z)] ** 2, rtol=1e-11)
    # the largest root lies beyond the maximum of the right side
    assert len(z) and (x**M >= (M - 1) / (M + 1)).all()
    lam = regularised.squared_threshold(s, n, depth, weight)
    b = M * n / weight * (n / weight * lam**depth) ** (1 / M)
    peak = ((M - 1) / (M + 1)) ** ((M - 1) / M) * (M + 1) ** 2 / (4 * M)
    np.testing.assert_allclose(b / s**2, peak, rtol=1e-13)


@pytest.mark.parametrize(("depth", "weight"), FACTORS)
def test_collapse_begins_at_the_threshold(depth, weight):
    s, n = np.array([7.0, 1.3]), 110
    limit = regularised.squared_threshold(s, n, depth, weight)

    def strength(decay):
        return regularised.squared_strength(s, n, decay, decay, depth, weight)

    below, above = strength(limit * (1 - 1e-9)), strength(limit * (1 + 1e-9))
    np.testing.assert_array_equal(above, 0)
    np.testing.assert_allclose(below / s, (depth - 2) / (2 * depth - 2), atol=1e-4)
    assert (below > 0).all()
    if depth == 2:
        np.testing.assert_allclose(
            limit, regularised.collapse_threshold(s**2, n, weight), rtol=1e-14
        )


def test_the_kept_strength_is_the_lower_minimum_down_to_a_known_share():
    """At z = (L - 2) / (L - 1) the objective is that of 0: half the squared target."""
    for depth in (3, 4, 6):
        z, s, n = (depth - 2) / (depth - 1), 2.0, 10
        lam = (1 - z) * z ** (1 - 2 / depth) * s ** (2 - 2 / depth) / n
        a = regularised.squared_strength(s, n, lam, lam, depth)
        assert a == pytest.approx(s * z, rel=1e-12)
        objective = (s - a) ** 2 / (2 * n) + depth * lam / 2 * a ** (2 / depth)
        assert objective == pytest.approx(s**2 / (2 * n), rel=1e-12)


def test_features_alone_shrink_and_no_decay_changes_nothing():
    s = np.array([3.0, 0.5])
    alone = regularised.squared_strength(s, 20, 7.0, 0.1, depth=1, class_weight=2.0)
    np.testing.assert_allclose(alone, s / 2, rtol=1e-15)
    assert (regularised.squared_threshold(s, 20, 1) == np.inf).all()
    for depth in (1, 2, 3, 5):
        kept = regularised.squared_strength(s, 20, 0.0, 0.0, depth)
        np.testing.assert_array_equal(kept, s)
    tiny = regularised.squared_strength(1.0, 1, 1e-14, 1e-14, 3)
    assert 1 - tiny == pytest.approx(1e-14, rel=0.05)


@pytest.mark.parametrize("depth", [2, 3])
def test_strengths_of_all_components_against_all_factors(rng, tiny, depth):
    """Unweighted. The minority contrasts collapse at 0.071 for two factors, at 0.037 for three."""
    problem = make_problem(tiny())
    components = spectral.components(problem)
    for decay in (0.02, 0.04, 0.08):
        decays = [2 * decay] * (depth - 1) + [decay / 2 ** (depth - 1)]
        logits = end_of_factors(problem, large_start(rng, problem, depth), decays)
        found = spectral.strengths(logits * problem.counts, components)
        expected = regularised.squared_strength(
            components.singular_values, 20, decays[0], decays[-1], depth
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (expected == 0).any() and (expected > 0).any()


@pytest.mark.parametrize(
    ("exponent", "coupling"), [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.5), (1.0, 0.5)]
)
def test_weighted_and_coupled_components_against_both_factors(rng, tiny, exponent, coupling):
    problem = make_problem(tiny(weight_exponent=exponent, coupling=coupling))
    components = spectral.components(problem)
    cross = components.blocks == "cross"
    target = components.singular_values
    weights = (components.left**2).T @ problem.class_weights
    kernel = (components.left**2).T @ problem.kernel_eigenvalues
    for decay in (0.01, 0.05):
        logits = end_of_factors(problem, large_start(rng, problem, 2), [decay * 3, decay / 3])
        found = spectral.strengths(logits * problem.counts, components)
        expected = np.asarray(
            regularised.squared_strength(
                target, 20, decay * 3, decay / 3, class_weight=weights, kernel=kernel
            )
        )
        np.testing.assert_allclose(found[~cross], expected[~cross], atol=1e-6)
        end = regularised.cross_strengths(problem, decay * 3, decay / 3)
        assert end.strength == pytest.approx(found[cross][0], abs=1e-6)
        left = components.left[:, cross][:, 0]
        row = left @ logits * problem.counts  # sums over the samples of each class
        groups = np.array([row[:2].sum() / np.sqrt(16), row[2:].sum() / np.sqrt(4)])
        np.testing.assert_allclose(end.row, groups * np.sign(left[0]), atol=1e-6)
        if exponent == coupling == 0:
            assert end.strength == pytest.approx(expected[cross][0], rel=1e-13)


def test_coupled_contrasts_of_three_factors_against_all_of_them(rng, tiny):
    problem = make_problem(tiny(weight_exponent=0.5, coupling=0.5))
    components = spectral.components(problem)
    weights, kernel = problem.class_weights[[0, 3]], problem.kernel_eigenvalues[[0, 3]]
    logits = end_of_factors(problem, large_start(rng, problem, 3), [0.04, 0.04, 0.02])
    found = spectral.strengths(logits * problem.counts, components)[[0, 2]]
    expected = regularised.squared_strength(np.sqrt([8, 2]), 20, 0.04, 0.02, 3, weights, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (expected > 0).all()


def test_the_deep_cross_component_is_stationary_and_that_of_two_factors(rng, tiny):
    problem = make_problem(tiny(weight_exponent=0.5))
    components = spectral.components(problem)
    logits = end_of_factors(problem, large_start(rng, problem, 3), [0.04, 0.04, 0.02])
    found = spectral.strengths(logits * problem.counts, components)[1]
    deep = regularised.deep_cross_strength(problem, 0.04, 0.02, 3)
    assert 0 < deep == pytest.approx(found, abs=1e-6)  # as near as the minimum is found
    two = regularised.cross_strengths(problem, 0.04, 0.02).strength
    # a fixed point contracts until it no longer moves, to a few roundings
    assert regularised.deep_cross_strength(problem, 0.04, 0.02, 2) == pytest.approx(two, rel=1e-12)
    assert regularised.deep_cross_strength(problem, 0.4, 0.4, 3) == 0
    with pytest.raises(ValueError, match="depth=1"):
        regularised.deep_cross_strength(problem, 0.04, 0.02, 1)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 3.0])
def test_the_cross_component_minimises_and_collapses(tiny, exponent):
    problem = make_problem(tiny(weight_exponent=exponent))
    s, w, _ = exact.cross_parts(problem)
    assert np.linalg.norm(s) == pytest.approx(spectral.components(problem).singular_values[1])
    limit = float(np.linalg.norm(w * s) / 20)
    for share in (1e-6, 0.3, 0.9, 1 - 1e-9):
        end = regularised.cross_strengths(problem, share * limit, share * limit)
        z, length = end.row, np.linalg.norm(end.row)
        residual = w * (s - z) / 20 - share * limit * z / length
        np.testing.assert_allclose(residual, 0, atol=1e-15)  # stationary, to a few roundings
        assert 0 < end.strength == pytest.approx(z @ s / np.linalg.norm(s), rel=1e-14)

        def objective(row, decay=share * limit):
            size = np.linalg.norm(row)
            value = w @ (s - row) ** 2 / 40 + decay * size
            return value, w * (row - s) / 20 + decay * row / size

        if share < 0.95:
            np.testing.assert_allclose(minimum(objective, s.copy()), z, atol=1e-7)
    assert regularised.cross_strengths(problem, limit * 1.0001, limit).strength == 0
    free = regularised.cross_strengths(problem, 0.0, 1.0)
    np.testing.assert_allclose(free.row, s, rtol=1e-15)
    assert free.strength == pytest.approx(np.linalg.norm(s), rel=1e-15)


@pytest.mark.parametrize(("weight", "coupling"), [(1.0, 0.0), (2.0, 0.0), (2.0, 0.5)])
def test_minorities_collapse_under_cross_entropy_from_the_threshold_on(rng, tiny, weight, coupling):
    problem = make_problem(tiny(class_weights=(1.0, 1.0, weight, weight), coupling=coupling))
    limit = regularised.collapse_threshold(2, 20, weight, 1 + coupling)
    assert limit == pytest.approx(weight * np.sqrt(2 * (1 + coupling)) / 20, rel=1e-15)
    for share, collapsed in ((0.97, False), (1.03, True)):
        decays = [2 * share * limit, share * limit / 2]
        start = large_start(rng, problem, 2)
        logits = end_of_factors(problem, start, decays, cross_entropy=True)
        contrast = logits[2:, 2:] @ [1, -1]
        assert (np.abs(contrast).max() < 1e-6) == collapsed
        assert np.abs(contrast).max() > 1e-3 or collapsed
        assert logits[0, 0] - logits[1, 0] > 0.1 or weight > 1  # majorities are still told apart


def test_values_out_of_range_are_refused(tiny):
    with pytest.raises(ValueError, match=r"^weight_decay=-1: must be finite and not negative$"):
        regularised.squared_strength(1.0, 10, -1, 0.1)
    with pytest.raises(ValueError, match=r"^singular_value=0\.0: must be positive and finite$"):
        regularised.squared_threshold(0.0, 10)
    with pytest.raises(ValueError, match=r"^depth=0"):
        regularised.squared_threshold(1.0, 10, 0)
    with pytest.raises(ValueError, match=r"^class_weight=nan"):
        regularised.collapse_threshold(5, 10, np.nan)
    with pytest.raises(ValueError, match=r"^problem=.*must be two groups"):
        regularised.cross_strengths(make_problem(tiny(profile="long_tailed")), 0.1, 0.1)
    with pytest.raises(ValueError, match=r"^feature_decay=inf"):
        regularised.cross_strengths(make_problem(tiny(coupling=0.5)), 0.1, np.inf)
