"""Laws of the flow: closed forms, growth rates, conservation, descent, symmetries, order of convergence."""

import dataclasses

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ssm
from ssm import defaults, losses, preparation, spectral, theory
from ssm.dynamics import observer, parameters, runge_kutta
from ssm.dynamics.column_layouts import class_columns, make_columns, sample_columns
from ssm.dynamics.flow import Flow
from ssm.dynamics.parameters import Params
from ssm.dynamics.starts import Start, make_start
from ssm.dynamics.vector_field import Field
from ssm.problem import make_problem

LOSSES = ["squared", "cross_entropy"]
COUPLINGS = [0.0, 0.1, 0.5, 1.0]
EXPONENTS = [0.0, 0.5, 1.0]
# A step's error is rtol; a few hundred of them stay below 1e-6.
SPECTRAL = {"loss": "squared", "init": "spectral", "rtol": 1e-9, "atol": 1e-12}


def kept(loss, coupling):
    """Whether to keep the state where it does not matter: of coupled samples, whose other runs do."""
    return loss == "cross_entropy" and 0 < coupling < 1


def of_samples(config, problem=None):
    """A start with one column a sample, whatever fewer columns the Config would be run in."""
    problem = make_problem(config) if problem is None else problem
    return make_start(config, problem, sample_columns(problem, losses.LOSSES[config.loss]))[0]


def follow(config, params, problem=None, columns=None, reduced=None):
    """Run `config` from given params, one column a sample unless told otherwise, keeping W and
    H."""
    problem = make_problem(config) if problem is None else problem
    columns = sample_columns(problem, losses.LOSSES[config.loss]) if columns is None else columns
    config = dataclasses.replace(config, save_state=True)
    field = preparation.make_field(config, columns)
    components = spectral.components(problem)
    resolved = defaults.resolve(config, problem)
    assert resolved.t1 is not None
    flow = Flow(
        params=params,
        field=field,
        observe=observer.make_observer(config, problem, field, Start(params, reduced), components),
        times=preparation.save_times(config, resolved.t1),
        rtol=np.asarray(config.rtol),
        atol=np.asarray(resolved.absolute_tolerance),
        max_steps=np.asarray(config.max_steps),
    )
    return flow.follow()


@pytest.mark.parametrize("profile", [{}, {"profile": "long_tailed"}])
@pytest.mark.parametrize("dim", [3, 6])
def test_spectral_start_follows_the_sigmoid(run, tiny, profile, dim):
    changes = {**SPECTRAL, "feature_dim": dim}
    ds = run(**changes, **profile)
    problem = make_problem(tiny(**changes, **profile))
    components = spectral.components(problem)
    target = components.singular_values
    exact = theory.sigmoid(ds.time.values, target / problem.counts.sum(), np.full(3, 1e-6), target)
    assert np.max(np.abs(ds.strength.values - exact) / target) < 1e-6
    assert ds.residual.max() < 1e-12  # nothing leaves the basis


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_weighted_and_coupled_contrasts_follow_the_sigmoid(run, tiny, exponent, coupling):
    changes = {**SPECTRAL, "weight_exponent": exponent, "coupling": coupling}
    ds, problem = run(**changes), make_problem(tiny(**changes))
    components = spectral.components(problem)
    rates = theory.component_growth_rates(problem, components)
    exact = theory.sigmoid(ds.time.values, rates, ds.strength.values[0], components.singular_values)
    contrasts = components.blocks != "cross"
    error = np.abs(ds.strength.values - exact)[:, contrasts] / components.singular_values[contrasts]
    assert error.max() < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_measured_growth_rates(run, tiny, exponent, coupling, loss):
    """Half the logarithmic slope of each block's strength is its rate, while it grows and all logits are small."""
    changes = {
        "loss": loss,
        "weight_exponent": exponent,
        "coupling": coupling,
        "init_scale": 1e-9,
        "atol": 1e-18,
        "rtol": 1e-8,
        "save_state": kept(loss, coupling),
    }
    problem = make_problem(tiny(**changes))
    components = spectral.components(problem)
    rates = theory.component_growth_rates(problem, components)
    # The fastest block grows by 30 e-folds, from about 1e-18 to 1e-5, which leaves the slowest, at a quarter of its rate or
    # more, above the rounding of the fastest. Of its 7.5 e-folds the last 3 are measured: the decaying half of the start is
    # then below e^-9 of the growing one.
    late = 30 / (2 * rates.max())
    early = 0.6 * late
    ds = run(**changes, t1=late)
    window = ds.time.values >= early
    strength = ds.block_strength.values[window]
    slopes = np.polyfit(ds.time.values[window], np.log(np.abs(strength)), 1)[0] / 2
    for b, block in enumerate(spectral.BLOCKS):
        expected = rates[components.blocks == block].mean()
        assert slopes[b] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("init", ["gaussian", "balanced"])
