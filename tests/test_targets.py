"""Samples that are taught distributions over the classes: soft labels, noise, several right answers."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp
from scipy.special import log_softmax, softmax

import ssm
from ssm import preparation
from ssm.additions import Additions
from ssm.measures import spectral
from ssm.problem.own_targets import own_targets
from ssm.problem.problem import make_problem
from ssm.problem.samples import with_growth_rates

K, D = 4, 5
RNG = np.random.default_rng(3)
LABELS = np.array([2, 0, 0, 3, 1, 0, 1, 2, 0, 1])  # in no order, and with classes of 4, 3, 2 and 1
SOFT = RNG.dirichlet(np.full(K, 0.3), len(LABELS)) / 2 + np.eye(K)[LABELS] / 2
SAMPLE_WEIGHTS = RNG.uniform(0.5, 2, len(LABELS))
BASE = ssm.Config(
    init_scale=0.1,
    num_classes=K,
    feature_dim=D,
    t1=60.0,
    num_saves=20,
    rtol=1e-10,
    atol=1e-12,
    save_state=True,
)


def kernel(config, y):
    """K of samples with labels y, written out."""
    same = y[:, None] == y[None]
    shared = np.where(same, config.coupling, config.between_coupling)
    return np.where(np.eye(len(y), dtype=bool), 1.0, shared)


def independent(run, config, P, y, shares):
    """The logits of the flow of (W, H) from the start of a run, by another integrator: (time, k, n)."""
    k, d, n = P.shape[1], config.feature_dim, len(P)
    K_, T = kernel(config, y), P.T - (1 / k if config.loss == "squared" else 0)

    def slopes(t, state):
        W, H = state[: k * d].reshape(k, d), state[k * d :].reshape(d, n)
        Z = W @ H
        G = shares * ((Z if config.loss == "squared" else softmax(Z, axis=0)) - T)
        return np.concatenate([-(G @ H.T).ravel(), -(W.T @ G @ K_).ravel()])

    first = np.concatenate([run["W"].values[0].ravel(), run["H"].values[0].ravel()])
    times = run["time"].values
    states = solve_ivp(slopes, (0, times[-1]), first, "DOP853", times, rtol=1e-11, atol=1e-13).y.T
    return np.stack([s[: k * d].reshape(k, d) @ s[k * d :].reshape(d, n) for s in states])


SETTINGS = {
    "free": {},
    "squared": {"loss": "squared"},
    "coupled": {"coupling": 0.4, "between_coupling": 0.1, "weight_exponent": 0.5},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_is_the_flow_of_its_targets(name):
    config = dataclasses.replace(BASE, **SETTINGS[name])
    weights = SAMPLE_WEIGHTS if name == "coupled" else None
    run = ssm.simulate(config, targets=SOFT, labels=LABELS, sample_weights=weights)
    order = np.argsort(LABELS, kind="stable")
    P, y = SOFT[order], LABELS[order]
    counts = np.bincount(y)
    relative = counts**-config.weight_exponent
    shares = (relative * counts.sum() / (counts * relative).sum())[y] / len(y)
    shares = shares * (1 if weights is None else weights[order])
    Z = independent(run, config, P, y, shares)
    held = run["W"].values @ run["H"].values
    assert np.abs(held - Z).max() < 1e-7  # of logits of about 3, both integrators to 1e-10

    # What is observed, from the logits of the other integrator.
    log_p = log_softmax(Z, axis=1)
    losses = (
        ((Z - P.T + 1 / K) ** 2).sum(1) / 2 if config.loss == "squared" else -(P.T * log_p).sum(1)
    )
    members = np.eye(K)[y]
    np.testing.assert_allclose(run["loss"], losses @ shares, atol=1e-7)
    np.testing.assert_allclose(run["class_loss"], losses @ members / counts, atol=1e-7)
    right = Z.argmax(1) == y
    np.testing.assert_allclose(run["class_accuracy"], right @ members / counts, atol=1e-12)
    u, s, v = np.linalg.svd(P.T - 1 / K)
    r = run.sizes["component"]
    assert r == K - 1
    np.testing.assert_allclose(run["component_target"], s[:r], rtol=1e-12)
    strengths = np.einsum("kj,tkn,jn->tj", u[:, :r], Z, v[:r])
    np.testing.assert_allclose(run["strength"], strengths, atol=1e-7)
    values = np.linalg.svd(Z, compute_uv=False)
    np.testing.assert_allclose(run["singular_value"], values, atol=1e-7)
    outside = 1 - (strengths**2).sum(1) / (Z**2).sum((1, 2))
    np.testing.assert_allclose(run["residual"], outside, atol=1e-6)
    tbar = (P.T - 1 / K) @ members / counts
    on_target = np.einsum("tkc,kc->tc", Z @ members / counts, tbar) / (tbar**2).sum(0)
    np.testing.assert_allclose(run["class_strength"], on_target, atol=1e-7)
    assert run["drift"].max() < 1e-7
    assert run.attrs["status"] == "finished"


@pytest.mark.parametrize("loss", ["cross_entropy", pytest.param("squared", marks=pytest.mark.slow)])
@pytest.mark.parametrize("coupling", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_one_hot_targets_are_labels_to_the_bit(loss, coupling):
    config = dataclasses.replace(BASE, loss=loss, coupling=coupling, weight_exponent=0.5)
    run = ssm.simulate(config, targets=np.eye(K)[LABELS])
    plain = ssm.simulate(dataclasses.replace(config, profile="custom", counts=(4, 3, 2, 1)))
    drop = ["created", "git_commit"]
    one, other = ({k: v for k, v in each.attrs.items() if k not in drop} for each in (run, plain))
    assert one == other
    xr.testing.assert_identical(run.drop_attrs(), plain.drop_attrs())


@pytest.mark.parametrize("loss", ["cross_entropy", pytest.param("squared", marks=pytest.mark.slow)])
def test_nearly_one_hot_targets_are_nearly_labels(loss):
    """The path of soft targets against that of labels, which share no loss and no class sums."""
    config = dataclasses.replace(BASE, loss=loss, init="spectral", t1=30.0)
    P = np.eye(K)[LABELS] * (1 - 1e-12) + 1e-12 / K
    run = ssm.simulate(config, targets=P, labels=LABELS)
    plain = ssm.simulate(dataclasses.replace(config, profile="custom", counts=(4, 3, 2, 1)))
    assert run["strength"].shape == plain["strength"].shape
    for name in (
        "loss",
        "class_loss",
        "class_strength",
        "singular_value",
        "strength",
        "class_accuracy",
    ):
        np.testing.assert_allclose(run[name], plain[name], rtol=1e-6, atol=1e-7)
    for name in ("learning_time", "class_learning_time"):
        np.testing.assert_allclose(run[name], plain[name], rtol=1e-6)
    assert run["component_block"].values.tolist() == plain["component_block"].values.tolist()


def test_a_permutation_of_samples_or_classes_permutes_the_run():
    first = ssm.simulate(BASE, targets=SOFT, labels=LABELS)
    config = dataclasses.replace(BASE, init_scale=ssm.Config.init_scale)
    order = RNG.permutation(len(LABELS))
    # Samples are kept sorted by class, within a class in the order given, and so is the start: one that is the same
    # for each sample is what permutes.
    W, H = first["W"].values[0], first["H"].values[0]
    sorted_first = np.argsort(LABELS, kind="stable")
    sorted_mixed = order[np.argsort(LABELS[order], kind="stable")]
    place = [np.flatnonzero(sorted_first == j)[0] for j in sorted_mixed]
    mixed = ssm.simulate(
        config, targets=SOFT[order], labels=LABELS[order], start=ssm.Params(W, H[:, place])
    )
    again = ssm.simulate(config, targets=SOFT, labels=LABELS, start=ssm.Params(W, H))
    for name in ("loss", "strength", "class_strength", "singular_value", "learning_time"):
        np.testing.assert_allclose(mixed[name], again[name], atol=1e-8)
    np.testing.assert_allclose(mixed["H"], again["H"].values[..., place], atol=1e-8)
    renamed = np.array([3, 1, 0, 2])  # class c is called renamed[c]
    rows = np.argsort(renamed)
    y = renamed[LABELS]
    place = [np.flatnonzero(sorted_first == j)[0] for j in np.argsort(y, kind="stable")]
    turned = ssm.simulate(
        config, targets=SOFT[:, rows], labels=y, start=ssm.Params(W[rows], H[:, place])
    )
    np.testing.assert_allclose(turned["class_loss"], again["class_loss"].values[:, rows], atol=1e-8)
    np.testing.assert_allclose(turned["strength"], again["strength"], atol=1e-8)
    np.testing.assert_allclose(turned["learning_time"], again["learning_time"], rtol=1e-7)


def test_strengths_of_a_support_made_by_hand():
    """Two contexts with disjoint supports of two tokens each, and two one-hot contexts: known vectors."""
    supports = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    spectrum = spectral.target_spectrum(supports.T)
    # The one contrast of (1, 1, -1, -1)/2: each column is it times 1/2, and there are four.
    np.testing.assert_allclose(spectrum.singular_values, [1.0], rtol=1e-15)
    np.testing.assert_allclose(np.abs(spectrum.left[:, 0]), 0.5, rtol=1e-15)
    wanted = 2.75
    Z = wanted * np.outer(spectrum.left[:, 0], (supports - 0.25) @ spectrum.left[:, 0])
    Z = Z + RNG.normal(size=4)[None]  # logits that no class is told by
    sums = Z @ (supports - 0.25)
    np.testing.assert_allclose(spectral.strengths(sums, spectrum), [wanted], rtol=1e-12)
    many = RNG.dirichlet(np.full(6, 0.2), 40)
    spectrum = spectral.target_spectrum(many.T)
    u, _s, v = np.linalg.svd(many.T - 1 / 6)
    values = RNG.uniform(1, 3, 5)
    Z = (u[:, :5] * values) @ v[:5]
    np.testing.assert_allclose(spectral.strengths(Z @ (many - 1 / 6), spectrum), values, rtol=1e-12)


def test_early_rates_are_the_singular_values_of_the_targets():
    config = dataclasses.replace(
        BASE, init="spectral", init_scale=1e-5, coupling=0.2, weight_exponent=0.5
    )
    config, found, _ = own_targets(config, SOFT, LABELS, SAMPLE_WEIGHTS)
    assert found is not None
    rates = with_growth_rates(make_problem(config)._replace(targets=found)).growth_rates
    assert rates is not None
    order = np.argsort(LABELS, kind="stable")
    y, counts = LABELS[order], np.bincount(LABELS)
    relative = counts**-0.5
    shares = (
        (relative * counts.sum() / (counts * relative).sum())[y] * SAMPLE_WEIGHTS[order] / len(y)
    )
    root = np.linalg.cholesky(kernel(config, y))
    wanted = np.linalg.svd((SOFT[order].T - 1 / K) * shares @ root, compute_uv=False)[:3]
    np.testing.assert_allclose(rates, wanted, rtol=1e-12)
    free = dataclasses.replace(BASE, init="spectral", init_scale=1e-5, t1=8.0)
    run = ssm.simulate(free, targets=SOFT, labels=LABELS)
    # Without weights and coupling components of the targets do not mix, and grow by e^(2 s t / n).
    grown = np.log(run["strength"].values[10] / run["strength"].values[5])
    measured = grown / (2 * (run["time"].values[10] - run["time"].values[5]))
    np.testing.assert_allclose(measured, run["component_target"].values / len(y), rtol=0.01)


def test_a_class_may_be_no_samples_own():
    """Next tokens of three contexts, of which none has the last two tokens as its likeliest."""
    supports = np.array([[0.6, 0.0, 0.0, 0.4], [0.0, 0.7, 0.3, 0.0], [0.5, 0.0, 0.5, 0.0]])
    run = ssm.simulate(ssm.Config(feature_dim=5, num_saves=30), targets=supports)
    assert run.attrs["status"] == "finished"
    assert run["class_count"].values.tolist() == [2, 1, 0, 0]
    for name in (
        "class_loss",
        "class_accuracy",
        "class_strength",
        "class_learning_time",
        "gradient_share",
    ):
        values = run[name].values[..., :2]
        assert np.isnan(run[name].values[..., 2:]).all(), name
        assert name == "class_learning_time" or np.isfinite(values[-1]).all(), name
    entropy = -(supports * np.log(np.where(supports > 0, supports, 1))).sum(1).mean()
    assert 0 < float(run["loss"][-1]) - entropy < 0.1
    assert set(run["component_block"].values.tolist()) == {""}
    # Under cross-entropy the third component, a fifth of the first, need not reach half its target.
    assert np.isfinite(run["learning_time"][:2]).all()


def test_targets_of_inputs_and_of_an_optimiser():
    config = ssm.Config(
        counts=(4, 3, 2, 1), coupling=0.2, noise_dim=12, feature_dim=5, num_saves=10, init_scale=0.1
    )
    X, y = ssm.mixture_inputs(config)
    P = np.eye(4)[y] * 0.8 + 0.05
    drawn = ssm.simulate(dataclasses.replace(config, t1=20.0), targets=P, labels=y)
    own = ssm.simulate(
        ssm.Config(feature_dim=5, num_saves=10, init_scale=0.1, t1=20.0),
        inputs=X,
        labels=y,
        targets=P,
    )
    np.testing.assert_allclose(drawn["loss"], own["loss"], rtol=1e-9)
    np.testing.assert_allclose(drawn["strength"], own["strength"], rtol=1e-6, atol=1e-9)
    steps = {
        "learning_rate": 0.01,
        "num_steps": 2000,
        "optimizer": "gd",
        "num_saves": 10,
        "feature_dim": 5,
        "init_scale": 0.1,
    }
    descended = ssm.simulate(ssm.Config(**steps), inputs=X, labels=y, targets=P)
    assert abs(float(descended["loss"][-1]) - float(own["loss"][-1])) < 0.01  # steps of 0.01


BAD = [
    ({"targets": [[0.5, 0.4], [0.5, 0.5]]}, "targets='row 0, which sums to 0.9'"),
    ({"targets": [[1.5, -0.5], [0.5, 0.5]]}, "targets='-0.5 in row 0'"),
    ({"targets": [[0.5, np.nan], [0.5, 0.5]]}, "targets='nan in row 0'"),
    ({"targets": [[0.5, 0.5]]}, "targets='the same for all classes'"),
    ({"targets": [0.5, 0.5]}, "targets='an array of shape (2,)'"),
    ({"targets": [["a", "b"]]}, "targets="),
    ({"targets": SOFT, "labels": [0, 1]}, "labels="),
    ({"targets": SOFT, "labels": LABELS + 1}, "labels=4"),
    ({"targets": SOFT, "labels": LABELS + 0.5}, "labels="),
    ({"targets": SOFT, "sample_weights": np.zeros(10)}, "sample_weights=0.0"),
    ({"targets": SOFT, "sample_weights": [1.0]}, "sample_weights="),
    ({"sample_weights": np.ones(3)}, "sample_weights='given'"),
    ({"targets": SOFT, "loss": "focal"}, "loss='focal'"),
    ({"targets": SOFT, "label_smoothing": 0.1}, "label_smoothing=0.1"),
    ({"targets": SOFT, "clock": "loss"}, "clock='loss'"),
    ({"targets": SOFT, "geometry": True}, "geometry=True"),
    ({"targets": SOFT, "coupling": 1.0}, "coupling=1.0"),
    ({"targets": SOFT, "counts": (5, 3, 1, 1)}, "counts="),
]


@pytest.mark.parametrize(("given", "line"), BAD, ids=[line for _, line in BAD])
def test_bad_targets_get_one_line(given, line):
    names = ("targets", "labels", "sample_weights")
    beside = {name: given[name] for name in names if name in given}
    with pytest.raises(ssm.InputError) as caught:
        ssm.simulate(ssm.Config(**{k: v for k, v in given.items() if k not in names}), **beside)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_config_that_names_targets_goes_with_them_only():
    config = ssm.Config(targets="own", counts=(3, 0, 2))
    with pytest.raises(ssm.InputError, match="targets='own'"):
        ssm.simulate(config)
    with pytest.raises(ssm.InputError, match=r"counts\[1\]=0"):
        ssm.Config(counts=(3, 0, 2))


def test_tracked_logits_of_a_run_are_the_run():
    """`ssm.track` of the logits of a run on soft targets, which are sorted by class, against what the run observed."""
    run = ssm.simulate(BASE, targets=SOFT, labels=LABELS)
    order = np.argsort(LABELS, kind="stable")
    Z = (run["W"].values @ run["H"].values).transpose(0, 2, 1)
    log = ssm.track(Z, LABELS[order], run["time"].values, targets=SOFT[order])
    for name in (
        "strength",
        "class_strength",
        "class_accuracy",
        "singular_value",
        "component_target",
    ):
        np.testing.assert_allclose(log[name], run[name], rtol=1e-10, atol=1e-12)
    assert log["component_block"].values.tolist() == run["component_block"].values.tolist()
    unnamed = ssm.track(Z, targets=SOFT[order])
    assert set(unnamed["component_block"].values.tolist()) == {""}
    with pytest.raises(ssm.InputError, match="targets="):
        ssm.track(Z, LABELS[order], targets=SOFT[order][:-1])
    with pytest.raises(ssm.InputError, match="left out where logits are an iterator"):
        ssm.track(iter(Z), LABELS[order], targets=SOFT[order])


@pytest.mark.parametrize("beside", ["targets", "groups"])
def test_a_weighted_mean_does_not_depend_on_the_scale_of_weights(beside):
    """Its risk weights sum to 1 over all samples, as over those of a mini-batch, whatever samples and groups weigh."""
    if beside == "groups":
        config = ssm.Config(
            groups=(6, 2, 1, 5), num_classes=2, group_weight_exponent=1.0, weight_exponent=0.5,
            reduction="weighted_mean", t1=1.0,
        )  # fmt: skip
        prepared = preparation.prepare(config)
    else:
        base = ssm.Config(weight_exponent=0.5, reduction="weighted_mean", t1=1.0)
        config, found, _ = own_targets(base, SOFT, LABELS, 7 * SAMPLE_WEIGHTS)
        prepared = preparation.prepare(config, given=Additions(targets=found))
    columns = prepared.flow.field.columns
    np.testing.assert_allclose(columns.risk_weights.sum(), 1, rtol=1e-12)
    again = columns.sampled(jnp.asarray(columns.multiplicity))
    np.testing.assert_allclose(again.risk_weights, columns.risk_weights, rtol=1e-12)
