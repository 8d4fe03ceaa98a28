"""A Config made ready to be followed: its problem, its columns, its start, and the law that moves it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm import additions
from ssm.additions import Additions
from ssm.config import Config
from ssm.continuation import Reached
from ssm.dynamics.column_layouts import make_columns
from ssm.dynamics.columns import MANY, Columns
from ssm.dynamics.coordinates import Reduced
from ssm.dynamics.flow import Flow
from ssm.dynamics.held_out import make_held_out
from ssm.dynamics.observables import check_observables
from ssm.dynamics.observer import Observer, make_observer
from ssm.dynamics.parameters import padded
from ssm.dynamics.solvers import SOLVERS
from ssm.dynamics.starts import Start, make_start
from ssm.dynamics.trajectories import Dynamics
from ssm.dynamics.vector_field import Deferral, Field
from ssm.measures import spectral
from ssm.problem import Problem, make_problem, own_data, samples
from ssm.problem.inputs import Inputs, draw_inputs
from ssm.problem.problem import Targets
from ssm.theory import predictions
from ssm.theory.defaults import Resolved, resolve


def can_be_padded(config: Config) -> bool:
    """Whether a run may get feature columns of no weight: where columns stand for classes their number
    does not vary with the counts. `muon`, corrected or not, scales its steps by the shapes of the layers, and an
    optimiser of one's own may."""
    by_shapes = ("muon", "muon_uncorrected", "own")
    return config.column_kind == "samples" and config.optimizer not in by_shapes


