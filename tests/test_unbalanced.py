"""Contrasts from factors of any size: the closed form against its integral, its limits, the flow and runs."""

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import ssm
from ssm import InputError, spectral, theory
from ssm.problem import make_problem, simplex_labels

COUNTS = (12, 12, 3, 3)


@pytest.mark.parametrize("imbalance", [1e-4, 0.3, 2.0, 50.0])
@pytest.mark.parametrize("start", [0.0, 0.01, 0.3])
@pytest.mark.parametrize(("loss", "saturation"), [("squared", 1.0), ("cross_entropy", 7.0)])
def test_the_closed_form_is_the_integral(imbalance, start, loss, saturation):
    def slowness(y):
        return 1 / (np.hypot(2 * y, imbalance) * (1 - y / saturation))

    knee = [min(max(imbalance, start), 0.49)]
    expected = quad(slowness, start, 0.5, points=knee, epsabs=0, epsrel=1e-12, limit=500)[0] / 0.2
    found = theory.unbalanced_learning_time(0.2, imbalance, loss, 7, start_share=start)
    np.testing.assert_allclose(found, expected, rtol=1e-10)  # what the quadrature is good for


def test_limits_of_the_learning_time():
    share, rate = np.array([1e-9, 1e-3, 0.2]), np.array([0.1, 0.2, 0.3])
    for loss in ("squared", "cross_entropy"):
        found = theory.unbalanced_learning_time(rate, 0.0, loss, 5, start_share=share)
        expected = theory.learning_time(rate, share, loss, 5)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    # a fixed kernel: y' = r mu (1 - y), but for terms of order 1 / mu^2
    fixed = theory.unbalanced_learning_time(0.1, 1e6, "squared", 5, level=0.9)
    np.testing.assert_allclose(fixed, np.log(10) / (0.1 * 1e6), rtol=1e-9)
    # what is there from the start has been learned
    assert theory.unbalanced_learning_time(1.0, 0.1, "squared", 5, start_share=0.7) == 0


def orthogonal_factors(problem, size_p, size_q, rng):
    """W and H whose contrasts have factors that are orthogonal to all others, of these lengths, and the kernel."""
    k, labels = len(problem.counts), problem.labels
    left = spectral.components(problem).left
    right = np.sqrt(problem.counts)[:, None] * left
    right = (right / np.linalg.norm(right, axis=0) / np.sqrt(problem.counts)[:, None])[labels]
    axes = np.linalg.qr(rng.normal(size=(2 * k, 2 * k)))[0][:, : 2 * (k - 1)].T
    same = labels[:, None] == labels
    c = float(problem.coupling)
    K = np.where(same, c, 0.0) + (1 - c) * np.eye(len(labels))
    kappa = np.einsum("ij,ik,kj->j", right, K, right)
    W = size_p * left @ axes[: k - 1]
    H = (size_q * np.sqrt(kappa) * right @ axes[k - 1 :]).T
    return W, H, K


@pytest.mark.parametrize(("size_p", "size_q"), [(1e-3, 1e-3), (0.5, 0.1), (1.0, 2.0)])
def test_the_flow_from_orthogonal_factors(size_p, size_q, rng):
    """All of W and H, by SciPy: the law has contrasts' learning times at any weights and coupling, and the
    exponent of this start is where the two groups' are equal."""
    coupling, exponents = 0.3, (0.0, 0.6)
    size = size_p**2 + size_q**2
    for exponent in exponents:
        config = ssm.Config(
            profile="custom", counts=COUNTS, coupling=coupling, weight_exponent=exponent
        )
        problem = make_problem(config)
        W, H, K = orthogonal_factors(problem, size_p, size_q, rng)
        S, n = simplex_labels(problem.labels, 4), sum(COUNTS)
        w, shape = problem.class_weights[problem.labels], W.size
        components = spectral.components(problem)
        kappa, counts = problem.kernel_eigenvalues[[0, 3]], problem.counts[[0, 3]]
        rates = theory.class_growth_rates(problem)[[0, 3]]
        imbalance = size * np.sqrt(kappa / counts)
        times = np.asarray(theory.unbalanced_learning_time(rates, imbalance, "squared", 4))

        def field(_, state, *, S=S, w=w, K=K, shape=shape, n=n, W=W, H=H):
            V, F = state[:shape].reshape(W.shape), state[shape:].reshape(H.shape)
            G = (V @ F - S) * w[None] / n
            return np.concatenate([-(G @ F.T).ravel(), -(V.T @ G @ K).ravel()])

        state = np.concatenate([W.ravel(), H.ravel()])
        ends = np.unique(times, return_inverse=True)
        done = solve_ivp(field, (0, times.max()), state, "DOP853", ends[0], rtol=1e-11, atol=1e-14)
        for group, where in enumerate(ends[1].ravel()):
            V, F = done.y[:shape, where].reshape(W.shape), done.y[shape:, where].reshape(H.shape)
            j = list(components.blocks).index(("majority", "minority")[group])
            right = (components.left[problem.labels, j]) / np.sqrt(counts[group])
            share = components.left[:, j] @ V @ F @ right / np.sqrt(counts[group])
            assert share == pytest.approx(0.5, abs=1e-8)  # of a solve at 1e-11 over many e-folds
        balance = theory.starting_exponent(counts, kappa, size, "squared", 4)
        ratio = (counts[0] / counts[1]) ** (balance - exponent)
        assert times[1] / times[0] == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize("size", [pytest.param(1e-6, marks=pytest.mark.slow), 1.0])
