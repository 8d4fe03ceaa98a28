"""Optimisers' steps on the small-scale model: each its own, gradient descent near the flow, spectral
descent at equal rates, weights that begin to act later."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.special import softmax

import ssm
from ssm import defaults, exact, losses, preparation, schedules, simulation, weights
from ssm.config import Optimizer
from ssm.dynamics import descent, optimizers, trajectories
from ssm.dynamics.column_layouts import sample_columns
from ssm.problem import make_problem
from ssm.support.errors import InputError

NAMES = [name for name in Optimizer.__args__ if name != "flow"]
RATE = 0.3
STEPS = {"learning_rate": RATE, "num_steps": 3, "num_saves": 4, "save_state": True}


def gradients(params, config, of_class=None):
    """dL/dW and dL/dH of weighted cross-entropy, by NumPy alone; of the samples of one class only."""
    W, H = params
    counts = np.array(config.class_counts)
    labels = np.repeat(np.arange(len(counts)), counts)
    w = weights.power_law(counts, config.weight_exponent)[labels]
    G = (softmax(W @ H, axis=0) - np.eye(len(counts))[labels].T) * w / counts.sum()
    if of_class is not None:
        G = G * (labels == of_class)
    return G @ H.T, W.T @ G


def class_normalised(params, config):
    """The sum of the classes' gradients, each over its norm (Francazi, Baity-Jesi, Lucchi 2023)."""
    each = [gradients(params, config, c) for c in range(config.num_classes)]
    norms = [np.sqrt(sum((x**2).sum() for x in g)) for g in each]
    return [
        np.sum([g[i] / norm for g, norm in zip(each, norms, strict=True)], axis=0) for i in (0, 1)
    ]


def polar(X):
    """U V^T over the directions that X has."""
    U, s, V = np.linalg.svd(X, full_matrices=False)
    return U[:, s > 1e-12 * s[0]] @ V[s > 1e-12 * s[0]]


def newton_schulz(X, eps):
    """Five quintic iterations with Jordan's coefficients."""
    X = X / (np.linalg.norm(X) + eps)
    flat = X.T if X.shape[0] > X.shape[1] else X
    for _ in range(5):
        A = flat @ flat.T
        flat = 3.4445 * flat + (-4.775 * A + 2.0315 * A @ A) @ flat
    return flat.T if X.shape[0] > X.shape[1] else flat


def steps_of(name, start, config):
    """Three steps of an optimiser as published, a list of (W, H)."""
    params, states = [np.array(x) for x in start], [start]
    first, second = [np.zeros_like(x) for x in start], [np.zeros_like(x) for x in start]
    for t in range(1, 4):
        g = gradients(params, config)
        norm = np.sqrt(sum((x**2).sum() for x in g))
        if name == "sam":
            g = gradients([p + 0.05 * x / norm for p, x in zip(params, g, strict=True)], config)
        if name == "class_normalised_gd":
            g = class_normalised(params, config)
        if name in ("momentum", "nesterov"):
            first = [0.9 * m + x for m, x in zip(first, g, strict=True)]
        if name in ("adam", "adamw"):
            first = [0.9 * m + 0.1 * x for m, x in zip(first, g, strict=True)]
            second = [0.999 * v + 0.001 * x**2 for v, x in zip(second, g, strict=True)]
        if name in ("muon", "muon_uncorrected"):
            first = [0.95 * m + 0.05 * x for m, x in zip(first, g, strict=True)]
        directions = []
        for p, x, m, v, lam in zip(params, g, first, second, (0.2, 0.1), strict=True):
            if name in ("gd", "sam"):
                directions.append(x)
            elif name == "momentum":
                directions.append(m)
            elif name == "nesterov":
                directions.append(x + 0.9 * m)
            elif name == "class_normalised_gd":
                directions.append(x + lam * p)
            elif name == "normalised_gd":
                directions.append(x / norm)
            elif name == "sign":
                directions.append(np.sign(x))
            elif name in ("adam", "adamw"):
                unbiased = m / (1 - 0.9**t), v / (1 - 0.999**t)
                own = unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
                directions.append(own + (lam * p if name == "adamw" else 0))
            elif name == "spectral_gd":
                directions.append(polar(x))
            elif name == "muon":
                ahead = 0.95 * m / (1 - 0.95 ** (t + 1)) + 0.05 * x / (1 - 0.95**t)
                shape = max(1, x.shape[0] / x.shape[1]) ** 0.5
                directions.append(newton_schulz(ahead, 1e-8) * shape)
            elif name == "muon_uncorrected":  # m is 0.05 of the published buffer
                shape = max(1, x.shape[0] / x.shape[1]) ** 0.5
                directions.append(newton_schulz((0.95 * m + 0.05 * x) / 0.05, 1e-7) * shape)
        params = [p - RATE * x for p, x in zip(params, directions, strict=True)]
        states.append(params)
    return states


