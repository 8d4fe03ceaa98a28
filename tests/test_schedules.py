"""Schedules of class weights: each transformation against its formula in NumPy, and what chains
keep."""

import copy
import itertools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.core import Tracer
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline

import ssm
from ssm import schedules
from ssm.problem import array_modules, capped_mean
from ssm.problem.schedules import (
    CappedUnitMean,
    Chain,
    Clip,
    Costs,
    EffectiveNumber,
    Fixed,
    LinearRamp,
    PrevalencePower,
    Ramp,
    Statistics,
    Trend,
    UnitMean,
)

COUNTS = np.array([100.0, 40.0, 40.0, 7.0, 1.0])
K = len(COUNTS)
MATRIX = np.array([[abs(i - j) * (1 + i) for j in range(K)] for i in range(K)], dtype=float)


def weights_of(transformation, counts=COUNTS, step=0, performance=None):
    """The weights of one step from the initial state."""
    state = transformation.init(counts)
    stats = Statistics(counts, performance)
    return np.array(schedules.step_weights(transformation, state, stats, step)[0])


def mean(weights, counts=COUNTS):
    return (counts * weights).sum() / counts.sum()


# Against formulas


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.5, 1.0])
def test_prevalence_power(exponent):
    expected = (COUNTS / COUNTS.min()) ** -exponent
    np.testing.assert_allclose(weights_of(PrevalencePower(exponent)), expected, rtol=1e-14)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.999])
def test_effective_number(beta):
    # the formula in NumPy loses the digits of 1 - b
    expected = (1 - beta) / (1 - beta**COUNTS)
    np.testing.assert_allclose(weights_of(EffectiveNumber(beta)), expected, rtol=1e-12)


def test_effective_number_at_its_ends():
    assert (weights_of(EffectiveNumber(0.0)) == 1).all()
    # parts from 1 / n at order n (1 - b) = 1e-10
    np.testing.assert_allclose(weights_of(EffectiveNumber(1 - 1e-12)), 1 / COUNTS, rtol=1e-9)


def test_the_host_has_the_same_laws():
    """`ssm.weights` and the schedules, which share no code."""
    whole = COUNTS.astype(int)
    for part, expected in [
        (PrevalencePower(0.7), ssm.weights.power_law(whole, 0.7)),
        (EffectiveNumber(0.99), ssm.weights.effective_number(whole, 0.99)),
    ]:
        found = weights_of(Chain(part, UnitMean()), counts=whole)  # integers may be counts
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_costs():
    vector = np.arange(1.0, K + 1)
    np.testing.assert_array_equal(weights_of(Costs(vector)), vector)
    by_hand = [np.delete(MATRIX[c], c).sum() / (K - 1) for c in range(K)]
    np.testing.assert_allclose(weights_of(Costs(MATRIX)), by_hand, rtol=1e-14)
    # the cost of being right does not count
    np.testing.assert_allclose(weights_of(Costs(MATRIX + np.eye(K))), by_hand, rtol=1e-14)


def test_costs_multiply_and_fixed_replaces():
    vector = np.arange(1.0, K + 1)
    np.testing.assert_array_equal(weights_of(Chain(Fixed(vector), Costs(vector))), vector**2)
    np.testing.assert_array_equal(weights_of(Chain(Costs(vector), Fixed(vector))), vector)


def test_a_chain_goes_from_left_to_right():
    power, unit = PrevalencePower(1.0), UnitMean()
    assert mean(weights_of(Chain(power, unit))) == pytest.approx(1, rel=1e-14)
    # ones have unit mean already
    np.testing.assert_array_equal(weights_of(Chain(unit, power)), weights_of(power))
    assert (weights_of(Chain()) == 1).all()


# Both bounds and mean

SIX: dict[str, Any] = {"min_size": 6, "max_size": 6}
NUMBERS: dict[str, Any] = {"allow_subnormal": False}


@jax.jit
def capped(low, high, weights, counts):
    stats = Statistics(counts)
    return CappedUnitMean(low, high).update(weights, (), stats, 0)[0]


def by_bisection(low, high, weights, counts):
    """The factor found by halving its logarithm, which rounds as the weights do."""
    weights = weights / weights.max()
    below, above = -60.0, 60.0
    for _ in range(120):
        middle = (below + above) / 2
        if mean(np.clip(np.exp(middle) * weights, low, high), counts) < 1:
            below = middle
        else:
            above = middle
    return np.clip(np.exp(above) * weights, low, high)