def test_runs_from_gaussian_factors_balance_at_the_exponent_of_their_start(size):
    """Random rows of 400 numbers overlap by 0.05, and two factors each may be off by that."""
    base = {"num_classes": 6, "imbalance_ratio": 9.0, "minority_count": 4, "feature_dim": 400}
    base |= {"loss": "squared", "coupling": 1.0, "num_saves": 200}
    scale = float(np.sqrt(size / 800))
    counts = np.array([36, 4])
    kappa = counts  # shared features
    balance = float(theory.starting_exponent(counts, kappa, size, "squared", 6))
    config = ssm.Config(**base, init_scale=scale, weight_exponent=balance)
    problem = make_problem(config)
    rates = theory.class_growth_rates(problem)[[0, -1]]
    imbalance = size * np.sqrt(kappa / counts)
    times = np.asarray(theory.unbalanced_learning_time(rates, imbalance, "squared", 6))
    np.testing.assert_allclose(times, times[0], rtol=1e-12)
    run = ssm.simulate(ssm.Config(**{**vars(config), "t1": 3 * float(times[0])}))
    shares = (run.block_strength / run.block_target).transpose("time", "block").values
    found = spectral.learning_times(run.time.values, shares - shares[:1])[[0, 2]]
    np.testing.assert_allclose(found, times, rtol=0.1)
    assert found[1] / found[0] == pytest.approx(1, abs=0.1)


def test_the_exponent_lies_between_a_small_starts_and_a_fixed_kernels():
    counts, coupling = np.array([100, 10]), np.array([0.0, 0.1, 1.0])
    kappa = 1 + coupling[:, None] * (counts - 1)
    small, fixed = (
        theory.balancing_exponent(100, 10, coupling),
        theory.margin_exponent(100, 10, coupling),
    )
    sizes = np.geomspace(1e-12, 1e6, 40)
    every = theory.starting_exponent(counts, kappa[:, None], sizes[:, None], num_classes=4)
    found = np.asarray(every)
    assert found.shape == (3, 40)
    # shared features have 1 at both ends, and of every size
    assert (np.diff(found[:2], axis=1) < 0).all()
    np.testing.assert_allclose(found[2], 1, rtol=1e-12)
    np.testing.assert_allclose(found[:, -1], fixed, atol=1e-9)
    # the small start's limit is reached as the logarithm of log(sqrt(n / kappa) / lam) does
    tiny = theory.starting_exponent(counts, kappa, 1e-250, num_classes=4)
    logs = np.log(4 * 0.5 * np.sqrt(counts / kappa) / 1e-250)
    expected = small + np.log10(logs[:, 1] / logs[:, 0])
    np.testing.assert_allclose(tiny, expected, atol=1e-3)  # saturation is 1 / 575 of e-folds


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"imbalance": -1.0}, "imbalance"),
        ({"imbalance": 0.0}, "imbalance"),
        ({"imbalance": np.nan}, "imbalance"),
        ({"start_share": -0.1}, "imbalance"),
        ({"level": 1.0}, "level"),
        ({"level": 0.0}, "level"),
    ],
)
def test_what_is_never_learned_is_refused(change, named):
    fine = {"rate": 1.0, "imbalance": 1.0, "loss": "squared", "num_classes": 4}
    with pytest.raises(InputError, match=named):
        theory.unbalanced_learning_time(**{**fine, **change})
