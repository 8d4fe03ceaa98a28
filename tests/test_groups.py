"""Groups inside classes: samples of one class that differ in an attribute which other classes have too."""

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import softmax

import ssm
from ssm import plotting
from ssm.cli import commands, summaries
from ssm.dynamics import parameters
from ssm.dynamics.column_layouts import make_columns
from ssm.measures.groups import core_strength, spurious_strength
from ssm.preparation import prepare
from ssm.problem.samples import coupled

GROUPS: Any = ((12, 3), (2, 7))
BASE = ssm.Config(
    groups=GROUPS,
    coupling=0.2,
    between_coupling=0.05,
    attribute_coupling=0.3,
    feature_dim=5,
    init_scale=0.1,
    t1=30.0,
    num_saves=12,
    rtol=1e-10,
    atol=1e-12,
    save_state=True,
)
CLASSES, VALUES = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])


def written_out(config):
    """Labels, values of the attribute, K and the factors of the losses, from the definitions."""
    sizes = np.ravel(GROUPS)
    y, b = np.repeat(CLASSES, sizes), np.repeat(VALUES, sizes)
    K = np.full((len(y), len(y)), config.between_coupling)
    K = K + (config.coupling - config.between_coupling) * (y[:, None] == y)
    K = K + config.attribute_coupling * (b[:, None] == b)
    K[np.diag_indices(len(y))] = 1.0
    counts = np.bincount(y)
    w = counts**-config.weight_exponent
    w = w * counts.sum() / (counts * w).sum()
    v = sizes**-config.group_weight_exponent
    v = v * sizes.sum() / (sizes * v).sum()
    return y, b, K, w[y] * np.repeat(v, sizes) / len(y)


@pytest.mark.parametrize(
    "changes", [{}, {"loss": "squared"}, {"group_weight_exponent": 1.0, "weight_exponent": 0.5}]
)
def test_the_flow_of_groups_is_that_of_their_inputs(changes):
    """Against an independent integration of (W, A) on inputs with K = X^T X."""
    config = dataclasses.replace(BASE, **changes)
    run = ssm.simulate(config)
    y, _, K, shares = written_out(config)
    X = np.linalg.cholesky(K).T
    n, d = len(y), config.feature_dim
    T = np.eye(2)[:, y] - (0.5 if config.loss == "squared" else 0)

    def slopes(t, state):
        W, A = state[: 2 * d].reshape(2, d), state[2 * d :].reshape(d, n)
        Z = W @ A @ X
        G = shares * ((Z if config.loss == "squared" else softmax(Z, axis=0)) - T)
        return np.concatenate([-(G @ X.T @ A.T).ravel(), -(W.T @ G @ X.T).ravel()])

    A = run["H"].values[0] @ np.linalg.inv(X)
    first, times = np.concatenate([run["W"].values[0].ravel(), A.ravel()]), run["time"].values
    found = solve_ivp(slopes, (0, times[-1]), first, "DOP853", times, rtol=1e-11, atol=1e-13).y.T
    Z = np.stack([s[: 2 * d].reshape(2, d) @ s[2 * d :].reshape(d, n) @ X for s in found])
    assert np.abs(run["W"].values @ run["H"].values - Z).max() < 1e-7  # of logits of about 3
    members = np.eye(4)[np.repeat(np.arange(4), np.ravel(GROUPS))]
    sizes = np.ravel(GROUPS)
    np.testing.assert_allclose(
        run["group_accuracy"], (Z.argmax(1) == y) @ members / sizes, atol=1e-12
    )
    means = Z @ members / sizes
    by_class = (means[..., ::2] + means[..., 1::2]) / 2
    np.testing.assert_allclose(
        run["core_strength"],
        by_class[:, 0, 0] / 2
        - by_class[:, 1, 0] / 2
        + by_class[:, 1, 1] / 2
        - by_class[:, 0, 1] / 2,
        atol=1e-7,
    )
    np.testing.assert_allclose(
        run["class_strength"][-1],
        [(Z[-1][c, y == c] - Z[-1][1 - c, y == c]).mean() for c in (0, 1)],
        atol=1e-6,
    )
    assert run["drift"].max() < 1e-7
    assert run["group_count"].values.tolist() == sizes.tolist()


