"""What a run can be given beside its Config: a loss, an optimiser, observables, a schedule, targets and a start of one's own.

All of it is checked here, before anything runs. A Config uses a loss, a start or an optimiser that is given beside it
if it says `own` in the field of that name, and only then.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np

from ssm.config import Config
from ssm.dynamics.observables import Names, Observable, own_observables
from ssm.dynamics.own_start import own_start, size_of
from ssm.dynamics.parameters import Params
from ssm.problem import own_objects
from ssm.problem.inputs import Inputs
from ssm.problem.own_loss import OwnLoss, own_loss
from ssm.problem.problem import Targets, make_problem
from ssm.problem.schedules import Transformation
from ssm.results import digests, schema
from ssm.results.schema import Variable
from ssm.support import errors

if TYPE_CHECKING:
    from ssm.dynamics.optimizers import OwnOptimizer  # optax, which it imports, takes long

START_SIZES = {"float64": (1e-70, 1e70), "float32": (1e-18, 1e18)}
"""The least and the largest `init_scale`, by the dtype of a run."""
ARGUMENTS = {"loss": "loss", "optimizer": "optimizer", "init": "start", "targets": "targets"}
"""The argument that goes with each field of a Config that may say `own`."""
NAMES = Names(schema.STORED, schema.DIMENSIONS)


class Additions(NamedTuple):
    """What a run is given beside its Config, which is nothing by default."""

    loss: OwnLoss | None = None
    optimizer: OwnOptimizer | None = None
    observables: dict[str, Observable] = {}  # noqa: RUF012 that is never changed
    """Observables by the name of their variable."""
    schedule: Transformation | None = None
    targets: Targets | None = None
    """What samples are taught in place of labels, sorted by class."""
    start: Params | None = None
    """The start, as host arrays, with one column of features for each sample, or for each class where they are shared."""

    def to_json(self) -> dict[str, Any]:
        """What identifies each thing that is given, as JSON types: two runs of one Config are the same where this is
        equal."""
        known: dict[str, Any] = {}
        if self.loss is not None:
            known["loss"] = own_objects.identity(self.loss.loss)
        if self.optimizer is not None:
            known["optimizer"] = own_objects.identity(self.optimizer)
        if self.observables:
            known["observables"] = {
                name: own_objects.identity(each)
                | {"dims": list(each.dims), "units": each.units, "words": each.words}
                for name, each in self.observables.items()
            }
        if self.schedule is not None:
            known["schedule"] = eqx.tree_pformat(self.schedule, short_arrays=False)
        if self.targets is not None:
            P, weights, _ = self.targets
            arrays = {"targets": P, "sample_weights": weights}
            known["targets"] = f"{P.shape[1]} samples, sha256 {digests.of_values(arrays)}"
        if self.start is not None:
            known["start"] = f"sha256 {digests.of_values(_named_layers(self.start))}"
        return known

    def attributes(self) -> dict[str, str]:
        """What `to_json` gives, as attributes of the Dataset of a run."""
        known = self.to_json()
        objects = {name: value for name, value in known.items() if not isinstance(value, str)}
        words = {name: value for name, value in known.items() if isinstance(value, str)}
        return {f"own_{name}": json.dumps(value) for name, value in objects.items()} | words

    def variables(self) -> dict[str, Variable]:
        """The variables that the observables add to a Dataset."""
        return {
            name: Variable(("time", *each.dims), each.words, each.units)
            for name, each in self.observables.items()
        }

    def numbers(self) -> tuple[str, ...]:
        """The numbers of the loss and the optimiser by the names under which a sweep can vary them:
        `loss.NUMBER`, `optimizer.NUMBER`."""
        return tuple(
            f"{part}.{name}"
            for part, value in (("loss", self._bare_loss), ("optimizer", self.optimizer))
            for name in own_objects.number_names(value)
        )

    def with_numbers(self, numbers: Mapping[str, float]) -> Additions:
        """These additions with other numbers, by the names that the method `numbers` gives."""
        made = self
        for name, value in numbers.items():
            part, number = name.split(".")
            if part == "loss":
                assert made.loss is not None
                changed: Any = OwnLoss(own_objects.with_number(made.loss.loss, number, value))
            else:
                changed = own_objects.with_number(made.optimizer, number, value)
            made = made._replace(**{part: changed})
        return made

    def of(self, config: Config, data: Inputs | None = None) -> Additions:
        """The additions that the run of a Config uses, which are the loss and the optimiser only where it says `own`.

        Raises:
            ssm.InputError: the Config says `own` of something that is not given, or cannot go with what is given.
        """
        for field, argument in ARGUMENTS.items():
            if getattr(config, field) == "own" and getattr(self, argument) is None:
                allowed = f"another word unless {argument} is given, to ssm.simulate or ssm.sweep"
                raise errors.invalid(field, "own", allowed)
        loss = self.loss if config.loss == "own" else None
        if loss is not None and config.clock == "loss" and not loss.knows_its_logarithm:
            allowed = "time with a loss of one's own that has no log_value"
            raise errors.invalid("clock", config.clock, allowed)
        if self.schedule is not None:
            check_schedule(config, self.schedule, data)
        start = None if self.start is None else own_start(config, self.start, data)
        optimizer = self.optimizer if config.optimizer == "own" else None
        return self._replace(loss=loss, optimizer=optimizer, start=start)

    def check_versions(self) -> None:
        """Refuse what a store could not recognise later: objects without a version, and bare transformations."""
        if self.optimizer is not None and _is_bare(self.optimizer):
            allowed = (
                "a pytree of numbers with transformation() and a version, so that a store can go on"
            )
            raise errors.invalid("optimizer", "a transformation of optax", allowed)
        named = {"loss": self._bare_loss, "optimizer": self.optimizer}
        named |= {f"observables[{name}]": each for name, each in self.observables.items()}
        for name, value in named.items():
            if value is not None:
                own_objects.check_version(name, value)

    @property
    def _bare_loss(self) -> Any:
        return None if self.loss is None else self.loss.loss


NONE = Additions()


def _named_layers(start: Params) -> dict[str, np.ndarray]:
    named = {"W": start.W, "H": start.H}
    named |= {f"hidden[{i}]": layer for i, layer in enumerate(start.hidden)}
    return named if start.bias is None else named | {"bias": start.bias}


def additions(
    config: Config,
    data: Inputs | None = None,
    swept: Collection[str] = (),
    *,
    loss: object = None,
    optimizer: object = None,
    observables: object = None,
    schedule: Transformation | None = None,
    start: object = None,
    targets: Targets | None = None,
) -> tuple[Config, Additions]:
    """What is given beside a Config, checked on its own, and the Config with `own` in the fields of it. `Additions.of`
    checks it against the Config of each run.

    Args:
        config: the Config of a run, or of what the runs of a sweep have in common.
        data: inputs of one's own, if there are any.
        swept: the fields that vary, which say `own` among their values where they have to.
        loss, optimizer, observables, schedule, start: as `ssm.simulate` takes them.
        targets: as `own_targets` makes them.

    Raises:
        ssm.InputError: something given cannot be used, which the message names, or the Config
            names another loss, start or optimiser than the one given.
    """
    given = Additions(
        loss=None if loss is None else own_loss(loss, config.num_classes),
        optimizer=None if optimizer is None else _own_optimizer(optimizer),
        observables=own_observables(observables, NAMES),
        schedule=schedule,
        targets=targets,
    )
    for name, value in (("loss", loss), ("optimizer", optimizer), ("init", start)):
        if value is not None and name not in swept:
            config = _with_own(config, name)
    if start is None:
        return config, given
    for name in ("init", "init_scale"):
        if name in swept:
            raise errors.invalid(f"grid[{name}]", "given", "left out where start is given")
    start = own_start(config, start, data)
    size = float(np.clip(size_of(start), *START_SIZES[config.dtype]))
    return dataclasses.replace(config, init_scale=size), given._replace(start=start)


def _with_own(config: Config, field: str) -> Config:
    """The Config with `own` in a field whose object is given."""
    word, argument = getattr(config, field), ARGUMENTS[field]
    if word not in ("own", getattr(Config, field)):
        raise errors.invalid(field, word, f"left out where {argument} is given")
    if field == "init" and word != "own" and config.init_scale != Config.init_scale:
        allowed = "left out where start is given, whose size it is"
        raise errors.invalid("init_scale", config.init_scale, allowed)
    return dataclasses.replace(config, **{field: "own"})


def check_schedule(config: Config, schedule: object, data: Inputs | None = None) -> None:
    """Refuse anything that is no schedule, and a schedule that the run of a Config cannot follow."""
    if not isinstance(schedule, Transformation):
        raise errors.invalid("schedule", schedule, "a transformation of ssm.schedules")
    if not config.is_descent:
        allowed = "left out for a flow, which has weight_start and weight_ramp"
        raise errors.invalid("schedule", schedule, allowed)
    problem = make_problem(config)
    is_weighted = (problem.class_weights != 1).any() or config.group_weight_exponent != 0
    if is_weighted or config.weight_start is not None:
        raise errors.invalid("schedule", schedule, "left out where the config has weights")
    in_coordinates = data is None and config.column_kind == "coordinates"
    if (schedule.needs_performance or schedule.needs_losses) and in_coordinates:
        allowed = (
            "one that needs no accuracies or losses, under the squared loss without mini-batches"
        )
        raise errors.invalid("schedule", schedule, allowed)
    counts = config.class_counts if config.groups is None else config.groups
    schedule.init(np.array(counts))  # refuses weights of another number of classes


def _own_optimizer(optimizer: object) -> OwnOptimizer:
    """The result of `own_optimizer`, which is imported only here, since optax takes a fifth of a second and no flow needs
    it."""
    from ssm.dynamics.optimizers import own_optimizer

    return own_optimizer(optimizer)


def _is_bare(optimizer: object) -> bool:
    """Whether an optimiser was given as a bare transformation of optax."""
    from ssm.dynamics.optimizers import PlainTransformation

    return isinstance(optimizer, PlainTransformation)