def test_conserved_matrix_and_descent(run, loss, coupling, init):
    state = {"save_state": kept(loss, coupling)}
    ds = run(loss=loss, coupling=coupling, init=init, weight_exponent=1.0, rtol=1e-6, **state)
    assert ds.drift.max() < 100 * 1e-6
    # An accepted step may be off by rtol of the state, and so, at worst, the loss by as much of its own scale.
    assert np.diff(ds.loss.values).max() <= 1e-6 * ds.loss.values[0]
    assert ds.status == "finished"


@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
def test_cross_entropy_keeps_the_sum_of_the_classifiers(tiny, coupling):
    config = tiny(coupling=coupling)
    W = follow(config, of_samples(config)).observations["W"]
    # a sum of four entries, each within a few steps' tolerance
    np.testing.assert_allclose(W.sum(1), np.broadcast_to(W[0].sum(0), W.sum(1).shape), atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("coupling", [0.0, 1.0])
def test_unit_weights_are_erm_to_the_bit(run, loss, coupling):
    erm = run(loss=loss, coupling=coupling)
    unit = run(loss=loss, coupling=coupling, class_weights=(1.0,) * 4)
    for name in erm.data_vars:
        np.testing.assert_array_equal(erm[name], unit[name])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
def test_rotating_the_start_rotates_the_run(tiny, rng, loss, coupling):
    config = tiny(loss=loss, coupling=coupling, rtol=1e-9, atol=1e-12, init_scale=0.1)
    W, H, *_ = of_samples(config)
    Q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    plain = follow(config, Params(W, H)).observations
    turned = follow(config, Params(W @ Q.T, Q @ H)).observations
    # two solves with their own steps, each within a few hundred rtol; strengths add up twenty samples
    np.testing.assert_allclose(turned["W"], plain["W"] @ Q.T, atol=1e-6)
    np.testing.assert_allclose(turned["H"], Q @ plain["H"], atol=1e-6)
    np.testing.assert_allclose(turned["strength"], plain["strength"], atol=1e-5)


@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
def test_permuting_classes_permutes_the_run(coupling, rng):
    order = np.array([2, 0, 3, 1])
    counts, weights = np.array([8, 8, 2, 2]), np.array([1.0, 0.5, 2.0, 3.0])

    def problem_of(permutation):
        config = ssm.Config(
            profile="custom",
            counts=tuple(counts[permutation].tolist()),
            class_weights=tuple(weights[permutation].tolist()),
            coupling=coupling,
            feature_dim=6,
            num_saves=50,
            rtol=1e-9,
            atol=1e-12,
            init_scale=0.1,
        )
        return config, make_problem(config)

    config, problem = problem_of(np.arange(4))
    W, H, *_ = of_samples(config, problem)
    moved_config, moved = problem_of(order)
    columns = np.concatenate([np.flatnonzero(problem.labels == c) for c in order])
    plain = follow(config, Params(W, H), problem).observations
    permuted = follow(moved_config, Params(W[order], H[:, columns]), moved).observations
    # as above: two solves, each within a few hundred rtol
    np.testing.assert_allclose(permuted["W"], plain["W"][:, order], atol=1e-6)
    np.testing.assert_allclose(permuted["H"], plain["H"][:, :, columns], atol=1e-6)
    np.testing.assert_allclose(
        permuted["class_strength"], plain["class_strength"][:, order], atol=1e-5
    )
    np.testing.assert_allclose(permuted["loss"], plain["loss"], atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_classes_are_samples_that_move_as_one(tiny, loss, coupling):
    """From a start that is equal on each class, one column a class is the same run."""
    changes = {"init_scale": 0.1, "rtol": 1e-9, "atol": 1e-12, "t1": 100.0}
    config = tiny(loss=loss, coupling=coupling, init="collapsed", **changes)
    problem = make_problem(config)
    columns = class_columns(problem, losses.LOSSES[loss])
    params, *_ = make_start(config, problem, columns)
    by_class = follow(config, params, columns=columns).observations
    by_sample = follow(config, Params(params.W, params.H[:, problem.labels])).observations
    # two solves with their own steps, each within a few hundred rtol
    for name in ("loss", "class_loss", "strength", "class_strength", "singular_value"):
        np.testing.assert_allclose(by_class[name], by_sample[name], atol=1e-6)
    np.testing.assert_array_equal(by_class["class_accuracy"], by_sample["class_accuracy"])
    np.testing.assert_allclose(by_class["H"][:, :, problem.labels], by_sample["H"], atol=1e-6)


# compiled once a shape
gradient_of_risk = jax.jit(
    jax.grad(lambda p, columns: jnp.dot(columns.risk_weights, columns.losses(p.W @ p.H)))
)
slope_of = jax.jit(lambda columns, params: Field(columns)(params))
couple = jax.jit(parameters.couple)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("coupling", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("init", ["gaussian", "collapsed"])
def test_the_vector_field_is_the_coupled_gradient_of_the_risk(tiny, loss, coupling, init):
    config = tiny(loss=loss, coupling=coupling, init_scale=1.0, weight_exponent=0.7, init=init)
    problem = make_problem(config)
    columns = make_columns(config, problem)
    params, columns = jax.tree.map(jnp.asarray, (make_start(config, problem, columns)[0], columns))

    gradient, field = gradient_of_risk(params, columns), slope_of(columns, params)
    np.testing.assert_allclose(field.W, -gradient.W, atol=1e-13)
    np.testing.assert_allclose(field.H, -couple(gradient.H, columns), atol=1e-13)


def test_padding_weighs_nothing(tiny):
    config = tiny(init_scale=0.1)
    problem = make_problem(config)
    W, H, *_ = of_samples(config)
    plain = follow(config, Params(W, H)).observations
    columns = sample_columns(problem, losses.LOSSES[config.loss], 31)
    padded = follow(config, Params(W, np.pad(H, ((0, 0), (0, 11)))), columns=columns).observations
    # the same steps: only the order of additions differs
    for name in ("loss", "class_loss", "class_accuracy", "strength", "singular_value", "W"):
        np.testing.assert_allclose(padded[name], plain[name], atol=1e-12)
    assert not padded["H"][:, :, 20:].any()


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["tsit5", "dopri5"])
def test_the_loop_against_another_implementation(tiny, solver):
    """The same pair, tolerance, control and times in diffrax; dense output included."""
    config = tiny(init_scale=0.1, rtol=1e-9, atol=1e-12, solver=solver, save_state=True)
    ours, run = ssm.simulate(config), preparation.prepare(config)
    assert isinstance(run.flow, Flow)
    theirs = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, field: field(Params(*y))[:2]),
        {"tsit5": diffrax.Tsit5, "dopri5": diffrax.Dopri5}[solver](),
        t0=0.0,
        t1=run.flow.times[-1],
        dt0=None,
        y0=jax.tree.map(jnp.asarray, run.flow.params[:2]),
        args=jax.tree.map(jnp.asarray, run.flow.field),
        saveat=diffrax.SaveAt(ts=run.flow.times),
        stepsize_controller=diffrax.PIDController(1e-9, 1e-12, pcoeff=0.3, icoeff=0.4),
        max_steps=10_000,
    )
    assert theirs.ys is not None
    # two solves with their own steps, each within a few hundred rtol
    np.testing.assert_allclose(ours.W, theirs.ys[0], atol=1e-6)
    np.testing.assert_allclose(ours.H, theirs.ys[1], atol=1e-6)
    assert ours.attrs["num_steps"] <= 1.1 * theirs.stats["num_steps"]