def common_size(config: Config, inputs: Inputs | None = None) -> int | None:
    """The number of columns that a single run is padded up to, so that about equally large ones share a
    compilation: the next of four sizes evenly spaced from each power of 2 to the next, at most a quarter
    more. None where runs are not padded, or are to whole blocks already."""
    number = config.num_columns if inputs is None else sum(config.class_counts)
    if number >= MANY or (inputs is None and not can_be_padded(config)):
        return None
    step = max(2 ** (number.bit_length() - 3), 1)
    return -(-number // step) * step


class PreparedRun(NamedTuple):
    """A Config made ready to be followed."""

    config: Config
    problem: Problem
    components: spectral.LabelSpectrum
    reduced: Reduced | None
    flow: Dynamics
    """What is followed: a Descent where an optimiser takes steps."""
    facts: dict[str, Any]
    """What is known of it before."""
    predicted_learning_time: Float[np.ndarray, " r"]
    given: Additions = additions.NONE
    reached: Reached | None = None
    """What the run goes on from; None where it begins."""
    own_shapes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012 that is never changed
    """Shapes of the observables of one's own, padding included."""


class _Setting(NamedTuple):
    """What runs that differ only in their seed share."""

    problem: Problem
    components: spectral.LabelSpectrum
    columns: Columns | None
    """None where each run has inputs of its own."""
    resolved: Resolved
    saved_at: Float[np.ndarray, " t"]
    """Times, or of an optimiser numbers of steps."""
    rates: tuple[Float[np.ndarray, " s"], Float[np.ndarray, " t"]] | None
    """Of an optimiser: those of each step, padded, and their sums at the observed steps."""
    facts: dict[str, Any]


@functools.lru_cache(maxsize=4)
def _setting(config: Config, size: int | None) -> _Setting:
    """That of a Config, kept for the next runs that share it."""
    problem = _problem(config)
    columns = None if config.has_inputs else make_columns(config, problem, size)
    return _new_setting(config, problem, columns)


def _new_setting(
    config: Config, problem: Problem, columns: Columns | None, reached: Reached | None = None
) -> _Setting:
    components = spectral.components(problem)
    facts: dict[str, Any] = {"can_interpolate": int(config.feature_dim >= len(problem.counts) - 1)}
    resolved = resolve(config, problem)
    rates = None
    if resolved.learning_rate is not None and resolved.num_steps is not None:
        # Imported here, since optax takes a fifth of a second, and no flow needs it.
        from ssm.dynamics import descent

        times = save_times(config, float(resolved.num_steps))
        every = np.arange(len(times))
        saved_at = np.maximum.accumulate(np.round(times) - every).astype(int)
        saved_at = saved_at + every  # no step is saved twice
        num_steps, first = int(saved_at[-1]), 0 if reached is None else round(reached.time)
        each, sums = descent.padded_rates(
            step_rates(config, resolved.learning_rate, num_steps, first),
            0.0 if reached is None else reached.cumulative_rate,
        )
        rates = each, sums[saved_at]
        saved_at = saved_at + first
        facts["learning_rate"] = float(each[0])
    else:
        assert resolved.t1 is not None  # a flow has a length, the steps of an optimiser a number
        saved_at = save_times(config, resolved.t1)
        if reached is not None:
            saved_at = saved_at + reached.time
    return _Setting(
        problem,
        components,
        columns,
        resolved,
        saved_at,
        rates,
        facts,
    )


def prepare(
    config: Config,
    size: int | None = None,
    inputs: Inputs | None = None,
    given: Additions = additions.NONE,
    reached: Reached | None = None,
) -> PreparedRun:
    """All of a run but its solving. Columns that are samples are padded up to `size`, so that runs
    of different sizes can share a compilation. `inputs` are one's own, if there are any, and then the
    Config is that of `own_data.own_inputs`; with what is `given` beside it, it is that of
    `additions.additions`, and with what another run has `reached` that of `continuation.going_on`."""
    return prepare_together([Alike([config], size, inputs, given, reached)])[0][0]


class Alike(NamedTuple):
    """Runs that differ in their seed only, with the arguments of `prepare`."""

    configs: Sequence[Config]
    size: int | None = None
    inputs: Inputs | None = None
    given: Additions = additions.NONE
    reached: Reached | None = None


def prepare_together(groups: Sequence[Alike]) -> list[list[PreparedRun]]:
    """The runs of several groups, `prepare` each; when they will learn is predicted of all groups at once."""
    prepared, prospects, predicted = [], [], []
    for i, group in enumerate(groups):
        runs, prospect = _not_predicted(group)
        prepared.append(runs)
        if prospect is not None:
            prospects.append(prospect)
            predicted.append(i)
    for i, times in zip(predicted, predictions.predicted_together(prospects), strict=True):
        each = np.broadcast_to(times, (len(prepared[i]), times.shape[-1]))
        prepared[i] = [
            run._replace(predicted_learning_time=own)
            for run, own in zip(prepared[i], each, strict=True)
        ]
    return prepared


def _not_predicted(group: Alike) -> tuple[list[PreparedRun], predictions.Prospect | None]:
    """Runs that differ in their seed only, made ready but for what is predicted of them, and what predictions ask for;
    None where nothing can be predicted."""
    configs, size, inputs, given, reached = group
    config = configs[0]
    setting = _setting_of(config, size, inputs, given, reached)
    problem, components = setting.problem, setting.components
    drawn, laws = [], []
    for each in configs:
        columns, own = setting.columns, inputs
        if columns is None:
            own = Inputs(draw_inputs(each, problem)) if own is None else own
            columns = make_columns(each, problem, size, own.training, given.loss)
        field = make_field(each, columns)
        start = make_start(each, problem, columns, given.start)
        if reached is not None:
            start = start._replace(params=padded(reached.params, columns))
        held_out = make_held_out(each, problem, columns, start, own)
        observe = make_observer(
            each,
            problem,
            field,
            start,
            components,
            held_out,
            given.observables,
            0.0 if reached is None else reached.clock(each),
            given.schedule is not None,
        )
        drawn.append((start, columns.class_means(start.params.H)))
        laws.append(_law_of_motion(each, setting, field, start, observe, given, reached))
    shapes = check_observables(config, given.observables, laws[0].params, laws[0].field.columns)
    unknown = np.full(len(components.singular_values), np.nan)
    runs = [
        PreparedRun(
            each,
            problem,
            components,
            start.reduced,
            law,
            setting.facts,
            unknown,
            given,
            reached,
            shapes,
        )
        for each, (start, _), law in zip(configs, drawn, laws, strict=True)
    ]
    if inputs is not None or reached is not None or problem.growth_rates is not None:
        return runs, None
    starts = predictions.Start(
        np.stack([start.params.W for start, _ in drawn]),
        np.stack([class_means for _, class_means in drawn]),
    )
    return runs, predictions.Prospect(config, problem, components, starts)


def _setting_of(
    config: Config,
    size: int | None,
    inputs: Inputs | None,
    given: Additions,
    reached: Reached | None,
) -> _Setting:
    """That of a run, which is kept where nothing but the Config decides it."""
    if inputs is None and given.loss is None and given.targets is None and reached is None:
        return _setting(config.with_seed(0), size)
    problem = _problem(config, given.targets, inputs)
    is_drawn = inputs is not None or config.has_inputs
    columns = None if is_drawn else make_columns(config, problem, size, loss=given.loss)
    return _new_setting(config, problem, columns, reached)


def _problem(
    config: Config, targets: Targets | None = None, inputs: Inputs | None = None
) -> Problem:
    """The problem of a run, with what its own targets and inputs say. Rates of inputs that are drawn are those of the
    seed 0."""
    problem = make_problem(config)._replace(targets=targets)
    if samples.are_alike(problem):
        return problem if inputs is None else own_data.measured(config, problem, inputs)
    if config.reduction == "weighted_mean":
        problem = samples.of_unit_mean(problem)
    X = None if inputs is None else inputs.training
    if config.has_inputs and X is None:
        X = draw_inputs(config.with_seed(0), problem)
    return samples.with_growth_rates(problem, X)


def _law_of_motion(
    config: Config,
    setting: _Setting,
    field: Field,
    start: Start,
    observe: Observer,
    given: Additions,
    reached: Reached | None,
) -> Dynamics:
    """What is followed from a start: a flow, or the steps of an optimiser."""
    resolved, params = setting.resolved, start.params
    if setting.rates is not None:
        from ssm.dynamics.descent import Descent
        from ssm.dynamics.optimizers import Settings

        learning_rates, cumulative_rate = setting.rates
        numbers = (
            resolved.momentum,
            resolved.sam_radius,
            config.weight_decay,
            config.feature_decay,
        )
        return Descent(
            params=params,
            field=field,
            observe=observe,
            steps=setting.saved_at,
            cumulative_rate=cumulative_rate,
            learning_rates=learning_rates,
            settings=Settings(*(np.asarray(number, dtype=float) for number in numbers)),
            seed=np.asarray(config.seed),
            schedule=given.schedule,
            own_optimizer=given.optimizer,
            memory=None if reached is None else reached.memory,
            weighting=None if reached is None else reached.weighting,
            optimizer=config.optimizer,
            batch_size=config.batch_size,
        )
    return Flow(
        params=params,
        field=field,
        observe=observe,
        times=setting.saved_at,
        # These are arrays, since a Python float would compile anew for each value.
        rtol=np.asarray(config.rtol),
        atol=np.asarray(resolved.absolute_tolerance),
        max_steps=np.asarray(config.max_steps),
        stop_margin=None if resolved.end_margin is None else np.asarray(resolved.end_margin),
        log_time=None if reached is None else np.asarray(reached.log_time),
        solver=SOLVERS[resolved.solver],
    )


def step_rates(
    config: Config, rate: float, num_steps: int, first: int = 0
) -> Float[np.ndarray, " n"]:
    """The learning rate of each step of a Config, from its `first` one on: constant, rate (1 + cos(pi i / n)) / 2
    at its i-th step of n, or times a factor from the steps of some numbers on."""
    steps = np.arange(num_steps)
    if config.learning_rate_schedule == "cosine":
        return rate * (1 + np.cos(np.pi * steps / num_steps)) / 2
    rates = np.full(num_steps, rate)
    for drop in config.drop_steps:
        rates[max(drop - first, 0) :] *= config.drop_factor
    return rates


def make_field(config: Config, columns: Columns) -> Field:
    """The field that a Config asks for, on given columns."""
    return Field(
        columns,
        np.asarray(config.weight_decay) if config.has_decay else None,
        np.asarray(config.feature_decay) if config.has_decay else None,
        _deferral(config, columns),
        loss_clock=config.clock == "loss",
        classifier_is_held=config.depth == 1,
    )


def _deferral(config: Config, columns: Columns) -> Deferral | None:
    if config.weight_start is None:
        return None
    unweighted = columns.multiplicity / columns.counts.sum()
    if config.targets == "own":  # whose samples keep the weights of their own
        assert columns.sample_weights is not None
        unweighted = unweighted * columns.sample_weights
    return Deferral(np.asarray(config.weight_start), np.asarray(config.weight_ramp), unweighted)


def save_times(config: Config, t1: float) -> Float[np.ndarray, " t"]:
    """The observed times, 0 to t1: evenly spaced, or 0 and then four decades up to t1."""
    if config.save_spacing == "linear":
        return np.linspace(0.0, t1, config.num_saves)
    return np.concatenate([[0.0], np.geomspace(t1 * 1e-4, t1, config.num_saves - 1)])