@pytest.mark.parametrize("name", NAMES)
def test_every_name_takes_its_own_steps(tiny, name):
    """From a start large enough for cross-entropy to matter; 1e-9: rounding, which iterations of
    Newton and Schulz (not contracting) raise to 1e-11."""
    own = {
        "adamw": {"weight_decay": 0.2, "feature_decay": 0.1},
        "class_normalised_gd": {"weight_decay": 0.2, "feature_decay": 0.1},
        "sam": {"sam_radius": 0.05},
    }.get(name, {})
    config = tiny(optimizer=name, init_scale=0.5, weight_exponent=0.5, **STEPS, **own)
    found = ssm.simulate(config)
    assert found.status == "finished"
    W, H = found.W.values, found.H.values
    for i, expected in enumerate(steps_of(name, (W[0], H[0]), config)):
        np.testing.assert_allclose(W[i], expected[0], atol=1e-9)
        np.testing.assert_allclose(H[i], expected[1], atol=1e-9)


def test_no_two_names_take_the_same_steps(tiny, rng):
    """So that the test above tells each from each other. Momentum's first step is gradient
    descent's: the last of three is compared."""
    config = tiny(weight_exponent=0.5)
    start = 0.5 * rng.normal(size=(4, 6)), 0.5 * rng.normal(size=(6, 20))
    ends = np.array([steps_of(name, start, config)[-1][1].ravel() for name in NAMES])
    apart = np.linalg.norm(ends[:, None] - ends[None], axis=2) + np.eye(len(ends))
    assert apart.min() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"coupling": 1.0, "bias": "output"},
        {"coupling": 0.3, "between_coupling": 0.1, "noise_dim": 5, "bias": "output"},
    ],
    ids=["classes", "inputs"],
)
def test_per_class_normalised_steps_on_other_columns_than_samples(tiny, changes):
    """The first step of class means, and of a layer A on inputs, by automatic differentiation of each class's
    risk; class weights cancel. 1e-12: rounding of numbers of order 1."""
    rate = 0.1
    config = tiny(
        optimizer="class_normalised_gd",
        weight_exponent=1.0,
        init_scale=0.5,
        learning_rate=rate,
        num_steps=1,
        num_saves=2,
        save_state=True,
        **changes,
    )
    with jax.enable_x64(True):
        prepared = preparation.prepare(config)
        params, columns = prepared.flow.params, prepared.flow.field.columns
        X = np.eye(4) if columns.inputs is None else columns.inputs
        n = columns.multiplicity

        def risk(params, c):  # without class weights
            W, A, _, bias = params
            logits = W @ A @ X + bias
            own = jax.nn.logsumexp(logits, axis=0) - logits[columns.labels, np.arange(len(n))]
            return ((columns.labels == c) * n * own).sum() / 20

        slope, moved = jax.jit(jax.grad(risk)), [np.zeros_like(x) for x in jax.tree.leaves(params)]
        for c in range(4):
            each = [np.asarray(x) for x in jax.tree.leaves(slope(params, c))]
            norm = np.sqrt(sum((x**2).sum() for x in each))
            moved = [m + x / norm for m, x in zip(moved, each, strict=True)]
    found = ssm.simulate(config)
    features = "H" if columns.inputs is None else "A"
    for name, x, m in zip(("W", features, "bias"), jax.tree.leaves(params), moved, strict=True):
        step = found[name].values[1].reshape(x.shape) - found[name].values[0].reshape(x.shape)
        np.testing.assert_allclose(step, -rate * m, atol=1e-12)