def test_one_value_of_the_attribute_is_no_attribute():
    """Coupled by c_a and c as by both together within a class, and by c_a between classes."""
    one = dataclasses.replace(BASE, groups=((9,), (6,)), coupling=0.2, between_coupling=0.05)
    run = ssm.simulate(one)
    plain = ssm.simulate(
        dataclasses.replace(
            one,
            groups=None,
            counts=(9, 6),
            attribute_coupling=0.0,
            coupling=0.5,
            between_coupling=0.35,
        )
    )
    for name in (
        "loss",
        "strength",
        "class_strength",
        "class_accuracy",
        "singular_value",
        "W",
        "H",
    ):
        np.testing.assert_allclose(run[name], plain[name], atol=1e-8)
    np.testing.assert_allclose(run["learning_time"], plain["learning_time"], rtol=1e-8)
    np.testing.assert_array_equal(run["group_accuracy"], run["class_accuracy"])
    assert np.isnan(run["spurious_strength"]).all()


@pytest.mark.parametrize("init", ["balanced", "spectral", "collapsed", "gaussian"])
def test_starts_of_groups_are_what_they_say(init):
    run = prepare(dataclasses.replace(BASE, init=init, held_out=init in ("gaussian", "collapsed")))
    W, H = run.flow.params.W, run.flow.params.H
    _, _, K, _ = written_out(BASE)
    n = len(K)
    if init in ("balanced", "spectral"):
        np.testing.assert_allclose(W.T @ W, H[:, :n] @ np.linalg.solve(K, H[:, :n].T), atol=1e-12)
    if init == "collapsed":
        assert len(np.unique(H[:, :n].round(12), axis=1).T) == 4
    columns = run.flow.field.columns
    rows = np.random.default_rng(0).normal(size=(3, n))
    np.testing.assert_allclose(
        parameters.couple(rows, make_columns(BASE, run.problem)), rows @ K, atol=1e-12
    )
    np.testing.assert_allclose(coupled(run.problem, rows), rows @ K, atol=1e-12)
    factor, term = parameters.feature_term(H, columns)
    np.testing.assert_allclose(term / factor, H[:, :n] @ np.linalg.solve(K, H[:, :n].T), atol=1e-10)


def test_early_growth_is_that_of_the_weighted_targets():
    config = dataclasses.replace(
        BASE, init="spectral", init_scale=1e-6, t1=30.0, group_weight_exponent=0.7
    )
    _, _, K, shares = written_out(config)
    y = written_out(config)[0]
    S = np.eye(2)[:, y] - 0.5
    rate = np.linalg.svd(S * shares @ np.linalg.cholesky(K), compute_uv=False)[0]
    run = ssm.simulate(config)
    rates = prepare(config).problem.growth_rates
    assert rates is not None
    np.testing.assert_allclose(rates, [rate], rtol=1e-12)
    # With k = 2 there is one component; weights turn its right vector, which takes some e-folds to settle.
    logs = np.log(run["strength"].values[:, 0])
    measured = (logs[-1] - logs[-4]) / (2 * (run["time"].values[-1] - run["time"].values[-4]))
    np.testing.assert_allclose(measured, rate, rtol=0.01)


