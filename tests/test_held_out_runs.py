"""Held-out data in runs: fresh samples whose noise has infinitely many dimensions, or as many as are drawn."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ssm
from ssm import simulation
from ssm.dynamics.column_layouts import make_columns
from ssm.dynamics.starts import make_start
from ssm.preparation import prepare
from ssm.problem import make_problem
from ssm.problem.inputs import draw_inputs, mean_inputs, noise_rows
from ssm.results import datasets

SMALL: dict[str, Any] = {
    "num_classes": 4,
    "imbalance_ratio": 5.0,
    "minority_count": 3,
    "feature_dim": 6,
    "init_scale": 0.1,
    "num_saves": 7,
    "seed": 3,
    "coupling": 0.3,
    "between_coupling": 0.1,
    "held_out": True,
    "save_state": True,
}
TWO_CLASSES: dict[str, Any] = {
    "num_classes": 2,
    "imbalance_ratio": 4.0,
    "minority_count": 5,
    "coupling": 0.3,
    "noise_dim": 30,
    "feature_dim": 4,
    "save_state": True,
    "seed": 1,
}


def kernels(config):
    """K of the samples, and of the samples with one fresh sample of each class, as these are written down."""
    labels = np.repeat(np.arange(4), config.class_counts)
    c, b = config.coupling, config.between_coupling
    bias = float(config.has_hidden_bias)
    of_classes = np.where(np.eye(4) == 1, c, b) + bias
    among = of_classes[labels][:, labels] + (1 - c) * np.eye(len(labels))
    return labels, among, of_classes[labels]


def strengths(means):
    """<z_y, e_y - 1/k> / (1 - 1/k), of one mean logit vector a class in the last axis."""
    own = np.diagonal(means, axis1=-2, axis2=-1)
    return (own - means.mean(axis=-2)) / (1 - 1 / 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "cross_entropy", "weight_exponent": 0.5},
        {"loss": "squared", "bias": "both", "weight_decay": 2e-3, "feature_decay": 1e-3},
        pytest.param({"loss": "squared", "init": "balanced"}, marks=pytest.mark.slow),
        pytest.param({"loss": "squared", "init": "spectral"}, marks=pytest.mark.slow),
    ],
)
def test_fresh_samples_move_by_the_kernel_to_those_that_are_seen(changes):
    """Columns that carry no loss, dF = -W^T G K' - lam_H F, integrated beside the run, and the noise that
    nothing teaches: means in the strengths, and both in the squared loss."""
    config = ssm.Config(t1=60.0, rtol=1e-10, max_steps=10**6, **SMALL, **changes)
    found = ssm.simulate(config)
    problem = make_problem(config)
    labels, K, K_held_out = kernels(config)
    n = len(labels)
    W, H = found["W"].values[0], found["H"].values[0]
    if H.shape[1] == 4:  # all features of a class are alike
        H = H[:, labels]
    start = make_start(config, problem, make_columns(config, problem))
    # At the start fresh samples share what class parts say, or follow the class means where nothing else is
    # known of what makes them.
    T = np.diag((0.7 + 0.2 * problem.counts) / problem.counts) + K_held_out.min()
    C = 0.2 * np.eye(4) + K_held_out.min()
    means = np.stack([H[:, labels == c].mean(axis=1) for c in range(4)], axis=1)
    F = means @ np.linalg.solve(T, C) if start.class_part is None else start.class_part
    noise = 0.1 * np.sqrt(0.7) if config.init == "gaussian" else 0.0
    risk_weights, Y = problem.class_weights[labels] / n, np.eye(4)[:, labels]
    sizes = np.cumsum([W.size, H.size, F.size])
    lam_W, lam_H = config.weight_decay, config.feature_decay

    def parts(y):
        W_, H_, F_, bias = np.split(y, sizes)
        return W_.reshape(W.shape), H_.reshape(H.shape), F_.reshape(F.shape), bias

    def slope(_, y):
        W_, H_, F_, bias = parts(y)
        Z = W_ @ H_ + bias[:, None]
        P = np.exp(Z - Z.max(axis=0))
        G = Z - Y + 1 / 4 if config.loss == "squared" else P / P.sum(axis=0) - Y
        G = G * risk_weights
        drift = -G.sum(axis=1) if config.has_output_bias else np.zeros(4)
        slopes = (
            -G @ H_.T - lam_W * W_,
            -W_.T @ G @ K - lam_H * H_,
            -W_.T @ G @ K_held_out - lam_H * F_,
            drift,
        )
        return np.concatenate([x.ravel() for x in slopes])

    times = found["time"].values
    y0 = np.concatenate([W.ravel(), H.ravel(), F.ravel(), np.zeros(4)])
    solved = solve_ivp(slope, (0, 60), y0, "DOP853", t_eval=times, rtol=1e-11, atol=1e-13)
    for i, y in enumerate(solved.y.T):
        W_, _, F_, bias = parts(y)
        mean = W_ @ F_ + bias[:, None]
        # the local tolerance of the run is 1e-10
        np.testing.assert_allclose(found["held_out_strength"][i], strengths(mean), atol=1e-8)
        if config.loss == "squared":
            spread = (noise * np.exp(-lam_H * times[i])) ** 2 * (W_**2).sum()
            expected = ((mean - np.eye(4) + 1 / 4) ** 2).sum(axis=0) / 2 + spread / 2
            np.testing.assert_allclose(found["held_out_loss"][i], expected, atol=1e-8)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "momentum", "batch_size": 7},
        {"optimizer": "gd", "loss": "squared", "bias": "both"},
    ],
)
def test_fresh_samples_take_the_steps_of_those_that_are_seen(changes):
    """A step of H is Sigma K with Sigma the columns' own part; one of F is Sigma K'."""
    config = ssm.Config(num_steps=20, learning_rate=0.5, **{**SMALL, "num_saves": 21}, **changes)
    found = ssm.simulate(config)
    problem = make_problem(config)
    _, K, K_held_out = kernels(config)
    F = make_start(config, problem, make_columns(config, problem)).class_part
    W, H, bias = found["W"].values, found["H"].values, found.get("bias")
    for i in range(21):
        if i:
            F = F + np.linalg.solve(K, (H[i] - H[i - 1]).T).T @ K_held_out
        mean = W[i] @ F + (0 if bias is None else bias.values[i][:, None])
        # rounding
        np.testing.assert_allclose(found["held_out_strength"][i], strengths(mean), atol=1e-11)


@pytest.mark.parametrize("loss", [pytest.param("cross_entropy", marks=pytest.mark.slow), "squared"])
def test_of_drawn_noise_is_asked_what_its_law_is(loss):
    """The mean and covariance of fresh logits, W A of class inputs and of noise, by the strengths and the squared
    loss; and for two classes the accuracy, Phi of their mean margin over its deviation."""
    from scipy.stats import norm

    config = ssm.Config(
        noise_dim=15, t1=60.0, loss=loss, **{**SMALL, "num_classes": 2, "bias": "output"}
    )
    found = ssm.simulate(config)
    means = mean_inputs(config, make_problem(config))
    for i in range(7):
        map_ = found["W"].values[i] @ found["A"].values[i]
        mean = map_ @ means + found["bias"].values[i][:, None]
        deviation = np.sqrt(0.7 / 15) * map_[:, noise_rows(config)]
        ahead = np.array([mean[0, 0] - mean[1, 0], mean[1, 1] - mean[0, 1]])
        accuracy = norm.cdf(ahead / np.linalg.norm(deviation[0] - deviation[1]))
        np.testing.assert_allclose(found["held_out_accuracy"][i], accuracy, atol=1e-12)
        if loss == "squared":
            expected = ((mean - np.eye(2) + 1 / 2) ** 2).sum(axis=0) / 2 + (deviation**2).sum() / 2
            np.testing.assert_allclose(found["held_out_loss"][i], expected, atol=1e-12)


@pytest.mark.slow
def test_accuracy_is_that_of_a_million_samples():
    config = ssm.Config(noise_dim=15, t1=60.0, **SMALL)
    found, rng, draws = ssm.simulate(config), np.random.default_rng(0), 10**6
    means, scale = mean_inputs(config, make_problem(config)), np.sqrt(0.7 / 15)
    for y in range(4):
        noise = scale * rng.normal(size=(15, draws))  # the same at all times
        for i in range(7):
            map_ = found["W"].values[i] @ found["A"].values[i]
            Z = map_[:, noise_rows(config)] @ noise + (map_ @ means[:, y])[:, None]
            right = Z.argmax(axis=0) == y
            share = right.mean()
            losses = np.log(np.exp(Z).sum(axis=0)) - Z[y]
            # five standard errors of the samples, and the largest error that is known of the integrals: of
            # the accuracy of four classes three times 3e-4, of the loss 2 % of what is below 0.1
            error = 5 * np.sqrt(share * (1 - share) / draws) + 1e-3
            assert abs(found["held_out_accuracy"].values[i, y] - share) < error
            error = 5 * losses.std() / np.sqrt(draws) + 2e-2 * losses.mean()
            assert abs(found["held_out_loss"].values[i, y] - losses.mean()) < error


def from_class_part(config, W, class_part):
    """The run of a Config with drawn noise from a given W, and an A that has no part along the noise: a_0 = 0
    and class parts sqrt(c - c_b) a_y."""
    run = prepare(config)
    A = np.zeros_like(run.flow.params.H)
    A[:, 1:5] = class_part / np.sqrt(config.coupling - config.between_coupling)
    flow = dataclasses.replace(run.flow, params=run.flow.params._replace(W=W, H=A))
    run = run._replace(flow=flow)
    return simulation.run_arrays(run, simulation.follow(run))[0]


@pytest.mark.slow
def test_infinite_noise_is_the_limit_of_more():
    """From one start, what noise of q dimensions adds to an entry of K = X^T X is of order q^(-1/2), and so is the
    difference of runs."""
    infinite = ssm.Config(t1=40.0, init="collapsed", **SMALL)  # whose tolerance is 1e-6
    expected, problem = ssm.simulate(infinite), make_problem(infinite)
    start = make_start(infinite, problem, make_columns(infinite, problem))
    numbers, differences = np.array([300, 3000, 30_000]), []
    for q in numbers:
        squares = []
        for seed in range(16):
            drawn = dataclasses.replace(infinite, noise_dim=int(q), seed=seed, save_state=False)
            found = from_class_part(drawn, start.params.W, start.class_part)
            squares += [
                ((found[name] - expected[name].values) ** 2).mean()
                for name in ("class_strength", "held_out_strength")
            ]
        differences.append(np.sqrt(np.mean(squares)))
    slope = np.diff(np.log(differences)) / np.diff(np.log(numbers))
    # The root of a mean over sixteen draws of K, of some four numbers each that matter most, is off by 1 /
    # sqrt(2 x 64), by which a slope over a decade is off by 0.055; three times that.
    assert np.abs(slope + 0.5).max() < 0.165
    assert differences[-1] < 0.01


def test_with_decay_two_classes_end_where_their_weights_say():
    """Decay of W and A by the same lam is lam |W A|_*, so that the end is the least of (1/n) sum w_i log(1 +
    exp(-s_i m x_i)) + lam |m| / sqrt(2), m the difference of the rows: convex, with an end for each weighting."""
    from scipy.optimize import minimize

    ends, decay = [], 1e-2
    for exponent in (0.0, 1.0):
        config = ssm.Config(
            **TWO_CLASSES,
            weight_exponent=exponent,
            weight_decay=decay,
            feature_decay=decay,
            init_scale=0.1,
            num_saves=2,
            t1=4000.0,
        )
        found, problem = ssm.simulate(config), make_problem(config)
        X, signs = draw_inputs(config, problem), np.repeat([1, -1], [20, 5])
        shares = problem.class_weights[problem.labels] / 25
        expected = minimize(
            lambda m, X=X, signs=signs, shares=shares: (
                shares @ np.logaddexp(0, -signs * (m @ X)) + decay * np.linalg.norm(m) / 2**0.5
            ),
            np.ones(len(X)),
            method="BFGS",
            options={"gtol": 1e-9},
        ).x
        end = found.isel(time=-1)
        ends.append(np.array([1.0, -1.0]) @ end["W"].values @ end["A"].values)
        # what differences of the search leave of its slope, over the curvature
        np.testing.assert_allclose(ends[-1], expected, atol=1e-4 * float(np.linalg.norm(expected)))
    cosine = ends[0] @ ends[1] / np.linalg.norm(ends[0]) / np.linalg.norm(ends[1])
    assert np.arccos(cosine) > 0.1  # without decay the angle would go to 0


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_two_classes_end_at_the_hard_margin(exponent):
    """The difference of the rows of W A turns to the hard-margin separator without intercept, whatever the weights,
    by an angle that falls as margin^(-1/2): what samples off the margin have taught early stays in A, while A grows
    as the root of the margin."""
    config = ssm.Config(
        **TWO_CLASSES, weight_exponent=exponent, clock="loss", stop_margin=2e6, num_saves=10
    )
    X, signs = draw_inputs(config, make_problem(config)), np.repeat([1, -1], [20, 5])
    direction = hard_margin(X * signs)
    angles = []
    for margin in (2e4, 2e6):
        found = ssm.simulate(dataclasses.replace(config, stop_margin=margin))
        assert found.attrs["status"] == "margin reached"
        end = datasets.reached(found).isel(time=-1)
        own = np.array([1.0, -1.0]) @ end["W"].values @ end["A"].values
        cosine = own @ direction / np.linalg.norm(own) / np.linalg.norm(direction)
        angles.append(np.arccos(min(cosine, 1)))
    assert angles[1] < 1e-3
    assert (
        8 < angles[0] / angles[1] < 12
    )  # 10, up to what still changes in the angle times the root


def hard_margin(signed):
    """The least v with v @ signed >= 1: the nearest point to the origin of the hull of the columns, as a
    non-negative least-squares problem, and then exactly on the columns that hold it."""
    from scipy.optimize import nnls

    rows = np.vstack([signed, np.ones(signed.shape[1])])
    weights, _ = nnls(rows, np.append(np.zeros(len(signed)), 1.0), maxiter=10**5)
    holds = signed[:, weights > 0]
    v = np.linalg.pinv(holds.T) @ np.ones(holds.shape[1])
    assert (v @ signed).min() > 1 - 1e-12
    return v
