"""Training of a network on imbalanced data: mini-batches, class weights that follow a schedule, and
a way back to the best evaluation when alarms are raised."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ssm import losses, optimizers, schedules
from ssm.practice import alarms, monitors, objective
from ssm.practice.networks import Params

Optimizer = Literal["gd", "momentum", "nesterov", "adam"]
OPTIMIZERS = get_args(Optimizer)


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train. Times are in steps, one update on one mini-batch each."""

    num_steps: int
    batch_size: int
    evaluate_every: int
    learning_rate: float | Callable[[int], float]
    """A number, or a schedule of the step, of optax say."""
    optimizer: str | optax.GradientTransformation
    """One of `OPTIMIZERS`, or a transformation of optax made for a learning rate of 1."""
    momentum: float
    weight_decay: float
    """Apart from the gradient: kernels lose learning_rate x weight_decay of themselves a step."""
    reduction: str
    loss: objective.Loss
    schedule: schedules.Transformation | None
    """Of the class weights, after the fixed ones; None keeps those."""
    score: str
    """By which evaluations are compared: one of `options.SCORES`. Equal ones by the mean class loss."""
    patience: int | None
    """Stop after so many steps without a better evaluation, or since the last roll-back; None
    trains to the end."""
    thresholds: alarms.Thresholds
    action: str
    """What an alarm does, one of `options.ACTIONS`. `roll_back` takes parameters, optimiser and
    weights back to the best evaluation and goes on at half the learning rate."""
    max_rollbacks: int
    """After these an alarm stops the run."""
    seed: int


class Task(NamedTuple):
    """What to train on: rows of zeros pad the samples, at least one."""

    X: Float[Any, "n f"]
    labels: Int[Any, " n"]
    sample_weights: Float[Any, " n"]
    num_samples: int
    class_counts: Float[np.ndarray, " k"]
    """Samples of each class, each counted with its weight."""
    class_weights: Float[np.ndarray, " k"]
    """Fixed weights, which the schedule changes."""
    watched: monitors.Watched
    image_shape: tuple[int, int] | None


class State(NamedTuple):
    """All that a roll-back restores."""

    params: Params
    optimizer_state: Any
    schedule_state: Any
    class_weights: Float[Any, " k"]


class Run(NamedTuple):
    """A run so far: all that the next interval depends on."""

    state: State
    best: State
    step: int
    rate_scale: float
    """Halved by each roll-back."""
    rows: tuple[dict[str, Any], ...]
    """Evaluations (`monitors.row`)."""
    best_row: int
    since: int
    """The first row after the last roll-back."""
    alarms: tuple[tuple[alarms.Alarm, str], ...]
    """Alarms and what each did."""
    rollbacks: int
    status: str
    """running, finished, stopped early, stopped by an alarm, or not finite"""


def begin(task: Task, options: Options, params: Params) -> Run:
    """A run before its first step, evaluated once."""
    k = len(task.class_counts)
    transformation = _transformation(options.optimizer, options.momentum)
    stats = schedules.Statistics(task.class_counts)
    schedule_state, weights = (), np.asarray(task.class_weights, float)
    if options.schedule is not None:
        chain = _chain(task, options)
        schedule_state = chain.init(task.class_counts)
        stats = stats._replace(performance=np.full(k, 0.5))
        steps = np.arange(options.evaluate_every)  # as for an interval, so that it is compiled once
        first = _weights_of_steps(chain, schedule_state, stats, steps)[0]
        weights = np.asarray(first[0], float)
    state = State(
        jax.tree.map(jnp.asarray, params), transformation.init(params), schedule_state, weights
    )
    row = _evaluate(task, options, state, 0)
    return Run(state, state, 0, 1.0, (row,), 0, 0, (), 0, "running")


def train(
    task: Task,
    options: Options,
    run: Run,
    after_interval: Callable[[Run], None] | None = None,
) -> Run:
    """Go on with a run until it ends; `after_interval` is shown it after each evaluation.

    The same run gone on with from any of these points ends in the same bits.
    """
    while run.status == "running":
        run = _advance_interval(task, options, run)
        if after_interval is not None:
            after_interval(run)
    return run


