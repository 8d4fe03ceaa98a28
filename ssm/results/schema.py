"""The table of everything that a result can hold: names, dimensions, words, units, types, and which
runs have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ssm.config import Config

FORMAT, SWEEP_FORMAT, STUDY_FORMAT = "ssm-1", "ssm-sweep-1", "ssm-study-1"
LOG_FORMAT = "ssm-log-1"
"""The format of the log of a network that is being watched; a finished one is stored as a run is."""
FORMATS = (FORMAT, SWEEP_FORMAT, STUDY_FORMAT)

OBSERVED = "observed"
"""The type of what is observed while a run is followed: floats in the precision of that run."""
WORD, COUNT, REAL = "<U14", "int64", "float64"


class Variable(NamedTuple):
    """One variable or coordinate of a run."""

    dims: tuple[str, ...]
    words: str
    """What it is, for the attribute `description`."""
    units: str = "1"
    """Its units, empty for words."""
    dtype: str = OBSERVED
    """Its type in a sweep, where all runs share one array: a type of NumPy, or `OBSERVED`."""
    when: Callable[[Config], bool] | None = None
    """Whether the run of a Config has it; None where every run does."""

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes `description` and `units` of it in a Dataset."""
        units = {"units": self.units} if self.units else {}
        return {"description": self.words} | units


def _has_geometry(config: Config) -> bool:
    return config.geometry


def _is_descent(config: Config) -> bool:
    return config.is_descent


def _observes_margin(config: Config) -> bool:
    return config.observes_margin


def _keeps_samples(config: Config) -> bool:
    return config.save_state and config.column_kind != "classes" and not config.has_inputs


def _keeps_classes(config: Config) -> bool:
    return config.save_state and config.column_kind == "classes"


def _is_held_out(config: Config) -> bool:
    return config.held_out


def _only_of_networks(config: Config) -> bool:
    """No run has it: a log of a network has, as far as it was told."""
    return False


DATA = {
    "loss": Variable(("time",), "weighted training loss", "loss"),
    "class_loss": Variable(("time", "class"), "mean loss of a class's samples, unweighted", "loss"),
    "class_accuracy": Variable(
        ("time", "class"),
        "share of a class's samples classified right (of 100 of a large class, under the squared loss)",
    ),
    "strength": Variable(
        ("time", "component"),
        "u_j^T Z v_j in the fixed basis of the label matrix; components are contrasts between "
        "classes, k - 1 of them, and per class there is class_strength",
        "logit",
    ),
    "block_strength": Variable(
        ("time", "block"),
        "mean strength over a block's components, NaN where it has none: one class has no contrasts "
        "within its group",
        "logit",
    ),
    "class_strength": Variable(
        ("time", "class"),
        "class-mean logits on the simplex-encoded target, 1 at interpolation",
    ),
    "singular_value": Variable(("time", "mode"), "singular values of the logits, sorted", "logit"),
    "gradient_share": Variable(
        ("time", "class"),
        "share of the gradient in the logits that comes from a class's samples, by norm",
    ),
    "weight": Variable(
        ("time", "class"),
        "weight of the class in the loss at that time",
        when=lambda config: config.weight_start is not None,
    ),
    "cumulative_rate": Variable(
        ("time",),
        "sum of the learning rates so far; the flow time of gradient descent",
        when=_is_descent,
    ),
    "residual": Variable(("time",), "share of the logits' energy outside the fixed basis"),
    "drift": Variable(("time",), "change of the conserved matrices over the size of their terms"),
    "objective": Variable(
        ("time",),
        "weighted training loss with its penalties",
        "loss",
        when=lambda config: config.has_decay,
    ),
    "log_loss": Variable(("time",), "log of the weighted training loss", when=_observes_margin),
    "margin": Variable(
        ("time",),
        "least margin of a sample, its own logit over the next, as its loss sees them",
        "logit",
        when=_observes_margin,
    ),
    "log_time": Variable(
        ("time",),
        "log of flow time (steps x learning rate)",
        when=lambda config: config.clock == "loss",
    ),
    "seli_distance": Variable(
        ("time", "part"),
        "distance to SELI of the Gram matrices of W and H and the logits Z, both normalised",
        when=_has_geometry,
    ),
    "etf_distance": Variable(("time", "part"), "the same to the simplex ETF", when=_has_geometry),
    "nc1": Variable(
        ("time",),
        "within-class over between-class variability of the features",
        when=_has_geometry,
    ),
    "nc2_norms": Variable(
        ("time", "factor"), "spread of the norms of w_c, centred class means", when=_has_geometry
    ),
    "nc2_angles": Variable(
        ("time", "factor"), "spread of the cosines between them", when=_has_geometry
    ),
    "nc2_distance": Variable(
        ("time", "factor"), "mean distance of the cosines to -1/(k-1)", when=_has_geometry
    ),
    "nc3": Variable(
        ("time",),
        "squared distance between W^T and the class means, both normalised",
        when=_has_geometry,
    ),
    "nc4": Variable(
        ("time",),
        "share of samples whose nearest class mean is not their prediction",
        when=_has_geometry,
    ),
    "held_out_accuracy": Variable(
        ("time", "class"), "share of held-out samples classified right", when=_is_held_out
    ),
    "held_out_loss": Variable(
        ("time", "class"),
        "mean loss of held-out samples, unweighted: squared, or cross-entropy of the logits as they are",
        "loss",
        when=_is_held_out,
    ),
    "held_out_strength": Variable(
        ("time", "class"),
        "mean logits of held-out samples on the simplex-encoded target",
        when=_is_held_out,
    ),
    "nc1_pooled": Variable(
        ("time",),
        "NC1 of covariances within and between classes in which every sample counts alike",
        when=_only_of_networks,
    ),
    "nc1_traces": Variable(
        ("time",),
        "trace of the covariance within classes over that between them, every class alike",
        when=_only_of_networks,
    ),
    "nc1_pooled_traces": Variable(
        ("time",), "the same with every sample alike", when=_only_of_networks
    ),
    "cdnv": Variable(
        ("time",),
        "class-distance normalised variance, the mean over pairs of classes",
        when=_only_of_networks,
    ),
    "coupling": Variable(
        ("time",),
        "how far training a sample moves the features of its classmates, as features show it",
        when=_only_of_networks,
    ),
    "balancing_exponent": Variable(
        ("time",),
        "exponent g of class weights n_c^-g at which contrasts among majority and among minority classes "
        "grow alike from small starts, at that coupling",
        when=_only_of_networks,
    ),
    "minority_cosine": Variable(
        ("time", "factor"),
        "mean cosine of two minority classes, 1 where they have collapsed onto one another",
        when=_only_of_networks,
    ),
    "classifier_gradient_share": Variable(
        ("time", "class"),
        "share of the classifier's squared gradient that is in the row of a class",
        when=_only_of_networks,
    ),
    "effective_weight": Variable(
        ("time", "class"),
        "weight that a class has in the mean loss of mini-batches that is divided by their weights",
        when=_only_of_networks,
    ),
    "not_finite": Variable(
        ("time",),
        "watched samples whose logits or features are not finite; where there are any, what follows from "
        "them is NaN",
        when=_only_of_networks,
    ),
    "W": Variable(
        ("time", "class", "feature"), "classifier", when=lambda config: config.save_state
    ),
    "bias": Variable(
        ("time", "class"),
        "bias of the logits",
        "logit",
        when=lambda config: config.save_state and config.has_output_bias,
    ),
    "A": Variable(
        ("time", "feature", "input"),
        "the layer that makes features of inputs",
        when=lambda config: config.save_state and config.has_inputs,
    ),
    "H": Variable(
        ("time", "feature", "sample"), "features, one column a sample", when=_keeps_samples
    ),
    "class_H": Variable(
        ("time", "feature", "class"),
        "features, one column a class: all of its samples are alike",
        when=_keeps_classes,
    ),
    "hidden": Variable(
        ("time", "layer", "feature", "input_feature"),
        "hidden layers, from the classifier on",
        when=lambda config: config.save_state and config.depth > 2,
    ),
    "learning_time": Variable(("component",), "when the component reaches half its target", "time"),
    "class_learning_time": Variable(("class",), "when the class reaches half its target", "time"),
    "block_learning_time": Variable(
        ("block",), "when the block's mean reaches half its target", "time"
    ),
    "predicted_learning_time": Variable(
        ("component",), "learning time expected of the run's start", "time", REAL
    ),
}
"""Variables of a run, in the order in which they are stored."""