def test_a_class_that_a_mini_batch_has_not_drawn_adds_nothing(tiny):
    """A step of one sample is of unit norm; one of all classes may be as long as k."""
    steps = {"init_scale": 0.5, "learning_rate": 1.0, "num_steps": 1, "num_saves": 2}
    found = ssm.simulate(
        tiny(optimizer="class_normalised_gd", batch_size=1, save_state=True, **steps)
    )
    step = [found[name].values[1] - found[name].values[0] for name in ("W", "H")]
    assert sum((x**2).sum() for x in step) == pytest.approx(1, rel=1e-12)


def test_the_direction_of_spectral_descent_leaves_out_what_is_only_rounding(rng):
    """A 5 x 7 matrix of rank 3: its factor has three singular values of 1, the others are 0."""
    with jax.enable_x64(True):
        X = rng.normal(size=(5, 3)) @ rng.normal(size=(3, 7))
        factor = np.asarray(optimizers.polar_factor(jax.numpy.asarray(X)))
    np.testing.assert_allclose(factor, polar(X), atol=1e-12)
    np.testing.assert_allclose(np.linalg.svd(factor, compute_uv=False), [1, 1, 1, 0, 0], atol=1e-12)


def test_gradient_descent_tends_to_the_flow_with_slope_one(tiny, run):
    """Halving the step halves the error: slope 1.00 +- 0.03."""
    length, numbers = 20.0, np.array([256, 512, 1024])
    flow = run(t1=length, rtol=1e-10, init_scale=0.1)
    errors = []
    for number in numbers:
        config = tiny(optimizer="gd", learning_rate=length / number, num_steps=int(number))
        found = ssm.simulate(dataclasses.replace(config, init_scale=0.1))
        assert found.cumulative_rate[-1] == pytest.approx(length, rel=1e-12)
        here = found.strength.values[-1] - flow.strength.values[-1]
        errors.append(np.abs(here).max())
    slopes = np.diff(np.log(errors)) / np.diff(np.log(1 / numbers))
    np.testing.assert_allclose(slopes, 1, atol=0.03)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_spectral_descent_learns_all_components_at_one_rate(tiny, exponent):
    """T_i = s_i^(1/2) - eps within 1 %, steps of 1/1000. Weights do not change it where components
    are those of single groups; the cross component of unequal weights is a mixture."""
    rate, scale = 2e-3, 1e-2
    config = tiny(
        optimizer="spectral_gd",
        loss="squared",
        init="spectral",
        init_scale=scale,
        learning_rate=rate,
        num_steps=1000,
        num_saves=501,
        weight_exponent=exponent,
    )
    found = ssm.simulate(config)
    alone = found.component_block.values != "cross" if exponent else np.ones(3, bool)
    targets = found.component_target.values
    times = np.asarray(exact.spectral_learning_time(targets, scale, 2, level=0.99)) / rate
    for j in np.flatnonzero(alone):  # up to where it is learned: there the steps go to and fro
        share = found.strength.values[:, j] / targets[j]
        end = np.argmax(share >= 0.99) + 1
        arrives = np.interp(0.99, share[:end], found.time.values[:end])
        assert arrives == pytest.approx(times[j], rel=0.01)
    half = np.asarray(exact.spectral_learning_time(targets, scale, 2)) / rate
    np.testing.assert_allclose(found.learning_time.values[alone], half[alone], rtol=0.01)


def same(a, b, but=()):
    """Whether two runs are the same to the bit."""
    return all(
        np.array_equal(a[name].values, b[name].values, equal_nan=a[name].dtype.kind == "f")
        for name in a.data_vars
        if name not in but
    )