def _advance_interval(task: Task, options: Options, run: Run) -> Run:
    """Train up to the next evaluation, evaluate, and act on alarms."""
    count = min(options.evaluate_every, options.num_steps - run.step)
    weights, schedule_state = _interval_weights(task, options, run, count)
    params, optimizer_state = _steps(
        run.state.params,
        run.state.optimizer_state,
        task.X,
        task.labels,
        task.sample_weights,
        _batches(task, options, run.step),
        jnp.asarray(weights, task.X.dtype),
        _rates(options, run),
        count,
        options.weight_decay,
        options.loss,
        optimizer=_transformation(options.optimizer, options.momentum),
        reduction=options.reduction,
        image_shape=task.image_shape,
    )
    step = run.step + count
    state = State(params, optimizer_state, schedule_state, weights[count - 1])
    rows = (*run.rows, _evaluate(task, options, state, step))
    run = run._replace(state=state, step=step, rows=rows)
    found = _raised(task, options, run)
    # what an alarm acts on is no point to come back to
    acts = bool(found) and options.action != "warn"
    if not acts and _score(options, rows[-1]) > _score(options, rows[run.best_row]):
        run = run._replace(best=state, best_row=len(rows) - 1)
    run = _act(options, run, found)
    if run.status == "running":
        waited = step - rows[max(run.best_row, run.since - 1)]["step"]
        if step >= options.num_steps:
            run = run._replace(status="finished")
        elif options.patience is not None and waited >= options.patience:
            run = run._replace(status="stopped early")
    return run


def _raised(task: Task, options: Options, run: Run) -> list[alarms.Alarm]:
    """The alarms that the newest evaluation raises."""
    evaluated = np.bincount(
        task.watched.labels, task.watched.sample_weights > 0, len(task.class_counts)
    )
    bounds = (0.0, np.inf) if options.schedule is None else options.schedule.bounds
    best = run.rows[run.best_row]
    shares = task.class_counts / task.class_counts.sum()
    return alarms.raised(run.rows, best, run.since, shares, evaluated, bounds, options.thresholds)


def _act(options: Options, run: Run, found: list[alarms.Alarm]) -> Run:
    """Do what the alarms found ask for."""
    if not found:
        return run
    action = options.action
    broken = any(alarm.alarm == "not_finite" for alarm in found)
    spent = action == "roll_back" and run.rollbacks == options.max_rollbacks
    if spent or (broken and action == "warn"):  # nothing comes of going on
        action = "stop"
    raised = (*run.alarms, *((alarm, action) for alarm in found))
    run = run._replace(alarms=raised)
    if action == "roll_back":
        return run._replace(
            state=run.best,
            rate_scale=run.rate_scale / 2,
            rollbacks=run.rollbacks + 1,
            since=len(run.rows),
        )
    if broken:
        return run._replace(status="not finite")
    return run._replace(status="stopped by an alarm") if action == "stop" else run


def _score(options: Options, row: dict[str, Any]) -> tuple[float, float]:
    """What evaluations are compared by; one that is not finite is worse than any."""
    score = getattr(monitors, options.score)(row)
    loss = float(np.mean(row["class_loss"]))
    finite = np.isfinite([loss, row["gradient_norm"]]).all()
    return (score, -loss) if finite else (-np.inf, -np.inf)


def _chain(task: Task, options: Options) -> schedules.Transformation:
    assert options.schedule is not None
    return schedules.Chain(schedules.Fixed(task.class_weights), options.schedule)


@jax.jit
def _weights_of_steps(chain: Any, state: Any, stats: Any, steps: Any) -> Any:
    """The weights of each step, and after each the state of their schedule."""

    def step(state: Any, at: Any) -> Any:
        weights, state = schedules.step_weights(chain, state, stats, at)
        return state, (weights, state)

    return jax.lax.scan(step, state, steps)[1]