@given(
    st.floats(0, 1, **NUMBERS),
    st.floats(1, 50),
    st.lists(st.floats(1e-6, 1e6), **SIX).map(np.array),
    st.lists(st.integers(1, 1000).map(float), **SIX).map(np.array),
)
def test_capped_unit_mean(low, high, w, counts):
    out = np.array(capped(low, high, w, counts))
    assert mean(out, counts) == pytest.approx(1, rel=1e-13)
    assert (out >= low).all() and (out <= high).all()
    order = np.argsort(w)
    assert (np.diff(out[order]) >= 0).all()
    # a class with a share of 1e-4 may differ by the rounding of the mean over that share, and its
    # weight is in the thousandths where the factor is hardly seen
    near: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(out, by_bisection(low, high, w, counts), **near)
    np.testing.assert_allclose(capped(low, high, out, counts), out, **near)
    np.testing.assert_allclose(capped(low, high, 1e5 * w, counts), out, **near)


def test_capping_both_at_once_and_one_after_the_other():
    low, high = 0.5, 2.0
    clipped = Chain(PrevalencePower(1.0), UnitMean(), Clip(low, high))
    assert abs(mean(weights_of(clipped)) - 1) > 0.1
    assert weights_of(Chain(clipped, UnitMean())).max() > 1.1 * high
    both = weights_of(Chain(PrevalencePower(1.0), CappedUnitMean(low, high)))
    assert mean(both) == pytest.approx(1, rel=1e-14)
    assert both.min() >= low and both.max() == high


def test_bounds_that_do_not_bind_leave_the_unit_mean():
    power = PrevalencePower(1.0)
    expected = weights_of(Chain(power, UnitMean()))
    found = weights_of(Chain(power, CappedUnitMean(0.0, 1e6)))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("low", "high", "w", "counts", "expected"),
    [
        (0.5, 1.5, [1.0, 1e9], [3, 3], [0.5, 1.5]),  # every class at a bound
        (1.0, 1.0, [1.0, 5.0], [3, 8], [1, 1]),
        (1.0, 9.0, [1.0, 5.0], [3, 8], [1, 1]),  # all at the lower bound
        (0.0, 1.0, [1.0, 5.0], [3, 8], [1, 1]),  # all at the upper bound
        (0.0, 2.0, [1.0, 1e30], [1, 1], [0, 2]),
        (0.5, 9.0, [0.0, 1.0], [2, 2], [0.5, 1.5]),  # even a weight of zero is lifted
        (0.0, 9.0, [2.0, 2.0], [2, 9], [1, 1]),
    ],
)
def test_capped_unit_mean_at_its_edges(low, high, w, counts, expected):
    out = capped(low, high, np.array(w), np.array(counts, dtype=float))
    np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)


# Ramps


def test_deferred_reweighting():
    """Ones to the bit before the switch, the weights to the bit after it."""
    inner = Chain(EffectiveNumber(0.999), UnitMean())
    expected = weights_of(inner)
    deferred = Ramp(LinearRamp(20, 0), inner)
    for step in (0, 19):
        assert (weights_of(deferred, step=step) == 1).all()
    for step in (20, 21, 1000):
        np.testing.assert_array_equal(weights_of(deferred, step=step), expected)


@pytest.mark.parametrize("length", [0, 1, 10, 49])
def test_linear_ramp(length):
    steps = np.arange(80)
    found = np.array(jax.jit(jax.vmap(LinearRamp(5, length)))(steps))
    # both ends to the bit, though 49 (1 / 49) is not 1
    assert (found[steps < 5] == 0).all() and (found[steps >= 5 + length] == 1).all()
    between = (steps >= 5) & (steps < 5 + length)
    np.testing.assert_allclose(found[between], (steps[between] - 5) / max(length, 1), rtol=1e-15)


OPTAX = {
    "linear": optax.linear_schedule(0.0, 1.0, 8, 4),
    "cosine": optax.cosine_decay_schedule(1.0, 10),
    "steps": optax.piecewise_constant_schedule(0.25, {5: 4.0}),
    "lambda": lambda step: 1 / (1 + step),
}