@pytest.mark.parametrize("solver", list(runge_kutta.PAIRS))
def test_dense_output_is_of_fourth_order(solver):
    """Order conditions of the weights b_i(x): sum_i b_i(x) c_i^q = x^(q + 1) / (q + 1), q < 4."""
    pair = runge_kutta.PAIRS[solver]
    nodes = np.array([0.0, *(row.sum() for row in pair.stages)])
    for x in (0.2, 0.5, 0.9, 1.0):
        weights = x ** np.arange(1, 5) @ pair.dense
        for q in range(4):
            # the middle of dopri5 is published to ten digits
            assert weights @ nodes**q == pytest.approx(x ** (q + 1) / (q + 1), abs=1e-9)


@pytest.mark.parametrize("solver", ["tsit5", "dopri5"])
def test_solvers_agree_to_their_tolerance(run, solver):
    # with the state, as other tests of both solvers
    exact = run(rtol=1e-11, atol=1e-14, init_scale=0.1, save_state=True)
    ds = run(rtol=1e-7, atol=1e-10, init_scale=0.1, save_state=True, solver=solver)
    # the error follows the tolerance, with a constant of a few hundred steps' worth
    np.testing.assert_allclose(ds.strength, exact.strength, atol=1e-5)


def test_the_error_follows_the_tolerance(run):
    exact = run(loss="squared", rtol=1e-12, atol=1e-15, init_scale=0.1)
    errors = [
        float(
            np.abs(
                run(loss="squared", rtol=rtol, atol=rtol * 1e-3, init_scale=0.1).strength
                - exact.strength
            ).max()
        )
        for rtol in (1e-4, 1e-6, 1e-8)
    ]
    # a method of order five: a hundred times the tolerance, at least thirty times the error
    assert errors[0] > 30 * errors[1] > 900 * errors[2]