def _interval_weights(task: Task, options: Options, run: Run, count: int) -> tuple[Any, Any]:
    """Class weights of an interval's steps, (evaluate_every, k), and the schedule's state after the
    first `count` of them. What the classes' recent performance is, the last evaluation says."""
    steps = np.arange(run.step, run.step + options.evaluate_every)
    if options.schedule is None:
        return np.broadcast_to(run.state.class_weights, (len(steps), len(task.class_counts))), ()
    last = run.best_row if run.since == len(run.rows) else -1  # just after a roll-back
    recall = np.asarray(run.rows[last]["class_recall"])
    stats = schedules.Statistics(task.class_counts, recall)
    chain = _chain(task, options)
    weights, states = _weights_of_steps(chain, run.state.schedule_state, stats, steps)
    return np.asarray(weights, float), jax.tree.map(lambda x: x[count - 1], states)


def _rates(options: Options, run: Run) -> Float[np.ndarray, " t"]:
    rate = options.learning_rate
    steps = range(run.step, run.step + options.evaluate_every)
    rates = [float(rate(step)) for step in steps] if callable(rate) else [rate] * len(steps)
    return run.rate_scale * np.array(rates)


def _batches(task: Task, options: Options, first: int) -> Int[np.ndarray, "t b"]:
    """Indices of the samples of an interval's mini-batches: passes over all samples, each in an
    order of its own; the padding's index fills up batches that are short.

    They depend on the seed and the step alone. A batch as large as the data is all of it.
    """
    n, padding = task.num_samples, task.num_samples
    size = min(options.batch_size, len(task.X))
    per_pass = -(-n // size)
    rows = np.full((options.evaluate_every, size), padding, np.int32)
    order, current = np.arange(n), -1
    for i in range(options.evaluate_every):
        number, slot = divmod(first + i, per_pass)
        if per_pass > 1 and number != current:
            order, current = np.random.default_rng((options.seed, number)).permutation(n), number
        batch = order[slot * size : (slot + 1) * size]
        rows[i, : len(batch)] = batch
    return rows


@functools.lru_cache
def _transformation(
    optimizer: str | optax.GradientTransformation, momentum: float
) -> optax.GradientTransformation:
    if isinstance(optimizer, str):
        return optimizers.make_optimizer(optimizer, optimizers.Settings(momentum, 0.0, 0.0, 0.0))
    return optimizer


@functools.partial(jax.jit, static_argnames=("optimizer", "reduction", "image_shape"))
def _steps(
    params: Params,
    optimizer_state: Any,
    X: Float[Array, "n f"],
    labels: Int[Array, " n"],
    sample_weights: Float[Array, " n"],
    batches: Int[Array, "t b"],
    class_weights: Float[Array, "t k"],
    rates: Float[Array, " t"],
    count: Int[Array, ""],
    weight_decay: Float[Array, ""],
    loss: objective.Loss,
    *,
    optimizer: optax.GradientTransformation,
    reduction: str,
    image_shape: tuple[int, int] | None,
) -> tuple[Params, Any]:
    """The first `count` steps of an interval."""

    def step(i: Any, carry: Any) -> Any:
        params, state = carry
        batch = batches[i]
        mine = labels[batch]
        shares = losses.risk_shares(mine, class_weights[i], reduction, sample_weights[batch])
        gradient, _ = objective.parameter_gradient(
            params, X[batch], mine, shares, loss, image_shape
        )
        updates, state = optimizer.update(gradient, state, params)

        def move(x: Array, update: Array) -> Array:
            decay = weight_decay if x.ndim > 1 else 0.0  # biases keep what they are
            return (x + rates[i] * (update - decay * x)).astype(x.dtype)

        return jax.tree.map(move, params, updates), state

    return jax.lax.fori_loop(0, count, step, (params, optimizer_state))


def _evaluate(task: Task, options: Options, state: State, step: int) -> dict[str, Any]:
    watched = task.watched
    observed = monitors.observe(
        state.params,
        task.X,
        task.labels,
        watched.X,
        watched.labels,
        watched.members,
        options.loss,
        task.image_shape,
    )
    observed = jax.device_get(observed)
    return monitors.row(
        observed, watched, task.class_counts, state.class_weights, options.loss, step
    )
