"""What a run can be given beside its Config: a loss, an optimiser, observables, a schedule and a start of one's own.

All of it is checked here, before anything runs. A Config that says `own` of its loss, its start or its optimiser
says that it goes with one that is given, and only such a Config does.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from ssm.config import Config
from ssm.dynamics.observables import Names, own_observables
from ssm.dynamics.optimizers import own_optimizer
from ssm.dynamics.own_start import own_start, size_of
from ssm.dynamics.parameters import Params
from ssm.problem import own_objects
from ssm.problem.inputs import Inputs
from ssm.problem.own_loss import OwnLoss, own_loss
from ssm.problem.problem import make_problem
from ssm.problem.schedules import Transformation
from ssm.results import digests, schema
from ssm.results.schema import Variable
from ssm.support import errors

START_SIZES = {"float64": (1e-70, 1e70), "float32": (1e-18, 1e18)}
"""What `init_scale` can be."""
NAMES = Names(schema.STORED, schema.DIMENSIONS)


class Additions(NamedTuple):
    """What a run is given beside its Config; nothing of it by default."""

    loss: OwnLoss | None = None
    optimizer: Any = None
    """An object whose `transformation()` is one of optax."""
    observables: dict[str, Any] = {}  # noqa: RUF012 that is never changed
    """An `Observable` by the name of its variable."""
    schedule: Transformation | None = None
    start: Params | None = None
    """As host arrays, features one column a sample, or a class where they are shared."""

    def to_json(self) -> dict[str, Any]:
        """What is known of each that is given, as JSON types: two runs of one Config are the same where this
        is."""
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
        if self.start is not None:
            known["start"] = f"sha256 {digests.of_values(_named_layers(self.start))}"
        return known

    def attributes(self) -> dict[str, str]:
        """The same as attributes of the Dataset of a run."""
        return {
            name if name in ("schedule", "start") else f"own_{name}": _as_attribute(value)
            for name, value in self.to_json().items()
        }

    def variables(self) -> dict[str, Variable]:
        """The variables that the observables add to a Dataset."""
        return {
            name: Variable(("time", *each.dims), each.words, each.units)
            for name, each in self.observables.items()
        }


NONE = Additions()


def _as_attribute(value: Any) -> str:
    return value if isinstance(value, str) else own_objects.as_text(value)


def _named_layers(start: Params) -> dict[str, np.ndarray]:
    named = {"W": start.W, "H": start.H}
    named |= {f"hidden[{i}]": layer for i, layer in enumerate(start.hidden)}
    return named if start.bias is None else named | {"bias": start.bias}


def additions(
    config: Config,
    data: Inputs | None = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    observables: Any = None,
    schedule: Any = None,
    start: Any = None,
) -> tuple[Config, Additions]:
    """What is given beside a Config, checked, and the Config that says so.

    Raises:
        ssm.InputError: something that cannot be used, in one line that names the argument; a Config that names
            another loss, start or optimiser than the one given, or none where one is missing.
    """
    for name, value in (("loss", loss), ("optimizer", optimizer), ("init", start)):
        config = _said_to_be_own(config, name, value)
    given = Additions(
        loss=None if loss is None else own_loss(loss, config.num_classes),
        optimizer=None if optimizer is None else own_optimizer(optimizer),
        observables=own_observables(observables, NAMES),
        start=None if start is None else own_start(config, start, data),
    )
    if given.loss is not None and config.clock == "loss" and not given.loss.knows_its_logarithm:
        allowed = "time with a loss of one's own that has no log_value"
        raise errors.invalid("clock", config.clock, allowed)
    if given.start is not None:
        size = float(np.clip(size_of(given.start), *START_SIZES[config.dtype]))
        config = dataclasses.replace(config, init_scale=size)
    if schedule is not None:
        check_schedule(config, schedule, data)
    return config, given._replace(schedule=schedule)


def _said_to_be_own(config: Config, field: str, value: Any) -> Config:
    """The Config that says `own` of a field whose object is given."""
    said, argument = getattr(config, field), {"init": "start"}.get(field, field)
    if value is None:
        if said == "own":
            allowed = f"another word unless {argument} is given, to ssm.simulate or ssm.sweep"
            raise errors.invalid(field, said, allowed)
        return config
    if said not in ("own", getattr(Config, field)):
        raise errors.invalid(field, said, f"left out where {argument} is given")
    if field == "init" and said != "own" and config.init_scale != Config.init_scale:
        allowed = "left out where start is given, whose size it is"
        raise errors.invalid("init_scale", config.init_scale, allowed)
    return dataclasses.replace(config, **{field: "own"})


def check_schedule(config: Config, schedule: Any, data: Inputs | None = None) -> None:
    """Refuse what is no schedule, and one that the run of a Config cannot follow."""
    if not isinstance(schedule, Transformation):
        raise errors.invalid("schedule", schedule, "a transformation of ssm.schedules")
    if not config.is_descent:
        allowed = "left out for a flow, which has weight_start and weight_ramp"
        raise errors.invalid("schedule", schedule, allowed)
    if (make_problem(config).class_weights != 1).any() or config.weight_start is not None:
        raise errors.invalid("schedule", schedule, "left out where the config has weights")
    in_coordinates = data is None and config.column_kind == "coordinates"
    if schedule.needs_performance and in_coordinates:
        allowed = "one that needs no accuracies, under the squared loss without mini-batches"
        raise errors.invalid("schedule", schedule, allowed)
    schedule.init(np.array(config.class_counts))  # refuses weights of another number of classes