@pytest.mark.parametrize(("own", "ratio"), [(8, 1.0), (8, 6.0), (9, 3.0)])
def test_early_growth_with_a_spurious_attribute(own, ratio):
    """Two classes of 10, of which `own` have the class's own value of the attribute, by the formulas written out: rate,
    spurious over core strength, and on which side of s (2 p - 1) = 1 the minority groups are unlearned first."""
    c, c_a = 0.1, 0.1 * ratio
    config = ssm.Config(
        num_classes=2, groups=(own, 10 - own, 10 - own, own), coupling=c, attribute_coupling=c_a, feature_dim=4, init="spectral",
        init_scale=1e-3, t1=10.0, num_saves=5,
    )  # fmt: skip
    private, goes_with = (1 - c - c_a) / 20, 2 * own / 10 - 1
    s = c_a / (c + 2 * private)
    rates = prepare(config).problem.growth_rates
    expected = np.sqrt((private + c / 2) * (1 + s * goes_with**2) / 2)
    assert rates is not None
    np.testing.assert_allclose(rates, [expected], rtol=1e-12)
    run = ssm.simulate(config)
    assert run["core_strength"].values.max() < 1e-3  # while residuals are 1/2
    np.testing.assert_allclose(run["spurious_strength"] / run["core_strength"], s, rtol=2e-3)
    minority = run["group_accuracy"].values[-1][1:3]
    assert minority.tolist() == ([0, 0] if s * goes_with > 1 else [1, 1])


@pytest.mark.parametrize("noise_dim", [None, pytest.param(40, marks=pytest.mark.slow)])
def test_held_out_groups_are_what_fresh_samples_get(noise_dim):
    config = dataclasses.replace(
        BASE,
        held_out=True,
        noise_dim=noise_dim,
        init_scale=0.3,
        t1=6.0,
        rtol=1e-7,
        atol=1e-9,
    )
    run = ssm.simulate(config)
    accuracy = run["held_out_group_accuracy"].values[-1]
    rng = np.random.default_rng(1)
    number, private = 40_000, 1 - 0.2 - 0.3
    if noise_dim is not None:
        W, A = run["W"].values[-1], run["A"].values[-1]
        for g in range(4):
            x = np.zeros((1 + 2 + 2 + 40, number))
            x[0], x[1 + CLASSES[g]], x[3 + VALUES[g]] = 0.05**0.5, 0.15**0.5, 0.3**0.5
            x[5:] = rng.normal(size=(40, number)) * np.sqrt(private / 40)
            measured = ((W @ A @ x).argmax(0) == CLASSES[g]).mean()
            assert abs(measured - accuracy[g]) < 5 * 0.5 / np.sqrt(number), g
        return
    # Where noise never ends: inputs in which each training sample has a direction of its own, fresh ones another.
    prepared = prepare(config)
    y, _b, K, _ = written_out(config)
    n = len(y)
    named = np.zeros((5, 4))
    named[0] = 0.05**0.5
    named[1 + CLASSES, np.arange(4)], named[3 + VALUES, np.arange(4)] = 0.15**0.5, 0.3**0.5
    X = np.vstack(
        [named[:, np.repeat(np.arange(4), np.ravel(GROUPS))], np.sqrt(private) * np.eye(n)]
    )
    np.testing.assert_allclose(X.T @ X, K, atol=1e-12)
    # A is A_0 plus what moved: H(t) - H(0) = (A(t) - A(0)) X, in the span of X.
    moved = (run["H"].values[-1] - run["H"].values[0]) @ np.linalg.solve(K, X.T)
    start = prepared.flow.observe.held_out.samples
    onto, rest = start.onto, start.rest
    means = np.stack(
        [
            run["H"].values[0][:, np.repeat(np.arange(4), np.ravel(GROUPS)) == g].mean(1)
            for g in range(4)
        ]
    ).T
    fresh = (means @ onto + rest) + moved[:, :5] @ named  # A_0 of the shared part, and what moved
    W = run["W"].values[-1]
    noise = 0.3 * np.sqrt(private) * rng.normal(size=(config.feature_dim, number))
    for g in range(4):
        measured = ((W @ (fresh[:, [g]] + noise)).argmax(0) == CLASSES[g]).mean()
        assert abs(measured - accuracy[g]) < 5 * 0.5 / np.sqrt(number), g


