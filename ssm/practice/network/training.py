"""Training of a network on imbalanced data: mini-batches, class weights that follow a schedule,
evaluations at regular intervals, and roll-backs to the best of them where alarms are raised."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from ssm.dynamics import optimizers
from ssm.practice.network import batches, decisions, monitors, objective, observing
from ssm.practice.network.monitors import Evaluation
from ssm.practice.network.networks import Params
from ssm.practice.network.runs import State, Task, TrainingOptions, TrainingRun
from ssm.problem import losses, schedules
from ssm.support.arrays import AnyArray

UNKNOWN = 0.5  # The recall of each class that a schedule is given while the network is untrained.


def untrained(task: Task, options: TrainingOptions, params: Params) -> State:
    """The state before the first step, under the fixed class weights."""
    # This is one compiled program, while `init` alone and `jnp.asarray` would compile one for every array.
    init = jax.jit(_transformation(options.optimizer, options.momentum).init)
    weights = np.asarray(task.class_weights, float)
    return State(jax.device_put(params), init(params), (), weights)


def begin(task: Task, options: TrainingOptions, params: Params) -> TrainingRun:
    """A run before its first step, with the untrained network evaluated."""
    state = untrained(task, options, params)
    if options.schedule is not None:
        chain, counts = _chain(task, options), task.class_counts
        schedule_state = chain.init(counts)
        stats = schedules.Statistics(counts, np.full(len(counts), UNKNOWN))
        # As many steps are asked for as an interval has, so that the function is compiled only once.
        steps = np.arange(options.evaluate_every)
        weights_of_steps, _ = _weights_of_steps(chain, schedule_state, stats, steps)
        weights = np.asarray(weights_of_steps[0], float)
        state = state._replace(schedule_state=schedule_state, class_weights=weights)
    row, values = _evaluate(task, options, state, 0)
    course = decisions.begun(row, values)._asdict()
    return TrainingRun(state=state, best=state, kept=state, step=0, rate_scale=1.0, **course)


def train(
    task: Task,
    options: TrainingOptions,
    run: TrainingRun,
    after_interval: Callable[[TrainingRun], None] | None = None,
) -> TrainingRun:
    """Continue a run until it ends. `after_interval` is called with it after each evaluation; a run that
    is continued from any of these points ends in the same bits.
    """
    while run.status == "running":
        run = _advance_interval(task, options, run)
        if after_interval is not None:
            after_interval(run)
    return run


def _advance_interval(task: Task, options: TrainingOptions, run: TrainingRun) -> TrainingRun:
    """Train up to the next evaluation, evaluate, and act on the alarms that it raises."""
    count = min(options.evaluate_every, options.num_steps - run.step)
    weights, schedule_state = _interval_weights(task, options, run, count)
    start = run.state.params, run.state.optimizer_state
    params, optimizer_state = _interval(
        task, options, *start, weights, run.step, count, run.rate_scale
    )
    step = run.step + count
    state = State(params, optimizer_state, schedule_state, weights[count - 1])
    row, values = _evaluate(task, options, state, step)
    course = decisions.Course(*(getattr(run, name) for name in decisions.Course._fields))
    rows, shares = (*run.rows, row), task.class_counts / task.class_counts.sum()
    course = decisions.judge(_rules(task, options), course, row, values, rows, shares)
    return _followed(run._replace(state=state, step=step), course)


def _rules(task: Task, options: TrainingOptions) -> decisions.Rules:
    """All that decisions about a run depend on beside its evaluations."""
    return decisions.Rules(
        evaluated=task.watched.evaluated,
        score=options.score,
        num_steps=options.num_steps,
        patience=options.patience,
        thresholds=options.thresholds,
        action=options.action,
        max_rollbacks=options.max_rollbacks,
        bounds=(0.0, np.inf) if options.schedule is None else options.schedule.bounds,
    )


def _followed(run: TrainingRun, course: decisions.Course) -> TrainingRun:
    """A run that has just been evaluated, with the networks that a decision keeps, or returned to the best."""
    newest, is_rolled_back = len(course.rows) - 1, course.rollbacks > run.rollbacks
    run = run._replace(**course._asdict())
    if is_rolled_back:
        return run._replace(state=run.best, kept=run.best, rate_scale=run.rate_scale / 2)
    if course.best_row == newest:
        run = run._replace(best=run.state)
    return run._replace(kept=run.state) if course.kept_row == newest else run


def advance(
    task: Task,
    options: TrainingOptions,
    state: State,
    first: int,
    class_weights: Float[np.ndarray, "t k"],
) -> State:
    """The state after one more step for each row of the given class weights, from step `first` on, without
    any evaluation. It repeats on other samples what early stopping has chosen."""
    trained = state.params, state.optimizer_state
    for done in range(0, len(class_weights), options.evaluate_every):
        part = class_weights[done : done + options.evaluate_every]
        missing = options.evaluate_every - len(part)
        weights = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        trained = _interval(task, options, *trained, weights, first + done, len(part), 1.0)
    return State(*trained, (), class_weights[-1])


def weights_of_run(
    task: Task, options: TrainingOptions, run: TrainingRun
) -> Float[np.ndarray, "t k"]:
    """The class weights of each step up to the evaluation that is kept, of a run without roll-backs.
    Schedules are deterministic, so that they are computed again from the evaluations."""
    last_weights, intervals = np.array(run.rows[0]["class_weight"]), []
    schedule_state = (
        () if options.schedule is None else _chain(task, options).init(task.class_counts)
    )
    for number, (before, after) in enumerate(itertools.pairwise(run.rows[: run.kept_row + 1])):
        count = after["step"] - before["step"]
        state = run.state._replace(schedule_state=schedule_state, class_weights=last_weights)
        run_then = run._replace(
            state=state, step=before["step"], rows=run.rows[: number + 1], since=0
        )
        weights, schedule_state = _interval_weights(task, options, run_then, count)
        intervals.append(np.asarray(weights[:count], float))
        last_weights = weights[count - 1]
    return np.concatenate(intervals)


def _chain(task: Task, options: TrainingOptions) -> schedules.Transformation:
    """The schedule applied to the fixed class weights."""
    assert options.schedule is not None
    return schedules.Chain(schedules.Fixed(task.class_weights), options.schedule)


@jax.jit
def _weights_of_steps(
    chain: schedules.Transformation,
    state: PyTree,
    stats: schedules.Statistics,
    steps: Int[Array, " t"],
) -> tuple[Float[Array, "t k"], PyTree]:
    """The class weights of each step, and the state of the schedule after each of them."""

    def step(state: PyTree, at: Int[Array, ""]) -> tuple[PyTree, PyTree]:
        weights, state = schedules.step_weights(chain, state, stats, at)
        return state, (weights, state)

    return jax.lax.scan(step, state, steps)[1]


def _interval_weights(
    task: Task, options: TrainingOptions, run: TrainingRun, count: int
) -> tuple[Float[np.ndarray, "t k"], PyTree]:
    """The class weights of an interval's steps, shape (evaluate_every, k), and the schedule's state after
    the first `count` of them. A schedule that asks for performance gets the recalls of the last
    evaluation."""
    steps = np.arange(run.step, run.step + options.evaluate_every)
    if options.schedule is None:
        return np.broadcast_to(run.state.class_weights, (len(steps), len(task.class_counts))), ()
    # Just after a roll-back the last evaluation that counts is the best one.
    last = run.rows[run.best_row if run.since == len(run.rows) else -1]
    recall = np.asarray(last["class_recall"])
    if last["step"] == 0:  # The recall of an untrained network is chance.
        recall = np.full(len(recall), UNKNOWN)
    stats = schedules.Statistics(task.class_counts, recall)
    chain = _chain(task, options)
    weights, states = _weights_of_steps(chain, run.state.schedule_state, stats, steps)
    return np.asarray(weights, float), jax.tree.map(lambda x: x[count - 1], states)


def _interval(
    task: Task,
    options: TrainingOptions,
    params: Params,
    optimizer_state: PyTree,
    class_weights: Float[AnyArray, "t k"],
    first: int,
    count: int,
    rate_scale: float,
) -> tuple[Params, PyTree]:
    """Parameters and optimiser state after the first `count` steps of the interval that begins at step
    `first`."""
    labels, seed = np.asarray(task.labels)[: task.num_samples], options.seed
    if options.sampling:
        size = min(options.batch_size, len(task.X))
        rows, class_weights = batches.drawn_by_class(
            labels, np.asarray(class_weights, float), size, seed, first
        )
    else:
        rows = _batches(task, options, first)
    state = params, optimizer_state, task.X, task.labels, task.sample_weights, rows
    weights = np.asarray(class_weights, task.X.dtype)
    rates = rate_scale * _rates(options, first)
    of_steps = weights, rates, count, options.weight_decay, options.loss
    optimizer = _transformation(options.optimizer, options.momentum)
    shape = task.image_shape
    if options.mixup is None:
        reduction = options.reduction
        return _steps(
            *state, *of_steps, optimizer=optimizer, reduction=reduction, image_shape=shape
        )
    pairs = batches.pairs(options.mixup, rows, labels, task.class_counts, seed, first)
    mixed = (np.asarray(x, task.X.dtype) for x in (pairs.mixed, pairs.labels))
    return _mixed_steps(
        *state, pairs.partners, *mixed, *of_steps, optimizer=optimizer, image_shape=shape
    )


def _rates(options: TrainingOptions, first: int) -> Float[np.ndarray, " t"]:
    """The learning rate of each step of an interval."""
    rate = options.learning_rate
    steps = range(first, first + options.evaluate_every)
    return np.array(
        [float(rate(step)) for step in steps] if callable(rate) else [rate] * len(steps)
    )


def steps_per_pass(options: TrainingOptions, task: Task) -> int:
    """The number of mini-batches in which each sample is trained on once."""
    return -(-task.num_samples // min(options.batch_size, len(task.X)))


def _batches(task: Task, options: TrainingOptions, first: int) -> Int[np.ndarray, "t b"]:
    """Indices of the samples of an interval's mini-batches.

    They pass over all samples again and again, in a new order each time, and depend on the seed and the
    step alone. Batches that are short are filled up with the index of a row of padding. Where a batch
    is as large as the data, each batch is all of the data.
    """
    n, padding = task.num_samples, task.num_samples
    size, per_pass = min(options.batch_size, len(task.X)), steps_per_pass(options, task)
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
    """The optimiser as a transformation of gradients, one and the same object for equal arguments."""
    if isinstance(optimizer, str):
        return optimizers.make_optimizer(optimizer, optimizers.Settings(momentum, 0.0, 0.0, 0.0))
    return optimizer


@functools.partial(jax.jit, static_argnames=("optimizer", "reduction", "image_shape"))
def _steps(
    params: Params,
    optimizer_state: PyTree,
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
) -> tuple[Params, PyTree]:
    """Parameters and optimiser state after the first `count` steps of an interval."""

    def step(i: Int[Array, ""], carry: tuple[Params, PyTree]) -> tuple[Params, PyTree]:
        params, state = carry
        batch = batches[i]
        batch_labels = labels[batch]
        counted, weights = sample_weights[batch], class_weights[i]
        if reduction == "mean":
            # Each sample counts as it does in the whole data. Dividing by the sum of the batch's own
            # sample weights would make large ones count for less.
            shares = counted * weights[batch_labels] / (counted > 0).sum()
        else:
            shares = losses.risk_shares(batch_labels, weights, reduction, counted)
        gradient, _ = objective.parameter_gradient(
            params, X[batch], batch_labels, shares, loss, image_shape
        )
        updates, state = optimizer.update(gradient, state, params)
        return _moved(params, updates, rates[i], weight_decay), state

    return jax.lax.fori_loop(0, count, step, (params, optimizer_state))


@functools.partial(jax.jit, static_argnames=("optimizer", "image_shape"))
def _mixed_steps(
    params: Params,
    optimizer_state: PyTree,
    X: Float[Array, "n f"],
    labels: Int[Array, " n"],
    sample_weights: Float[Array, " n"],
    rows: Int[Array, "t b"],
    partners: Int[Array, "t b"],
    mixed: Float[Array, "t b"],
    label_shares: Float[Array, "t b"],
    class_weights: Float[Array, "t k"],
    rates: Float[Array, " t"],
    count: Int[Array, ""],
    weight_decay: Float[Array, ""],
    loss: objective.Loss,
    *,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int] | None,
) -> tuple[Params, PyTree]:
    """The same as `_steps` on mixtures of the samples with their partners. Each label of a mixture counts, by its share, as a sample of
    its class does."""

    def step(i: Int[Array, ""], carry: tuple[Params, PyTree]) -> tuple[Params, PyTree]:
        params, state = carry
        share = mixed[i][:, None]
        inputs = share * X[rows[i]] + (1 - share) * X[partners[i]]
        sides = (rows[i], label_shares[i]), (partners[i], 1 - label_shares[i])
        weights, number = class_weights[i], (sample_weights[rows[i]] > 0).sum()
        shares = [part * sample_weights[at] * weights[labels[at]] / number for at, part in sides]
        both = labels[rows[i]], labels[partners[i]]
        gradient = objective.mixed_gradient(
            params, inputs, both, (shares[0], shares[1]), loss, image_shape
        )
        updates, state = optimizer.update(gradient, state, params)
        return _moved(params, updates, rates[i], weight_decay), state

    return jax.lax.fori_loop(0, count, step, (params, optimizer_state))


def _moved(
    params: Params, updates: PyTree, rate: Float[Array, ""], weight_decay: Float[Array, ""]
) -> Params:
    """The parameters after a step."""

    def move(x: Array, update: Array) -> Array:
        decay = weight_decay if x.ndim > 1 else 0.0  # Biases do not decay.
        return (x + rate * (update - decay * x)).astype(x.dtype)

    return jax.tree.map(move, params, updates)


def _evaluate(
    task: Task, options: TrainingOptions, state: State, step: int
) -> tuple[Evaluation, Float[np.ndarray, " e"]]:
    """An evaluation, and what each sample contributes to the score by which evaluations are compared."""
    watched = task.watched
    observed = observing.observe(
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
    counts, weights = task.class_counts, np.asarray(state.class_weights)
    logits = np.asarray(observed.logits, float)
    pull = weights * counts
    if options.mixup is not None:
        pull = pull * options.mixup.class_factors(counts)
    probabilities = observing.probabilities(observed, watched, pull, options.loss)
    return (
        monitors.row(observed, watched, counts, weights, probabilities, step),
        monitors.sample_values(logits, watched.evaluated, probabilities, options.score),
    )