@pytest.mark.parametrize("name", OPTAX)
def test_any_schedule_of_the_step(name):
    ramp = Ramp(OPTAX[name], Chain(PrevalencePower(1.0), UnitMean()))
    expected = weights_of(ramp.inner)
    follow = jax.jit(lambda ramp, step: ramp.update(jnp.ones(K), ramp.init(COUNTS), stats, step)[0])
    stats = Statistics(COUNTS)
    for step in (0, 6, 10):
        s = float(OPTAX[name](step))
        # the program's blend may be fused
        np.testing.assert_allclose(follow(ramp, step), 1 - s + s * expected, rtol=1e-14)


def test_a_ramp_starts_from_the_weights_it_is_given():
    chain = Chain(PrevalencePower(0.5), Ramp(LinearRamp(0, 4), Fixed(np.full(K, 3.0))))
    start = (COUNTS / COUNTS.min()) ** -0.5
    found = weights_of(chain, step=1)
    np.testing.assert_allclose(found, 0.75 * start + 0.25 * 3, rtol=1e-14)


# Recent performance


def run_of(transformation, performances, counts=COUNTS):
    """The weights of every step, in one scan, and the last state."""

    def step(state, given):
        number, performance = given
        stats = Statistics(jnp.asarray(counts), performance)
        weights, state = schedules.step_weights(transformation, state, stats, number)
        return state, weights

    numbers = jnp.arange(len(performances))
    return jax.lax.scan(step, transformation.init(counts), (numbers, performances))


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_trend_against_a_loop(rng, memory):
    strength, seen = 1.5, rng.random((12, K))
    _, found = run_of(Trend(strength, memory), seen)
    for t in range(1, 13):
        # an average with weights memory^age, which needs no correction
        ages = memory ** np.arange(t - 1, -1, -1, dtype=float)
        recent = (ages[:, None] * seen[:t]).sum(0) / ages.sum()
        expected = np.exp(strength * (recent.mean() - recent))
        np.testing.assert_allclose(found[t - 1], expected, rtol=1e-13)


def test_a_class_that_falls_behind_gains_weight():
    falling = np.linspace(0.9, 0.1, 20)
    seen = np.full((20, K), 0.9)
    seen[:, 3] = falling
    weights = np.array(run_of(Trend(2.0, 0.8), seen)[1])
    assert (np.diff(weights[:, 3]) > 0).all()
    assert (np.diff(weights[:, 0]) < 0).all()
    np.testing.assert_allclose(weights[0], 1, rtol=1e-14)  # all alike: no one is behind


def test_the_order_of_a_trend_and_its_bounds(rng):
    seen = np.concatenate([rng.random((20, K)), np.eye(K), 1 - np.eye(K)])
    for strength in (0.5, 4.0):
        weights = np.array(run_of(Trend(strength, 0.0), seen)[1])
        by_weight = np.argsort(weights[:20], axis=1)
        np.testing.assert_array_equal(by_weight, np.argsort(-seen[:20], axis=1))
        assert (weights < np.exp(strength)).all() and (weights > np.exp(-strength)).all()


def test_only_a_trend_needs_performance():
    trend, power = Trend(1.0, 0.9), PrevalencePower(1.0)
    ramp = LinearRamp(0, 1)
    for without in (power, Ramp(ramp, power), Chain(power, UnitMean()), Chain(), Fixed(COUNTS)):
        assert without.needs_performance is False
    for needing in (trend, Ramp(ramp, trend), Chain(power, Ramp(ramp, Chain(trend)))):
        assert needing.needs_performance is True


# As pytrees


def everything(exponent=0.5, beta=0.99, start=3.0, strength=1.0):
    """One chain of all there is."""
    return Chain(
        PrevalencePower(exponent),
        EffectiveNumber(beta),
        Costs(MATRIX),
        Trend(strength, 0.9),
        Ramp(LinearRamp(start, 2.0), Fixed(np.arange(1.0, K + 1))),
        Clip(1e-3, 1e3),
        UnitMean(),
        CappedUnitMean(0.2, 5.0),
    )