LATER = [
    {"optimizer": "gd", "num_steps": 200, "learning_rate": 0.5},
    # its three programs are compiled as for users, some ten seconds
    pytest.param({"save_state": True}, marks=pytest.mark.slow),
    # to an end that shares its program with a run in pieces
    pytest.param(
        {"clock": "loss", "t1": 20.0, "stop_margin": 30.0, "rtol": 1e-4}, marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize("changes", LATER)
def test_a_switch_at_0_is_reweighting_and_one_beyond_the_end_is_erm_to_the_bit(
    compiled_as_for_users, tiny, changes
):
    def run(**changes):
        return ssm.simulate(tiny(**changes))

    weighted, erm = run(weight_exponent=1.0, **changes), run(**changes)
    assert same(weighted, run(weight_exponent=1.0, weight_start=0.0, **changes))
    length = {} if "num_steps" in changes else {"t1": erm.attrs["t1"]}
    never = run(weight_exponent=1.0, weight_start=1e9, **{**changes, **length})
    assert same(erm, never, but=("predicted_learning_time",))


def test_steps_before_the_switch_are_erm_and_those_after_it_weighted(tiny):
    """One step each side of a switch at 2, by NumPy; at a ramp of 2 step 3 mixes both risks."""
    for ramp, share in ((0.0, 1.0), (2.0, 0.5)):
        config = tiny(
            optimizer="gd",
            weight_exponent=1.0,
            weight_start=1.0,
            weight_ramp=ramp,
            init_scale=0.5,
            **STEPS,
        )
        found = ssm.simulate(config)
        erm, weighted = (dataclasses.replace(config, weight_exponent=g) for g in (0.0, 1.0))
        W, H = found.W.values, found.H.values
        before = gradients((W[0], H[0]), erm)
        np.testing.assert_allclose(W[1], W[0] - RATE * before[0], atol=1e-13)
        # the step that starts at the switch is the ramp's first, whose share is still 0
        mixed = [
            (1 - share) * a + share * b
            for a, b in zip(
                gradients((W[2], H[2]), erm), gradients((W[2], H[2]), weighted), strict=True
            )
        ]
        np.testing.assert_allclose(H[3], H[2] - RATE * mixed[1], atol=1e-13)
        full = weights.power_law(config.class_counts, 1.0)
        np.testing.assert_allclose(found.weight.values[0], 1)
        np.testing.assert_allclose(found.weight.values[2], 1 - share + share * full, rtol=1e-12)


def test_a_schedule_weighs_classes_by_what_they_have_learned(tiny):
    """A chain with the trend of accuracy: the recorded weights are those of the chain, worked out
    from the accuracies that were observed."""
    chain = schedules.Chain(
        schedules.PrevalencePower(0.5),
        schedules.Trend(strength=2.0, memory=0.0),
        schedules.CappedUnitMean(0.2, 3.0),
    )
    config = tiny(optimizer="gd", num_steps=200, num_saves=201)
    found = ssm.simulate(config, schedule=chain)
    counts = np.array(config.class_counts)
    accuracy = found.class_accuracy.values
    raw = (counts / counts.min()) ** -0.5 * np.exp(2 * (accuracy.mean(1)[:, None] - accuracy))
    shares = counts / counts.sum()
    mean = found.weight.values @ shares
    np.testing.assert_allclose(mean, 1, rtol=1e-12)
    inside = (found.weight.values < 3 - 1e-9) & (found.weight.values > 0.2 + 1e-9)
    ratio = found.weight.values / raw
    for row, free in zip(ratio, inside, strict=True):  # one factor for all that are not at a bound
        np.testing.assert_allclose(row[free], row[free][0], rtol=1e-9)
    assert np.ptp(accuracy.mean(1)) > 0.2
    last = found.weight.values[-1]  # what is said of weights is said of the last
    assert np.array_equal(found.class_weight, last)
    kish = (counts @ last) ** 2 / (counts @ last**2) / 20
    assert found.attrs["effective_sample_share"] == pytest.approx(kish, rel=1e-12)
    with pytest.raises(InputError, match=r"^schedule="):
        ssm.simulate(tiny(), schedule=chain)


def test_mini_batches_have_the_right_mean(tiny):
    """The mean of 400 sampled gradients' weights is that of the full risk: within five standard
    errors; under `weighted_mean` those of each batch add up to 1."""
    problem = make_problem(tiny(weight_exponent=0.5))
    columns = sample_columns(problem, losses.CrossEntropy(), 24)
    drawn = np.random.default_rng(0).multinomial(8, columns.multiplicity / 20, size=400)
    drawn = drawn.astype(float)
    with jax.enable_x64(True):
        each = np.asarray(jax.vmap(lambda row: columns.sampled(row).risk_weights)(drawn))
        own = dataclasses.replace(columns, weighted_mean=True).sampled(jax.numpy.asarray(drawn[0]))
    error = each.std(0) / np.sqrt(len(each))
    assert (np.abs(each.mean(0) - columns.risk_weights) <= 5 * error).all()
    assert float(own.risk_weights.sum()) == pytest.approx(1, rel=1e-12)
    assert (each[:, 20:] == 0).all()


def test_the_weights_of_mini_batches_follow_the_batch_law(tiny):
    """The classes' mean risk weights over 2000 steps' own batches of 6, within four standard errors of the
    law; weights of 20 : 1."""
    config = tiny(optimizer="gd", batch_size=6, class_weights=(1.0, 1.0, 20.0, 20.0))
    config = dataclasses.replace(config, reduction="weighted_mean")
    with jax.enable_x64(True):
        field = jax.tree.map(jax.numpy.asarray, preparation.prepare(config).flow.field)

        def of_step(step):
            drawn = descent.mini_batch(field, jax.random.key(0), step, 6)
            return drawn.risk_weights @ field.columns.member_columns

        each = np.asarray(jax.vmap(of_step)(jax.numpy.arange(2000)))
    counts = np.array(config.class_counts)
    found = each / (counts / 20)
    law = weights.effective_class_weights(counts, config.class_weights, 6)
    assert (np.abs(found.mean(0) - law) <= 4 * found.std(0) / np.sqrt(2000)).all()
    w = np.array(config.class_weights)
    asked = w / weights.mean_sample_weight(counts, w)
    assert law[2] < 0.8 * asked[2]  # so that the law is told from what was asked


def test_mini_batches_draw_samples_evenly_whatever_a_column_stands_for(tiny):
    """10^9 samples a minority class, in single precision: shares of 4000 draws, within 5 standard
    errors."""
    big = tiny(coupling=1.0, minority_count=10**9, optimizer="gd", batch_size=4000, dtype="float32")
    with jax.enable_x64(False):
        field = jax.tree.map(jax.numpy.asarray, preparation.prepare(big).flow.field)
        draw = jax.jit(descent.mini_batch, static_argnums=3)
        drawn = draw(field, jax.random.key(0), jax.numpy.asarray(0), 4000)
        found = np.asarray(drawn.risk_weights)
    shares = np.array([0.4, 0.4, 0.1, 0.1])
    assert (np.abs(found - shares) <= 5 * np.sqrt(shares * (1 - shares) / 4000)).all()


def test_equal_decay_fades_what_is_conserved_by_the_sum_of_the_rates(tiny):
    """Gradient descent drifts by 0.02 %; by the number of steps it would be all."""
    decay = {"weight_decay": 1e-2, "feature_decay": 1e-2}
    found = ssm.simulate(
        tiny(optimizer="gd", learning_rate=0.01, num_steps=1100, init_scale=0.3, **decay)
    )
    assert found.cumulative_rate[-1] == pytest.approx(11)
    assert found.drift.max() < 4e-4


def test_lengths_rates_and_predictions_know_how_weights_are_reduced(tiny):
    """Weights of 10, self-normalised: the run of unit weights, as long and as predicted."""
    base = tiny(loss="squared", init="spectral", init_scale=1e-6)
    heavy = dataclasses.replace(base, class_weights=(10.0,) * 4, reduction="weighted_mean")
    plain, found = ssm.simulate(base), ssm.simulate(heavy)
    assert found.attrs["t1"] == pytest.approx(plain.attrs["t1"], rel=1e-12)
    assert found.attrs["mean_sample_weight"] == pytest.approx(1, rel=1e-12)
    known = np.isfinite(found.predicted_learning_time.values)
    assert known.any()
    np.testing.assert_allclose(
        found.learning_time.values[known], found.predicted_learning_time.values[known], rtol=1e-4
    )


def test_automatic_steps_go_as_far_as_the_flow(tiny):
    """Whatever the schedule of the rate and the decay; too many are refused."""
    problem = make_problem(tiny())
    constant = tiny(optimizer="gd", num_saves=3)
    length = defaults.automatic_t1(constant, problem)
    drop = {"learning_rate_schedule": "step", "drop_step": 20}
    drops = {**drop, "drop_step": (20, 40), "drop_factor": 0.5}
    cosine = {"learning_rate_schedule": "cosine"}
    for changes in ({}, cosine, drop, drops, {"optimizer": "momentum"}):
        config = dataclasses.replace(constant, **changes)
        run = preparation.prepare(config)
        assert isinstance(run.flow, descent.Descent)
        reach = run.flow.cumulative_rate[-1] / (1 - defaults.momentum(config))
        assert reach == pytest.approx(length, rel=0.02)
    decays = tiny(optimizer="gd", weight_decay=1.0, feature_decay=1.0)
    assert ssm.simulate(decays).status == "finished"
    with pytest.raises(InputError, match=r"^num_steps=None: must be given, at most 10000000"):
        preparation.prepare(tiny(optimizer="gd", learning_rate=1e-7))


def test_a_mini_batch_moves_only_the_features_it_has_drawn(tiny):
    config = tiny(optimizer="gd", batch_size=5, init_scale=0.5, **STEPS)
    found = ssm.simulate(config)
    moved = (found.H.diff("time") != 0).any("feature").sum("sample").values
    assert ((moved >= 1) & (moved <= 5)).all()
    again = ssm.simulate(dataclasses.replace(config, seed=1))
    assert not np.array_equal(found.H[-1] - found.H[0] == 0, again.H[-1] - again.H[0] == 0)


def test_reduction_is_the_mean_over_samples_or_over_weights(run):
    """Weights of any scale are self-normalised: the same run as with weights of unit mean."""
    w = (1.0, 1.0, 6.0, 6.0)
    length = {"optimizer": "gd", "num_steps": 200, "learning_rate": 0.5}
    mean = np.average(w, weights=[8, 8, 2, 2])
    own = run(class_weights=w, reduction="weighted_mean", **length)
    scaled = run(class_weights=tuple(np.array(w) / mean), **length)
    np.testing.assert_allclose(own.strength, scaled.strength, rtol=1e-9)
    assert own.loss[0] == pytest.approx(float(scaled.loss[0]), rel=1e-12)


def test_a_batch_of_runs_is_the_runs_and_a_sweep_compiles_once(tiny):
    """Over the learning rate and the switch; batched products round differently."""
    base = tiny(optimizer="gd", num_steps=200, weight_exponent=1.0, weight_start=0.0)
    grid = {"learning_rate": [0.2, 0.5], "weight_start": [0.0, 50.0, 1e9]}
    swept = ssm.sweep(grid, base)
    assert swept.attrs["num_compilations"] <= 1
    configs = [dataclasses.replace(base, learning_rate=0.5, weight_start=s) for s in (0.0, 50.0)]
    for config in configs:
        at = swept.sel(learning_rate=0.5, weight_start=config.weight_start)
        assert np.array_equal(at.strength, ssm.simulate(config).strength)
    runs = [preparation.prepare(config) for config in configs]
    together = simulation.found_in_batch(runs)
    for config, run, of_run in zip(configs, runs, together, strict=True):
        own, found = ssm.simulate(config), simulation.make_trajectories([run], [of_run])[0]
        np.testing.assert_allclose(found.observations["strength"], own.strength, rtol=1e-9)
        np.testing.assert_allclose(
            found.crossings[:3], own.learning_time, rtol=1e-9, equal_nan=True
        )


def test_learning_rates_are_those_of_the_schedule(tiny):
    for changes, expected in (
        ({}, np.full(8, 0.4)),
        ({"learning_rate_schedule": "cosine"}, 0.2 * (1 + np.cos(np.pi * np.arange(8) / 8))),
        ({"learning_rate_schedule": "step", "drop_step": 5}, [0.4] * 5 + [0.04] * 3),
        (
            {"learning_rate_schedule": "step", "drop_step": (2, 5, 9), "drop_factor": 0.5},
            [0.4] * 2 + [0.2] * 3 + [0.1] * 3,
        ),
    ):
        config = tiny(optimizer="gd", learning_rate=0.4, num_steps=8, num_saves=9, **changes)
        rates, sums = descent.padded_rates(preparation.step_rates(config, 0.4, 8))
        np.testing.assert_allclose(rates[:8], expected, rtol=1e-14)
        np.testing.assert_allclose(sums, np.concatenate([[0], np.cumsum(expected)]), rtol=1e-14)
        assert len(rates) == descent.SHORTEST and not rates[8:].any()


def test_one_drop_among_several_is_a_single_one_to_the_bit(tiny):
    """Given alone in a list, or before one that the run does not reach."""
    drops = {"learning_rate_schedule": "step", "optimizer": "gd", "drop_factor": 0.3}
    base = tiny(num_steps=8, num_saves=9, drop_step=5, **drops)
    assert dataclasses.replace(base, drop_step=[5]) == base
    assert ssm.Config.from_json(base.to_json()).drop_step == 5
    expected = np.where(np.arange(8) < 5, 0.4, 0.4 * 0.3)
    for drop_step in (5, (5, 8), (5, 2**53)):
        config = dataclasses.replace(base, drop_step=drop_step)
        assert ssm.Config.from_json(config.to_json()) == config
        np.testing.assert_array_equal(preparation.step_rates(config, 0.4, 8), expected)


def test_adams_ratio_hardly_knows_the_scale_of_weights_and_gradient_descents_times_do(run):
    """All weights times 10: under 1 % for Adam's ratio of learning times; gradient descent is ten
    times faster, which its ratio hides and the mean sample weight shows."""
    base = {"learning_rate": 0.02, "num_steps": 500, "init_scale": 0.05}
    ratios, times = {}, {}
    for name, rate in (("adam", 0.02), ("gd", 0.02)):
        for factor in (1.0, 10.0):
            own = {**base, "optimizer": name, "learning_rate": rate}
            if name == "gd":
                own["num_steps"] = 8000
            found = run(class_weights=(factor,) * 4, **own)
            assert found.attrs["mean_sample_weight"] == factor
            times[name, factor] = found.block_learning_time.values
            ratios[name, factor] = times[name, factor][2] / times[name, factor][0]
    assert ratios["adam", 10.0] == pytest.approx(ratios["adam", 1.0], rel=0.01)
    np.testing.assert_allclose(times["adam", 10.0], times["adam", 1.0], rtol=0.01)
    np.testing.assert_allclose(times["gd", 1.0] / times["gd", 10.0], 10, rtol=0.02)


def test_a_run_that_diverges_is_a_result(tiny):
    found = ssm.simulate(
        tiny(optimizer="gd", learning_rate=1e40, num_steps=60, loss="squared", feature_decay=1.0)
    )
    assert found.status == "not finite"
    assert np.isfinite(found.loss[0]) and np.isnan(found.loss[-1])
    assert np.isnan(found.learning_time).all()


def test_steps_are_observed_at_whole_numbers_without_a_repeat(tiny):
    for spacing, number in (("linear", 70), ("log", 49), ("log", 5000)):
        config = tiny(optimizer="gd", num_steps=number, save_spacing=spacing)
        flow = preparation.prepare(config).flow
        assert isinstance(flow, descent.Descent)
        steps = flow.steps
        assert steps[0] == 0 and steps[-1] == number and (np.diff(steps) > 0).all()


def test_a_second_run_of_a_shape_compiles_nothing(tiny):
    ssm.simulate(tiny(optimizer="gd", num_steps=200))
    before = trajectories.num_compilations()
    ssm.simulate(tiny(optimizer="gd", num_steps=180, learning_rate=0.1, seed=3))
    assert trajectories.num_compilations() == before
