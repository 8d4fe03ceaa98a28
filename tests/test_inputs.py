"""Features made of inputs: the flow of their kernel, conservation, and data of one's own."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

import ssm
from ssm import schedules, simulation, summaries
from ssm.dynamics import trajectories
from ssm.preparation import prepare
from ssm.problem import make_problem
from ssm.problem.inputs import draw_inputs, noise_rows

SMALL: dict[str, Any] = {
    "num_classes": 4,
    "imbalance_ratio": 5.0,
    "minority_count": 3,
    "feature_dim": 6,
    "init_scale": 0.1,
    "num_saves": 7,
    "t1": 60.0,
    "seed": 3,
}
NOISE = 15
COUPLINGS: dict[str, Any] = {"coupling": 0.3, "between_coupling": 0.1}


@pytest.fixture(scope="module")
def mixture():
    """A run on drawn inputs, each only once."""
    done = {}

    def simulate(**changes):
        config = ssm.Config(
            **{**SMALL, **COUPLINGS, "noise_dim": NOISE, "save_state": True, **changes}
        )
        if config not in done:
            done[config] = config, ssm.simulate(config)
        return done[config]

    return simulate


def own_config(**changes):
    return ssm.Config(**{**SMALL, "save_state": True, **changes})


def kernel_flow(config, W, H, kernel, times):
    """W and H of dW = -G H^T - lam_W W, dH = -W^T G K - lam_H H, and the bias, by a Runge-Kutta method of
    order 8: the logits at each time."""
    k, n = config.num_classes, sum(config.class_counts)
    labels = np.repeat(np.arange(k), config.class_counts)
    risk_weights = np.asarray(make_problem(config).class_weights)[labels] / n
    Y = np.eye(k)[:, labels]

    def logits(W, H, bias):
        return W @ H + bias[:, None]

    def parts(y):
        return np.split(y, [W.size, W.size + H.size])

    def slope(_, y):
        W_, H_, bias = parts(y)
        W_, H_ = W_.reshape(W.shape), H_.reshape(H.shape)
        Z = logits(W_, H_, bias)
        if config.loss == "squared":
            G = Z - Y + 1 / k
        else:
            P = np.exp(Z - Z.max(axis=0))
            G = P / P.sum(axis=0) - Y
        G = G * risk_weights
        drift = -G.sum(axis=1) if config.has_output_bias else np.zeros(k)
        dW = -G @ H_.T - config.weight_decay * W_
        dH = -W_.T @ G @ kernel - config.feature_decay * H_
        return np.concatenate([dW.ravel(), dH.ravel(), drift])

    start = np.concatenate([W.ravel(), H.ravel(), np.zeros(k)])
    solved = solve_ivp(slope, (0, times[-1]), start, "DOP853", t_eval=times, rtol=1e-11, atol=1e-13)
    states = map(parts, solved.y.T)
    return np.stack([logits(w.reshape(W.shape), h.reshape(H.shape), b) for w, h, b in states])


def saved_logits(dataset, X):
    """W A X with the bias, (time, k, n)."""
    Z = np.einsum("tkd,tdp,pn->tkn", dataset["W"], dataset["A"], X)
    return Z + dataset["bias"].values[:, :, None] if "bias" in dataset else Z


def test_the_mixture_is_its_couplings_on_average():
    """X^T X is 1 on the diagonal, c within a class, c_b between two, and 1 more with a bias."""
    config = ssm.Config(
        num_classes=3, minority_count=20, noise_dim=50_000, bias="both", **COUPLINGS
    )
    problem = make_problem(config)
    X = draw_inputs(config, problem)
    K = X.T @ X - 1
    same = problem.labels[:, None] == problem.labels
    off = ~np.eye(len(K), dtype=bool)
    # Entries of noise have a standard deviation of (1 - c) / sqrt(q) = 0.003; 0.02 is above six of them,
    # 0.03 as many of the diagonal's, which is sqrt(2) times that and, with means, somewhat more.
    assert np.abs(np.diag(K) - 1).max() < 0.03
    assert np.abs(K[same & off] - 0.3).max() < 0.02
    assert np.abs(K[~same] - 0.1).max() < 0.02


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "cross_entropy", "weight_exponent": 0.5},
        pytest.param(
            {"loss": "squared", "bias": "both", "init": "balanced"}, marks=pytest.mark.slow
        ),
        {"loss": "squared", "bias": "both", "weight_decay": 2e-3, "feature_decay": 1e-3},
    ],
)
def test_a_flow_on_inputs_is_that_of_their_kernel(mixture, changes):
    """(W, A) is (W, H = A X) with K = X^T X."""
    config, found = mixture(rtol=1e-10, max_steps=10**6, **changes)
    X = draw_inputs(config, make_problem(config))
    W, A = found["W"].values[0], found["A"].values[0]
    expected = kernel_flow(config, W, A @ X, X.T @ X, found["time"].values)
    # the local tolerance is 1e-10 of the size of a step's change, over some hundred steps
    np.testing.assert_allclose(saved_logits(found, X), expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("init", ["gaussian", "balanced", "spectral", "collapsed"])
def test_flow_on_inputs_conserves(mixture, init):
    """W^T W - A A^T, which is zero of a balanced and a spectral start."""
    _, found = mixture(init=init, weight_exponent=0.5)
    W, A = found["W"].values, found["A"].values
    kept = W.swapaxes(1, 2) @ W - A @ A.swapaxes(1, 2)
    # of a solver's relative tolerance of 1e-6
    np.testing.assert_allclose(kept, np.broadcast_to(kept[:1], kept.shape), atol=1e-5)
    assert found["drift"].max() < 1e-5
    if init in ("balanced", "spectral"):
        np.testing.assert_allclose(kept[0], 0, atol=1e-14)
    if init == "collapsed":
        config, _ = mixture(init=init, weight_exponent=0.5)
        assert not A[0][:, noise_rows(config)].any()


def test_an_optimiser_steps_in_the_layer_of_the_inputs(mixture):
    """Adam of A, as it is published, and not of the features: three steps."""
    steps = {"t1": None, "optimizer": "adam", "num_steps": 3, "learning_rate": 0.01, "num_saves": 4}
    config, found = mixture(**steps)
    problem = make_problem(config)
    X, n = draw_inputs(config, problem), len(problem.labels)
    theta = [found["W"].values[0], found["A"].values[0]]
    first, second = [0.0, 0.0], [0.0, 0.0]
    Y = np.eye(4)[:, problem.labels]
    for i in range(1, 4):
        W, A = theta
        P = np.exp(W @ A @ X)
        G = (P / P.sum(axis=0) - Y) / n
        gradients = [G @ (A @ X).T, W.T @ G @ X.T]
        for j, g in enumerate(gradients):
            first[j] = 0.9 * first[j] + 0.1 * g
            second[j] = 0.999 * second[j] + 0.001 * g**2
            step = first[j] / (1 - 0.9**i) / (np.sqrt(second[j] / (1 - 0.999**i)) + 1e-8)
            theta[j] = theta[j] - 0.01 * step
        # rounding, which a division by small numbers makes larger
        np.testing.assert_allclose(found["W"][i], theta[0], atol=1e-10)
        np.testing.assert_allclose(found["A"][i], theta[1], atol=1e-10)


@pytest.mark.slow
def test_own_data_that_is_the_mixture_is_its_run_to_the_bit(compiled_as_for_users):
    config = own_config(**COUPLINGS, noise_dim=NOISE)
    inputs, labels = ssm.mixture_inputs(config)
    found = ssm.simulate(config)
    own = ssm.simulate(own_config(), inputs=inputs, labels=labels)
    for name in ("W", "A", "loss", "class_accuracy", "singular_value", "drift"):
        np.testing.assert_array_equal(own[name], found[name])


def test_own_data_that_is_the_mixture_is_its_run(mixture):
    config, found = mixture(held_out=True)
    inputs, labels = ssm.mixture_inputs(config)
    own = ssm.simulate(own_config(), inputs=inputs, labels=labels, held_out_data=(inputs, labels))
    for name in ("W", "A", "loss", "class_accuracy", "singular_value", "drift"):
        # Two programs, whose sums may round apart: through sixty units of a stable flow.
        np.testing.assert_allclose(own[name], found[name], atol=1e-12)
    # Samples that are trained on, held out as well, are observed by other sums: rounding.
    assert own["held_out_accuracy"].equals(own["class_accuracy"])
    np.testing.assert_allclose(own["held_out_loss"], own["class_loss"], atol=1e-13)
    np.testing.assert_allclose(own["held_out_strength"], own["class_strength"], atol=1e-12)
    kept = ssm.Config.from_json(own.attrs["config"])
    assert kept.profile == "custom" and kept.counts == config.class_counts
    assert np.isnan(own["predicted_learning_time"]).all()
    assert own.attrs["inputs"].startswith(f"36 samples of {NOISE + 5} numbers, sha256 ")
    assert own.attrs["held_out_data"] != own.attrs["inputs"]
    said = summaries.facts(own)
    assert said["inputs"] == own.attrs["inputs"] and said["labels"].endswith(
        "as the inputs let them"
    )
    assert said["held out"].startswith("recall 1 (majority 1, minority 1) at the end")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "schedule"),
    [
        (
            {"optimizer": "momentum", "batch_size": 7, "num_steps": 30},
            schedules.Trend(strength=2.0, memory=0.0),
        ),
        ({"clock": "loss", "weight_exponent": 1.0, "weight_start": 3.0, "stop_margin": 5.0}, None),
    ],
)
def test_own_data_goes_with_every_kind_of_run(compiled_as_for_users, changes, schedule):
    fields = SMALL | {"t1": None} | changes
    drawn = ssm.Config(noise_dim=NOISE, **COUPLINGS, **fields)
    inputs, labels = ssm.mixture_inputs(drawn)
    # what theory chooses is given, since it is chosen from the kernel of the samples, not of the mixture
    chosen = {"learning_rate": 0.1} if schedule else {"t1": 30.0}
    runs = [
        ssm.simulate(dataclasses.replace(drawn, **chosen), schedule=schedule),
        ssm.simulate(
            ssm.Config(**fields | chosen), schedule=schedule, inputs=inputs, labels=labels
        ),
    ]
    for name in ("class_loss", "strength", "weight"):
        np.testing.assert_array_equal(runs[0][name], runs[1][name])
    # They are two programs, in which the root of a crossing rounds in its last digit on some processors.
    times = [run["class_learning_time"] for run in runs]
    np.testing.assert_allclose(*times, rtol=4 * np.finfo(float).eps)
    assert runs[0].attrs["status"] == runs[1].attrs["status"]


def test_a_hidden_bias_is_one_more_input(mixture):
    config, found = mixture(bias="hidden")
    inputs, labels = ssm.mixture_inputs(config)
    assert inputs.shape[1] == NOISE + 5
    own = ssm.simulate(own_config(bias="hidden"), inputs=inputs, labels=labels)
    np.testing.assert_array_equal(own["A"], found["A"])


def test_the_order_of_rows_and_the_padding_change_nothing(mixture, rng):
    config, found = mixture(held_out=True)
    inputs, labels = ssm.mixture_inputs(config)
    order = rng.permutation(len(labels))
    shuffled = ssm.simulate(own_config(), inputs=inputs[order], labels=labels[order].astype("u1"))
    # sums in another order: rounding, through sixty units of a stable flow
    np.testing.assert_allclose(shuffled["A"], found["A"], atol=1e-12)
    padded, facts = simulation.run_arrays(run := prepare(config, 57), simulation.follow(run))
    assert facts["status"] == found.attrs["status"]
    for name in ("A", "W", "class_loss", "held_out_loss", "held_out_accuracy"):
        np.testing.assert_allclose(padded[name], found[name], atol=1e-12)


def test_data_is_told_from_other_data(rng):
    config = own_config()
    X, y = rng.normal(size=(36, NOISE + 5)), np.repeat([0, 1, 2, 3], [15, 15, 3, 3])
    one, same = (ssm.simulate(config, inputs=X, labels=y) for _ in range(2))
    other = ssm.simulate(config, inputs=X + 1e-15, labels=y)
    assert one.attrs["inputs"] == same.attrs["inputs"] != other.attrs["inputs"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "gd", "num_saves": 8, "bias": "both"}],
)
def test_lengths_and_rates_of_own_data_follow_from_its_means(rng, changes):
    """All is learned in the length that is chosen, and steps do not diverge, whatever the scale of the inputs and
    however much they have in common: times scale with its square, and so do learning rates."""
    counts, learned = [15, 15, 3, 3], []
    y = np.repeat(np.arange(4), counts)
    X = rng.normal(size=(36, NOISE + 5)) / 4 + np.eye(4, NOISE + 5)[y]
    for scale, common in ((0.1, 0.0), (1.0, 0.0), (10.0, 0.0), (1.0, 3.0)):
        config = own_config(**{"t1": None, "init_scale": 1e-3, **changes})
        found = ssm.simulate(config, inputs=scale * (X + common), labels=y)
        assert found.attrs["status"] == "finished"
        assert (found["class_strength"][-1] > 0.5).all() and np.isfinite(found["class_loss"]).all()
        learned.append(found.attrs["t1"])
    if (
        not changes
    ):  # time is divided by the scale of features, and there is a logarithm of the start
        assert 5 < learned[0] / learned[1] < 20 and 5 < learned[1] / learned[2] < 20


@pytest.mark.slow
def test_steps_along_what_classes_share_are_stable():
    """As stable as of contrasts, which a hundred samples with a bias of the features would not be at the contrasts'
    own learning rate: the loss never rises, as flow has it."""
    config = ssm.Config(optimizer="gd", bias="both", num_saves=200)
    loss = ssm.simulate(config)["loss"].values
    assert (np.diff(loss) <= 0).all() and loss[-1] < 0.01


def test_kernel_of_own_data():
    """kappa_c is that of the couplings where class means are as these have it, here exactly."""
    from ssm.problem.inputs import Inputs
    from ssm.problem.own_data import measured

    config = ssm.Config(num_classes=4, minority_count=3, **COUPLINGS)
    problem = make_problem(config)
    means = np.concatenate([np.full((1, 4), 0.1**0.5), 0.2**0.5 * np.eye(4)])
    n = len(problem.labels)
    # with noise that is orthogonal to all else, as of infinite dimension
    X = np.concatenate([means[:, problem.labels], 0.7**0.5 * np.eye(n)])
    found = measured(config, problem, Inputs(X))
    # The noise of a class's mean adds (1 - c) / n_c to G_cc. Where counts differ, so do these, and the mean
    # over all classes spreads them, so that only the mean of kappa_c / n_c is exact.
    per_sample = found.kernel_eigenvalues / problem.counts
    assert np.isclose(per_sample.mean(), (problem.kernel_eigenvalues / problem.counts).mean())
    # from below, within what thirty products leave
    assert 0.95 * problem.kernel_size < found.kernel_size <= problem.kernel_size * (1 + 1e-12)


GOOD = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        ({"labels": None}, {}, "labels=None: must be given, since inputs is"),
        ({"inputs": None}, {}, "inputs=None: must be given, since labels is"),
        (
            {"inputs": None, "labels": None, "held_out_data": GOOD},
            {},
            "inputs=None: must be given, since held_out_data is",
        ),
        ({"inputs": GOOD[0][0], "labels": [0]}, {}, "inputs='an array of shape (2,)'"),
        ({"inputs": [["a"]], "labels": [0]}, {}, "inputs=[['a']]: must be real finite"),
        ({"inputs": GOOD[0] * np.nan, "labels": GOOD[1]}, {}, "inputs='not finite in row 0'"),
        ({"inputs": GOOD[0] * 1e150, "labels": GOOD[1]}, {}, "at most 1e+100 in size"),
        ({"inputs": GOOD[0], "labels": GOOD[1][1:]}, {}, "must be 6 integers from 0 on"),
        ({"inputs": GOOD[0], "labels": GOOD[1] + 0.0}, {}, "labels='float64 of shape (6,)'"),
        ({"inputs": GOOD[0], "labels": ["a"] * 6}, {}, "must be 6 integers from 0 on"),
        ({"inputs": GOOD[0], "labels": GOOD[1] - 1}, {}, "labels=-1: must be 0 ... k - 1"),
        ({"inputs": GOOD[0], "labels": GOOD[1] * 9}, {}, "labels=9: must be 0 ... k - 1"),
        ({"inputs": GOOD[0], "labels": GOOD[1] * 2}, {}, "labels='no sample of class 1'"),
        ({"inputs": GOOD[0], "labels": GOOD[1] * 0}, {}, "must be of at least two classes"),
        ({"held_out_data": 3}, {}, "held_out_data=3: must be a pair of inputs and labels"),
        ({"held_out_data": (*GOOD, 1)}, {}, "held_out_data='3 items'"),
        ({"held_out_data": (GOOD[0][:, :1], GOOD[1])}, {}, "must be 2 inputs wide"),
        ({"held_out_data": (GOOD[0][:4], GOOD[1][:4])}, {}, "held_out_data='no sample of class 1'"),
        ({"held_out_data": (GOOD[0], GOOD[1] * 2)}, {}, "held_out_data='label 2'"),
        ({}, {"imbalance_ratio": 3.0}, "imbalance_ratio=3.0: must be left out, or what gives"),
        ({}, {"num_classes": 3}, "num_classes=3: must be left out"),
        ({}, {"profile": "long_tailed"}, "profile='long_tailed': must be left out"),
        ({}, {"profile": "custom", "counts": (3, 3)}, "counts=(3, 3): must be left out"),
        ({}, {"coupling": 0.5}, "coupling=0.5: must be left out with inputs of one's own"),
        ({}, {"coupling": 0.5, "between_coupling": 0.1}, "coupling=0.5: must be left out"),
        ({}, {"noise_dim": 4}, "noise_dim=4: must be left out"),
        ({}, {"class_weights": (1, 2, 3), "num_classes": 3}, "num_classes=3: must be left out"),
        ({}, {"init": "collapsed"}, "init='collapsed': must be another start"),
        ({"inputs": GOOD[0][:, :1]}, {"init": "balanced"}, "with 1 inputs, fewer than the 2"),
        ({"inputs": GOOD[0] * 0}, {}, "t1=None: must be given: a class's mean input"),
        ({"inputs": GOOD[0] * 0}, {"optimizer": "gd"}, "learning_rate=None: must be given"),
    ],
)
def test_what_cannot_be_own_data_is_one_line(arguments, changes, said):
    given = {"inputs": GOOD[0], "labels": GOOD[1]} | arguments
    with pytest.raises(ssm.InputError) as error:
        ssm.simulate(ssm.Config(**changes), **given)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_counts_of_the_config_may_be_those_of_the_labels(mixture, untyped):
    config, found = mixture()
    inputs, labels = ssm.mixture_inputs(config)
    counts = {"profile": "custom", "counts": config.class_counts, "imbalance_ratio": 10.0}
    given = dataclasses.replace(own_config(), **counts, minority_count=5)
    own = ssm.simulate(given, inputs=inputs, labels=labels)
    np.testing.assert_array_equal(own["A"], found["A"])
    others: tuple[Any, ...] = (ssm.Config(), "no config")
    for config in others:
        with pytest.raises(ssm.InputError, match=r"^(noise_dim|config)="):
            ssm.mixture_inputs(config)


def test_what_is_saved_is_what_is_loaded(mixture, tmp_path):
    _, found = mixture(loss="squared", bias="both", init="balanced", rtol=1e-10, max_steps=10**6)
    assert found["A"].dims == ("time", "feature", "input") and found["bias"].dims == (
        "time",
        "class",
    )
    ssm.save(found, tmp_path / "own.zarr")
    xr.testing.assert_identical(ssm.load(tmp_path / "own.zarr"), found)


@pytest.mark.slow
def test_a_sweep_of_inputs_is_its_runs(mixture):
    """Couplings and seeds share a compilation; each point is the run of its Config."""
    axes = {"coupling": [0.3, 0.5], "between_coupling": [0.1, 0.2], "seed": [3, 4]}
    base, found = mixture(held_out=True)
    before = trajectories.num_compilations()
    swept = ssm.sweep(axes, base)
    # in the number of columns that a grid is padded to, so that it is one at most
    assert trajectories.num_compilations() - before <= 1
    point = swept.sel(coupling=0.3, between_coupling=0.1, seed=3)
    for name in ("W", "A", "held_out_accuracy", "held_out_loss", "held_out_strength"):
        np.testing.assert_allclose(point[name], found[name], atol=1e-12)
    runs = [prepare(dataclasses.replace(base, seed=seed)) for seed in (3, 4)]
    together = simulation.make_trajectories(runs, simulation.found_in_batch(runs))
    arrays = [
        simulation.run_arrays(run, trajectory)[0]
        for run, trajectory in zip(runs, together, strict=True)
    ]
    for seed, of_batch in zip((3, 4), arrays, strict=True):
        alone = swept.sel(coupling=0.3, between_coupling=0.1, seed=seed)
        np.testing.assert_allclose(of_batch["A"], alone["A"], atol=1e-10)
    noise = ssm.sweep({"noise_dim": [NOISE, 5]}, base)
    assert noise.sizes["input"] == NOISE + 5
    assert np.isnan(noise["A"].sel(noise_dim=5)[..., 10:]).all()
    np.testing.assert_allclose(noise["A"].sel(noise_dim=NOISE), found["A"], atol=1e-12)