def test_runs_that_differ_in_numbers_share_a_trace():
    traces = []

    @jax.jit
    def first(transformation, performance):
        traces.append(1)
        state, stats = transformation.init(COUNTS), Statistics(COUNTS, performance)
        return schedules.step_weights(transformation, state, stats, 4)[0]

    performance = np.linspace(1, 0, K)
    changes = [{}, {"exponent": 1.0}, {"beta": 0.0}, {"start": 9}, {"strength": 0.0}]
    found = [first(everything(**change), performance) for change in changes]
    assert len(traces) == 1
    assert len({tuple(np.array(w)) for w in found}) == len(changes)
    for w in found:
        assert mean(np.array(w)) == pytest.approx(1, rel=1e-13)


def test_a_sweep_is_a_vmap():
    exponents = np.array([0.0, 0.5, 1.0])

    @jax.jit
    @jax.vmap
    def sweep(number):
        chain = Chain(PrevalencePower(number), EffectiveNumber(number / 2))
        return schedules.step_weights(chain, ((), ()), Statistics(COUNTS), 0)[0]

    for exponent, found in zip(exponents, sweep(exponents), strict=True):
        single = weights_of(Chain(PrevalencePower(exponent), EffectiveNumber(exponent / 2)))
        np.testing.assert_allclose(found, single, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scan_keeps_the_precision_it_began_with(rng, dtype):
    counts, seen = COUNTS.astype(dtype), rng.random((6, K))  # performance in any precision
    transformation = everything()
    state = transformation.init(counts)
    last, weights = run_of(transformation, seen, counts)
    assert weights.dtype == dtype
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        assert isinstance(after, jax.Array) and before.dtype == after.dtype
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(transformation))


def test_beta_near_one_in_single_precision():
    """Where b itself rounds to one."""
    w = weights_of(EffectiveNumber(1 - 1e-12), counts=COUNTS.astype(np.float32))
    np.testing.assert_allclose(w, 1 / COUNTS, rtol=1e-6)  # a few roundings of 6e-8


# With NumPy alone


class Refusing:
    """Stands for a module of which nothing may be used."""

    def __getattr__(self, name):
        raise AssertionError(f"jax.numpy.{name} was used")


ALONE = {
    "power": PrevalencePower(0.7),
    "effective number": EffectiveNumber(0.999),
    "effective number of no memory": EffectiveNumber(0.0),
    "costs": Costs(MATRIX),
    "fixed": Fixed(np.arange(1.0, K + 1)),
    "trend": Trend(1.5, 0.9),
    "trend of no memory": Trend(1.5, 0.0),
    "ramp": Ramp(LinearRamp(1.0, 2.0), PrevalencePower(1.0)),
    "deferred": Ramp(LinearRamp(2.0, 0.0), EffectiveNumber(0.99)),
    "a function": Ramp(lambda step: 1 / (1 + step), PrevalencePower(1.0)),
    "clip": Chain(PrevalencePower(1.0), Clip(0.1, 0.5)),
    "unit mean": Chain(PrevalencePower(1.0), UnitMean()),
    "capped": Chain(PrevalencePower(1.0), CappedUnitMean(0.5, 2.0)),
    "all at the bound": Chain(PrevalencePower(1.0), CappedUnitMean(0.0, 1.0)),
    "empty chain": Chain(),
    "everything": everything(),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        # of the other types what has all parts, quickly
        pytest.param(*case, marks=[] if {"float64", "everything"} & {*case} else pytest.mark.slow)
        for case in itertools.product(ALONE, ("float32", "float64", "int64"))
    ],
)
def test_numpy_alone_has_the_numbers_of_jax(monkeypatch, rng, name, dtype):
    """And nothing of JAX is used for them, so that nothing is compiled or put on a device."""
    part, seen, counts = ALONE[name], rng.random((5, K)), COUNTS.astype(dtype)
    on_device = jnp.asarray(counts)
    state, expected = part.init(on_device), []
    for step, recalls in enumerate(seen):
        stats = Statistics(on_device, jnp.asarray(recalls))
        weights, state = schedules.step_weights(part, state, stats, step)
        assert isinstance(weights, jax.Array)
        expected.append(np.asarray(weights))
    for module in (schedules, array_modules, capped_mean):
        monkeypatch.setattr(module, "jnp", Refusing())
    state = part.init(counts)
    # tens of roundings in each of eight parts, of numbers that cancel nowhere
    near = 100 * np.finfo(expected[0].dtype).eps
    for step, recalls in enumerate(seen):
        weights, state = schedules.step_weights(part, state, Statistics(counts, recalls), step)
        assert type(weights) is np.ndarray and weights.dtype == expected[step].dtype
        assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
        np.testing.assert_allclose(weights, expected[step], rtol=near)