COORDINATES = {
    "time": Variable(("time",), "flow time (steps x learning rate)", dtype=REAL),
    "class_name": Variable(("class",), "name of the class", "", WORD, when=_only_of_networks),
    "class_count": Variable(("class",), "samples of the class", dtype=COUNT),
    "training_count": Variable(
        ("class",),
        "samples of the class that the network is trained on",
        dtype=COUNT,
        when=_only_of_networks,
    ),
    "class_group": Variable(("class",), "majority or minority", "", WORD),
    "class_weight": Variable(
        ("class",), "weight of the class in the loss, at the end of the run", dtype=REAL
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
    "learning_rate": Variable((), "of the first step", dtype=REAL, when=_is_descent),
    "can_interpolate": Variable(
        (), "1 where feature_dim lets the labels be interpolated, else 0", dtype=COUNT
    ),
}
"""What is one value a run: an attribute of a run, and a variable over the axes of a sweep."""

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
"""The end of a run that keeps its states, from which another can go on: of single runs only."""

SWEPT = {name: v for name, v in (DATA | COORDINATES | FACTS | SWEEP_ONLY).items() if name != "time"}
"""What the store of a sweep holds beside its axes, in the order in which it is written."""

VARIABLES = DATA | COORDINATES | FACTS | SWEEP_ONLY | LAST
"""All of them by name."""

INDICES = ("class", "component", "block", "part", "factor")
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
"""What times are where the clock is not flow time."""


def fields_of(axis: str) -> list[str]:
    """The fields that an axis of a sweep is of: several, with commas between, where they move together."""
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
    """The variables that observables of one's own add, from what is known of them (`Additions.to_json`)."""
    return {
        name: Variable(("time", *known["dims"]), known["words"], known["units"])
        for name, known in given.get("observables", {}).items()
    }


def describe(name: str) -> dict[str, str]:
    """The attributes `description` and `units` of a variable or coordinate."""
    return VARIABLES[name].attributes