def test_block_curves_are_exact_for_a_lone_block():
    """Equal classes from a small random start: the mean of sigmoids over the start's own directions."""
    config = ssm.Config(
        profile="custom",
        counts=(5, 5, 5, 5),
        loss="squared",
        feature_dim=6,
        num_saves=50,
        init_scale=1e-6,
        atol=1e-15,
        rtol=1e-9,
    )
    ds, problem = ssm.simulate(config), make_problem(config)
    columns = make_columns(config, problem)
    params, *_ = make_start(config, problem, columns)
    curves = theory.block_curves(
        params.W,
        columns.class_means(params.H),
        problem,
        spectral.components(problem),
        ds.time.values,
    )
    measured = (ds.block_strength / ds.block_target).values
    # what decays of the start leaves an imprint of its own size, 1e-6 of the saturated factors
    np.testing.assert_allclose(curves[:, 0], measured[:, 0], atol=1e-5)
    assert measured[-1, 0] > 0.99 and np.isnan(curves[:, 1:]).all()


@pytest.mark.slow
def test_going_through_many_samples_in_blocks_changes_nothing(tiny, monkeypatch):
    config = tiny(minority_count=900, init_scale=0.1, save_state=True, weight_exponent=0.7)
    assert make_columns(config, make_problem(config)).many
    in_blocks = ssm.simulate(config)
    assert in_blocks.sizes["sample"] == 9000  # padded to whole blocks and cut again
    monkeypatch.setattr("ssm.dynamics.columns.MANY", 10**9)
    preparation._setting.cache_clear()
    at_once = ssm.simulate(config)
    preparation._setting.cache_clear()
    assert in_blocks.attrs["num_steps"] == at_once.attrs["num_steps"]
    for name in at_once.data_vars:  # only the order of additions differs
        np.testing.assert_allclose(in_blocks[name], at_once[name], atol=1e-9, err_msg=name)