def test_lists_are_numbers_too(untyped):
    chain, stats = everything(), Statistics(COUNTS.tolist(), np.linspace(0, 1, K).tolist())
    weights, _ = schedules.step_weights(chain, chain.init(stats.counts), stats, 4)
    assert type(weights) is np.ndarray
    np.testing.assert_array_equal(weights, weights_of(chain, COUNTS, 4, np.linspace(0, 1, K)))
    doubled, _ = Costs([0.5, 2.5]).update([1, 2], (), Statistics([3, 1]), 0)  # pyright: ignore[reportArgumentType] # as a loop without types may
    assert doubled.tolist() == [0.5, 5.0]


def test_a_schedule_of_optax_stays_outside_of_the_weights():
    """It computes with JAX; what is made of it does not."""
    ramp = Ramp(optax.linear_schedule(0.0, 1.0, 8), Fixed(np.full(K, 3.0)))
    weights, _ = schedules.step_weights(ramp, (), Statistics(COUNTS), 2)
    assert type(weights) is np.ndarray
    np.testing.assert_allclose(weights, 0.75 + 0.25 * 3, rtol=1e-15)


@pytest.mark.parametrize("traced", ["weights", "transformation", "counts", "step"])
def test_anything_of_jax_is_computed_with_jax(traced):
    """Also where the others are NumPy's, as constants of what is compiled."""
    given = {"weights": np.ones(K), "transformation": everything(), "counts": COUNTS, "step": 4}
    own = given.pop(traced)

    @jax.jit
    def compiled(own):
        now = given | {traced: own}
        stats = Statistics(now["counts"], np.linspace(0, 1, K))
        part = now["transformation"]
        return part.update(now["weights"], everything().init(COUNTS), stats, now["step"])[0]

    expected = weights_of(everything(), COUNTS, 4, np.linspace(0, 1, K))
    np.testing.assert_allclose(compiled(own), expected, rtol=1e-13)  # tens of roundings


# What is refused

