"""The table of everything that a result can hold, with names, dimensions, descriptions, units, types, and the runs that
have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ssm.config import Config
from ssm.results.variables import (
    COUNT,
    DATA,
    REAL,
    WORD,
    Variable,
    has_groups,
    is_descent,
    only_of_networks,
)

FORMAT, SWEEP_FORMAT, STUDY_FORMAT = "ssm-1", "ssm-sweep-1", "ssm-study-1"
LOG_FORMAT = "ssm-log-1"
"""The format of the log of a network that is being watched; a finished one is stored as a run is."""
FORMATS = (FORMAT, SWEEP_FORMAT, STUDY_FORMAT)

COORDINATES = {
    "time": Variable(("time",), "flow time (steps x learning rate)", dtype=REAL),
    "class_name": Variable(("class",), "name of the class", "", WORD, when=only_of_networks),
    "class_count": Variable(("class",), "samples of the class", dtype=COUNT),
    "training_count": Variable(
        ("class",),
        "samples of the class that the network is trained on",
        dtype=COUNT,
        when=only_of_networks,
    ),
    "class_group": Variable(("class",), "majority or minority", "", WORD),
    "class_weight": Variable(
        ("class",), "weight of the class in the loss, at the end of the run", dtype=REAL
    ),
    "group_class": Variable(("group",), "class of the group", dtype=COUNT, when=has_groups),
    "group_attribute": Variable(
        ("group",), "value of the group's attribute", dtype=COUNT, when=has_groups
    ),
    "group_count": Variable(("group",), "samples of the group", dtype=COUNT, when=has_groups),
    "group_weight": Variable(
        ("group",),
        "weight of the group in the loss, beside that of its class",
        dtype=REAL,
        when=has_groups,
    ),
    "component_block": Variable(("component",), "kind of contrast", "", WORD),
    "component_target": Variable(
        ("component",),
        "singular value of the label matrix, where the squared loss ends and cross-entropy goes on",
        "logit",
        REAL,
    ),
    "block_target": Variable(("block",), "mean target of the block's components", "logit", REAL),
}
"""Coordinates of a run, beside those that number or name the entries of a dimension."""

FACTS = {
    "status": Variable((), "how the run ended", "", WORD),
    "num_steps": Variable((), "steps taken, of a solver those it took back too", dtype=COUNT),
    "t1": Variable((), "length of the run, by its clock", "time", REAL),
    "mean_sample_weight": Variable(
        (),
        "mean weight of a sample at the end of the run, a factor of the learning rate",
        dtype=REAL,
    ),
    "effective_sample_share": Variable(
        (),
        "effective number of samples over their number under the last weights, (sum pi w)^2 / sum pi w^2",
        dtype=REAL,
    ),
    "learning_rate": Variable((), "of the first step", dtype=REAL, when=is_descent),
    "can_interpolate": Variable(
        (), "1 where feature_dim lets the labels be interpolated, else 0", dtype=COUNT
    ),
}
"""The facts that are one value a run: each is an attribute of a run, and a variable over the axes of a sweep."""

SWEEP_ONLY = {"flow_time": COORDINATES["time"]}
"""The times of a sweep's runs where they differ. Where all runs share them they are `time`."""

LAST = {
    "last_parameters": Variable(
        ("parameter",), "W, features, hidden layers and bias at the end, as the run followed them"
    ),
    "last_optimizer_memory": Variable(
        ("memory_entry",), "what the optimiser remembers at the end, from which its run can go on"
    ),
    "last_schedule_state": Variable(
        ("schedule_entry",), "the state of the schedule of class weights at the end"
    ),
}
"""The end of a run that keeps its states, from which another run can go on. Only single runs have it."""

SWEPT = {name: v for name, v in (DATA | COORDINATES | FACTS | SWEEP_ONLY).items() if name != "time"}
"""The variables in the store of a sweep beside its axes, in the order in which they are written."""

VARIABLES = DATA | COORDINATES | FACTS | SWEEP_ONLY | LAST
"""All variables of runs and sweeps by name."""

INDICES = ("class", "component", "group", "block", "part", "factor")
"""Dimensions whose entries have a number or a name, kept as a coordinate of the same name."""

POINT = "point"
"""The dimension of a sweep along which several fields move together."""

# The field `loss` shares its name with a variable of every Dataset.
_NAMES_OF_FIELDS = {"loss": "loss_name"}

STORED = frozenset(
    {*VARIABLES, *INDICES, POINT, *_NAMES_OF_FIELDS.values()}
    | {field.name for field in dataclasses.fields(Config)}
)
"""Names of all arrays that the stores of runs and sweeps can have, the coordinates of a sweep's axes
among them."""

DIMENSIONS = frozenset(dim for variable in VARIABLES.values() for dim in variable.dims)
"""Names of all dimensions of a run."""

CLOCK_WORDS = {
    "loss": "tau, loss-normalised time (d tau = L dt)",
    "steps": "training step",
    "mixed": "flow time, or training step of an optimiser",
}
"""The description of times by clock, for clocks other than flow time."""


def fields_of(axis: str) -> list[str]:
    """The fields that vary along an axis of a sweep. The name of an axis has commas between fields that move together."""
    return axis.split(", ")


def axis_coordinates(axes: Iterable[str]) -> dict[str, str]:
    """The coordinates of a sweep's axes, each with its dimension.

    A field has a dimension of its own, of its name (`loss_name` for `loss`). Fields that move together
    lie along `point`, which numbers their values.
    """
    dimensions = {}
    for axis in axes:
        names = [_NAMES_OF_FIELDS.get(field, field) for field in fields_of(axis)]
        if len(names) > 1:
            dimensions |= {POINT: POINT} | dict.fromkeys(names, POINT)
        else:
            dimensions[names[0]] = names[0]
    return dimensions


def is_coordinate(name: str) -> bool:
    """Whether a name of the table is that of a coordinate."""
    return name in COORDINATES or name in SWEEP_ONLY


def has_variable(name: str, config: Config) -> bool:
    """Whether the run of a Config has a variable of the table."""
    when = VARIABLES[name].when
    return when is None or when(config)


def own_variables(given: Mapping[str, Any]) -> dict[str, Variable]:
    """The variables that observables of one's own add, from their description in JSON (`Additions.to_json`)."""
    return {
        name: Variable(("time", *known["dims"]), known["words"], known["units"])
        for name, known in given.get("observables", {}).items()
    }


def describe(name: str) -> dict[str, str]:
    """The attributes `description` and `units` of a variable or coordinate."""
    return VARIABLES[name].attributes