def test_worst_group_weights_follow_the_rule_of_group_dro():
    config = ssm.Config(
        groups=GROUPS, coupling=0.2, attribute_coupling=0.3, feature_dim=5, init_scale=0.3, optimizer="gd",
        learning_rate=0.1, num_steps=40, num_saves=5, save_state=True,
    )  # fmt: skip
    run = ssm.simulate(config, schedule=ssm.schedules.WorstGroup(rate=0.2))
    config_plain = dataclasses.replace(config, between_coupling=0.0)
    y, _, K, _ = written_out(config_plain)
    sizes = np.ravel(GROUPS)
    members = np.eye(4)[np.repeat(np.arange(4), sizes)]
    W, H, q = run["W"].values[0], run["H"].values[0], np.full(4, 0.25)
    for _ in range(40):
        Z = W @ H
        p = softmax(Z, axis=0)
        losses = -np.log(p[y, np.arange(len(y))]) @ members / sizes
        q = q * np.exp(0.2 * losses)
        q = q / q.sum()
        G = (p - np.eye(2)[:, y]) * (q / sizes @ members.T)
        W, H = W - 0.1 * G @ H.T, H - 0.1 * W.T @ G @ K
    np.testing.assert_allclose(run["W"].values[-1], W, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(run["H"].values[-1], H, rtol=1e-10, atol=1e-12)


def test_strengths_of_groups_are_those_of_logits_made_by_hand():
    counts = np.array([[90, 10], [20, 80]])
    core = np.eye(2) - 0.5
    assert core_strength(core[:, CLASSES]) == 1
    assert abs(spurious_strength(core[:, CLASSES], counts)) < 1e-15
    told = counts / 100 / (counts / 100).sum(0) - 0.5
    told = told - told.mean(1, keepdims=True)
    logits = 0.7 * core[:, CLASSES] + 1.3 * told[:, VALUES]
    np.testing.assert_allclose(core_strength(logits), 0.7, rtol=1e-12)
    np.testing.assert_allclose(spurious_strength(logits, counts), 1.3, rtol=1e-12)


def test_a_sweep_of_groups_is_every_run():
    swept = ssm.sweep({"group_weight_exponent": [0.0, 1.0]}, BASE)
    for g in (0.0, 1.0):
        run = ssm.simulate(dataclasses.replace(BASE, group_weight_exponent=g))
        one = swept.sel(group_weight_exponent=g)
        for name in (
            "group_accuracy",
            "core_strength",
            "spurious_strength",
            "loss",
            "group_weight",
        ):
            np.testing.assert_allclose(one[name], run[name], rtol=1e-9, atol=1e-12)


BAD = [
    ({"groups": ((5, 0), (3, 2))}, "groups[1]=0"),
    ({"groups": ((5, 1), (3,))}, "groups="),
    ({"groups": (5, 1, 3), "num_classes": 2}, "groups="),
    ({"groups": 5}, "groups=5"),
    ({"groups": GROUPS, "counts": (3, 4)}, "counts="),
    ({"groups": GROUPS, "num_classes": 3}, "num_classes=3"),
    ({"groups": GROUPS, "profile": "step"}, "profile='step'"),
    ({"groups": GROUPS, "coupling": 0.8, "attribute_coupling": 0.3}, "attribute_coupling=0.3"),
    ({"attribute_coupling": 0.3}, "attribute_coupling=0.3"),
    ({"group_weight_exponent": 1.0}, "group_weight_exponent=1.0"),
    ({"groups": GROUPS, "geometry": True}, "geometry=True"),
    ({"groups": GROUPS, "optimizer": "adam", "attribute_coupling": 0.1}, "attribute_coupling=0.1"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=[line for _, line in BAD])
def test_bad_groups_get_one_line(fields, line):
    with pytest.raises(ssm.InputError) as caught:
        ssm.Config(**fields)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_groups_survive_json_and_the_shell():
    config = ssm.Config(groups=GROUPS, attribute_coupling=0.2)
    assert ssm.Config.from_json(config.to_json()) == config
    assert config == ssm.Config(groups=(12, 3, 2, 7), num_classes=2, attribute_coupling=0.2)
    assert config.group_counts == GROUPS
    assert config.class_counts == (15, 9)


@pytest.fixture(scope="module")
def held_out_run():
    return ssm.simulate(dataclasses.replace(BASE, held_out=True, noise_dim=40))


def test_groups_are_drawn_with_their_numbers(held_out_run, tmp_path):
    """Groups of 12 and 7 are large, of 3 and 2 small: the geometric mean of 12 and 2 is 4.9."""
    assert plotting.kinds(held_out_run)[0] == "groups"
    figure = plotting.figure(held_out_run)
    accuracies, strengths = figure.axes
    found = [(line.get_color(), line.is_dashed(), line.get_ydata()) for line in accuracies.lines]
    sizes = {"majority": [0, 3], "minority": [1, 2]}
    for name, dashed in (("group_accuracy", False), ("held_out_group_accuracy", True)):
        accuracy = held_out_run[name].values
        for size, groups in sizes.items():
            drawn = [y for c, d, y in found if (c, d) == (plotting.COLORS[size], dashed)]
            np.testing.assert_array_equal(drawn, accuracy[:, groups].T)
        (worst,) = [y for c, d, y in found if (c, d) == ("black", dashed)]
        np.testing.assert_array_equal(worst, accuracy.min(axis=1))
    drawn = {line.get_label(): line.get_ydata() for line in strengths.lines}
    for name in ("core", "spurious"):
        np.testing.assert_array_equal(drawn[name], held_out_run[f"{name}_strength"])
    for axes in figure.axes:
        assert axes.get_xlabel().startswith("flow time") and axes.get_ylabel() and axes.get_legend()
    plotting.save_figure(figure, tmp_path / "groups.png")
    assert (tmp_path / "groups.png").stat().st_size > 5000


def test_an_attribute_that_says_nothing_has_no_curve():
    run = ssm.simulate(dataclasses.replace(BASE, groups=((9,), (6,))))
    figure = plotting.figure(run, "groups")
    labels = {line.get_label() for axes in figure.axes for line in axes.lines}
    assert "core" in labels and not {"spurious", "held-out"} & labels


def test_groups_are_drawn_from_the_shell_and_refused_without(
    run, held_out_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    ssm.save(held_out_run, "groups.zarr")
    monkeypatch.setattr(sys, "argv", ["ssm", "plot", "groups.zarr"])
    commands.main()
    assert "kind groups" in capsys.readouterr().out
    assert (tmp_path / "groups-groups.png").is_file()
    ssm.save(run(), "plain.zarr")
    monkeypatch.setattr(sys, "argv", ["ssm", "plot", "plain.zarr", "--kind", "groups"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    err = capsys.readouterr().err
    assert left.value.code == 2 and "kind='groups'" in err and err.count("\n") == 1
    assert "no groups" in err and not (tmp_path / "plain-groups.png").exists()


def test_the_worst_group_is_named():
    """By held-out accuracy where there is any, as all of the training samples are right in the end."""
    config = dataclasses.replace(BASE, noise_dim=40, held_out=True)
    for run, name, worst in (
        (ssm.simulate(config), "held_out_group_accuracy", np.nanargmin),
        (ssm.simulate(BASE), "group_loss", np.nanargmax),
    ):
        g = int(worst(run[name].values[-1]))
        said = summaries.facts(run)["worst group"]
        group = f"class {run.group_class.values[g]} with attribute {run.group_attribute.values[g]}"
        assert said.startswith(f"{group}, {run.group_count.values[g]} samples: accuracy ")