REFUSED = {
    "exponent": (lambda: PrevalencePower("1"), "exponent"),
    "beta of one": (lambda: EffectiveNumber(1.0), "beta"),
    "memory of one": (lambda: Trend(1.0, 1.0), "memory"),
    "negative length": (lambda: LinearRamp(0, -1), "length"),
    "low above one": (lambda: CappedUnitMean(1.1, 2.0), "low"),
    "high below one": (lambda: CappedUnitMean(0.1, 0.9), "high"),
    "high not finite": (lambda: CappedUnitMean(0.1, np.inf), "high"),
    "bounds crossed": (lambda: Clip(2.0, 1.0), "low"),
    "a negative cost": (lambda: Costs([1.0, -1.0]), "costs"),
    "costs by name": (lambda: Costs(["a", "b"]), "costs"),
    "costs ragged": (lambda: Costs([[0.0, 1.0], [1.0]]), "costs"),
    "costs not square": (lambda: Costs(np.ones((2, 3))), "costs"),
    "weight not finite": (lambda: Fixed([1.0, np.nan]), "weights"),
    "costs too few": (lambda: Costs([1.0, 2.0]).init(COUNTS), "costs"),
    "weights too few": (lambda: Chain(Fixed([1.0, 2.0])).init(COUNTS), "weights"),
    "weights by name": (lambda: Fixed(["1", "2"]), "weights"),
    "no weights": (lambda: Fixed([]), "weights"),
    "exponent not a number": (lambda: PrevalencePower(np.nan), "exponent"),
    "a number as schedule": (lambda: Ramp(1.0, UnitMean()), "schedule"),
    "nothing to ramp": (lambda: Ramp(LinearRamp(0, 1), None), "inner"),
    "a schedule to ramp": (lambda: Ramp(LinearRamp(0, 1), LinearRamp(0, 1)), "inner"),
    "a chain of numbers": (lambda: Chain(1, None), r"parts\[0\]"),  # pyright: ignore[reportArgumentType] # wrong on purpose
    "a chain of a list": (lambda: Chain(UnitMean(), [UnitMean()]), r"parts\[1\]"),  # pyright: ignore[reportArgumentType] # wrong on purpose
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_transformation_is_refused(name, untyped):
    make, field = REFUSED[name]
    with pytest.raises(ssm.InputError, match=rf"^{field}=.*: must be"):
        make()


OF_COUNTS = {
    "power": PrevalencePower(1.0),
    "effective number": EffectiveNumber(0.9),
    "costs": Costs([1.0, 2.0]),
    "fixed": Fixed([1.0, 2.0]),
    "trend": Trend(1.0, 0.5),
    "ramp": Ramp(LinearRamp(0, 1), UnitMean()),
    "clip": Clip(0.0, 1.0),
    "unit mean": UnitMean(),
    "capped": CappedUnitMean(0.5, 2.0),
    "chain": Chain(UnitMean()),
    "empty chain": Chain(),
}
BAD_COUNTS = [[3, 0], [3, -1], [3.0, np.nan], [np.inf, 1.0], [], [[3, 1], [2, 2]], ["3", "1"], 3]


@pytest.mark.parametrize("name", OF_COUNTS)
def test_counts_that_are_none_are_refused_by_name(name, untyped):
    part, good = OF_COUNTS[name], np.array([3.0, 1.0])
    refusal: dict[str, Any] = {"match": r"^counts=.*: must be positive finite numbers"}
    for counts in BAD_COUNTS:
        with pytest.raises(ssm.InputError, **refusal):
            part.init(counts)
        with pytest.raises(ssm.InputError, **refusal):
            schedules.step_weights(part, part.init(good), Statistics(counts, good / 3), 0)
    # they may be weighted, and any sequence
    sequence: Any = [2.5, 0.5]
    assert np.shape(weights_of(part, sequence, performance=jnp.ones(2))) == (2,)


def test_counts_that_are_being_traced_are_not_looked_at():
    bad = np.array([3.0, -1.0])
    for part in OF_COUNTS.values():
        jax.eval_shape(lambda counts, part=part: weights_of_traced(part, counts), bad)
    with pytest.raises(ssm.InputError, match="counts"):
        UnitMean().update(jnp.ones(2), (), Statistics(bad), 0)


def weights_of_traced(part, counts):
    stats = Statistics(counts, jnp.ones(2))
    return schedules.step_weights(part, part.init(counts), stats, 0)[0]


# How they are shown, read and changed


def test_they_are_shown_with_plain_numbers():
    chain = Chain(PrevalencePower(0.5), CappedUnitMean(0.2, 5))
    assert repr(chain) == (
        "Chain(PrevalencePower(exponent=0.5), CappedUnitMean(low=0.2, high=5.0))"
    )
    ramp = Ramp(LinearRamp(20, 0), EffectiveNumber(0.999))
    assert repr(ramp) == (
        "Ramp(schedule=LinearRamp(start=20.0, length=0.0), inner=EffectiveNumber(beta=0.999))"
    )
    long = np.arange(1.0, 1001.0)
    assert repr(Fixed(long)) == "Fixed(weights=[1.0, 2.0, 3.0, ..., 1000.0])"
    assert repr(Costs([1, 2.5])) == "Costs(costs=[1.0, 2.5])"
    assert repr(UnitMean()) == "UnitMean()" and repr(Chain()) == "Chain()"
    by_function = Ramp(lambda step: step / 9, UnitMean())
    assert "<lambda>, inner=UnitMean()" in repr(by_function)
    assert " at 0x" not in repr(by_function)


@given(st.floats(0, 1, exclude_max=True))
def test_beta_is_kept_to_the_bit(beta):
    part = EffectiveNumber(beta)
    assert part.get_params() == {"beta": beta} and repr(part) == f"EffectiveNumber(beta={beta!r})"
    assert EffectiveNumber(**part.get_params()) == part


def inside(part):
    """A transformation and all that it is made of."""
    return [part] + [x for x in part.get_params().values() if hasattr(x, "get_params")]


def test_parameters_make_an_equal_object():
    parts = inside(everything())
    assert len(parts) == 1 + 8 + 2
    for part in parts:
        own = part.get_params(deep=False)
        again = Chain(*own.values()) if isinstance(part, Chain) else type(part)(**own)
        assert again == part and repr(again) == repr(part)
        for value in own.values():
            assert type(value) in (float, list) or value in parts


def test_parts_are_named_as_in_a_pipeline():
    chain = Chain(UnitMean(), PrevalencePower(1), UnitMean(), Clip(0, 1), PrevalencePower(2))
    steps = make_pipeline(*chain.parts).steps
    assert list(chain.get_params(deep=False).items()) == steps
    assert chain.get_params()["prevalencepower-2__exponent"] == 2.0


def test_setting_parameters_makes_a_new_object():
    before = everything()
    shown = repr(before)
    after = before.set_params(
        prevalencepower__exponent=1, ramp__schedule__start=7, cappedunitmean__high=9
    )
    first: Any = after.parts[0]
    assert repr(before) == shown and type(first.exponent) is np.ndarray
    changed = {
        name: value
        for name, value in after.get_params().items()
        if isinstance(value, float) and value != before.get_params()[name]
    }
    assert changed == {
        "prevalencepower__exponent": 1.0,
        "ramp__schedule__start": 7.0,
        "cappedunitmean__high": 9.0,
    }
    assert before.set_params() == before


def test_a_part_can_be_replaced_and_set_at_once():
    ramp = Ramp(lambda step: 1.0, PrevalencePower(1))
    found = ramp.set_params(inner=EffectiveNumber(0.5), inner__beta=0.9, schedule=LinearRamp(0, 1))
    assert found == Ramp(LinearRamp(0, 1), EffectiveNumber(0.9))
    chain = Chain(UnitMean(), PrevalencePower(1)).set_params(unitmean=Clip(0, 1))
    assert chain == Chain(Clip(0, 1), PrevalencePower(1))


UNKNOWN = {
    "no part": (Chain(UnitMean()), {"clip__low": 1}, r"clip__low=1: .* Chain, which has unitmean$"),
    "no number": (PrevalencePower(1), {"g": 1}, r"g=1: .* PrevalencePower, which has exponent$"),
    "nothing to set": (UnitMean(), {"mean": 1}, r"mean=1: .* UnitMean, which has none$"),
    "inside": (
        Ramp(LinearRamp(0, 1), UnitMean()),
        {"schedule__end": 1},
        "end=1: .* LinearRamp, which has start, length$",
    ),
    "a number's": (PrevalencePower(1), {"exponent__real": 1}, "exponent__real=1: must be"),
    "a function's": (
        Ramp(lambda step: 1.0, UnitMean()),
        {"schedule__start": 1},
        "schedule__start=1: must be a parameter, and schedule has none of its own",
    ),
    "value": (CappedUnitMean(0.5, 2), {"low": 3}, r"low=3: must be a finite number in \[0, 1\]"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_parameters_that_there_are_not_are_refused(name):
    part, changes, message = UNKNOWN[name]
    with pytest.raises(ssm.InputError, match=f"^{message}"):
        part.set_params(**changes)


class Holder(BaseEstimator):
    """An estimator that has a schedule."""

    def __init__(self, schedule=None):
        self.schedule = schedule


def test_estimators_that_hold_one_can_be_cloned_and_read():
    holder = Holder(Chain(PrevalencePower(0.5), UnitMean()))
    copied: Any = clone(holder)
    assert copied is not holder and copied.schedule is holder.schedule
    assert holder.get_params()["schedule__prevalencepower__exponent"] == 0.5
    assert repr(holder) == ("Holder(schedule=Chain(PrevalencePower(exponent=0.5), UnitMean()))")


def test_copies_and_pickles_are_equal_and_shown_alike():
    chain = everything()
    for again in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        assert again == chain and repr(again) == repr(chain)
        assert again.get_params()["effectivenumber__beta"] == 0.99
        np.testing.assert_array_equal(
            weights_of(again, performance=np.linspace(1, 0, K)),
            weights_of(chain, performance=np.linspace(1, 0, K)),
        )


def test_what_is_traced_can_be_shown_too():
    seen = []

    @jax.jit
    def first(chain):
        seen.append((repr(chain), chain.get_params()["prevalencepower__exponent"]))
        return chain.set_params(clip__high=7.0).parts[5].high

    assert first(everything()) == 7
    ((shown, exponent),) = seen
    assert "exponent=JitTracer" in shown and isinstance(exponent, Tracer)
    # numbers on a device are plain again
    chain = jax.tree.map(jnp.asarray, everything())
    assert repr(chain) == repr(everything()) and chain.get_params()["trend__memory"] == 0.9
