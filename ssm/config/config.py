"""Every number of a run in one frozen dataclass, which checks its fields when it is made."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from ssm.config import showing
from ssm.config.bounds import Within, checked_fields, interval
from ssm.config.data import DataFields
from ssm.config.documentation import DocstringOfFields
from ssm.config.flow import FlowClockFields, FlowEndFields, FlowSolverFields
from ssm.config.groups import GroupFields
from ssm.config.inputs import InputFields
from ssm.config.loss import NEUTRAL, LossFields
from ssm.config.model import LARGEST_STATE, ModelFields
from ssm.config.observation import ObservationFields
from ssm.config.optimizer import LINEAR, OptimizerFields
from ssm.config.weights import WeightFields
from ssm.support import errors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DType = Literal["float64", "float32"]
FEWEST_COORDINATES = (
    32  # the fewest coordinates that a class is given, unless its features have fewer dimensions
)
# Fields that have a meaning for the steps of an optimiser only. Further fields of its group have rules of their own.
OF_STEPS = ("learning_rate", "learning_rate_schedule", "num_steps", "batch_size")
# Fields that have a meaning for a flow only.
OF_A_FLOW = tuple(
    field.name for group in (FlowEndFields, FlowSolverFields) for field in dataclasses.fields(group)
)
Fields = TypeVar("Fields", bound="DataclassInstance")


def _made_by_name(cls: type[Fields]) -> type[Fields]:
    """A dataclass that refuses a positional argument and an unknown field in one line, with a hint, and
    whose docstring describes its fields."""
    make = cls.__init__
    names = tuple(field.name for field in dataclasses.fields(cls))
    known = frozenset(names)

    @functools.wraps(make)  # so that help() shows the fields as the arguments
    def make_by_name(self: Fields, *args: object, **values: object) -> None:
        if args:
            raise errors.invalid(cls.__name__, args[0], "given by the names of its fields")
        if not known.issuperset(values):
            name = min(values.keys() - known)
            hint = errors.did_you_mean(name, names) or f"; see help(ssm.{cls.__name__})"
            allowed = f"a field of {cls.__name__}{hint}"
            raise errors.invalid(name, values[name], allowed)
        make(self, **values)

    cls.__init__ = make_by_name
    cls.__doc__ = DocstringOfFields(cls.__doc__ or "")  # type: ignore[assignment] # reads as a str
    return cls


@_made_by_name
@dataclasses.dataclass(frozen=True, kw_only=True)
# The order of the fields, in JSON, in help and in a result's attributes, begins with the last of these classes.
class Config(
    FlowSolverFields,
    ObservationFields,
    FlowEndFields,
    OptimizerFields,
    FlowClockFields,
    InputFields,
    ModelFields,
    WeightFields,
    LossFields,
    GroupFields,
    DataFields,
):
    """All that defines one run of the small-scale model.

    The model is the unconstrained-features model: logits Z = W H with a classifier W (k x d) and
    one free feature column a sample in H (d x n), trained on L = (1/n) sum_i w_{y_i} l(z_i, y_i)
    and its penalties where there are any, by gradient flow or by the steps of an optimiser. Flow
    time is the number of gradient-descent steps times the learning rate, in the limit of small
    steps. Each field is a flag of `ssm run`, and `ssm run --help` describes them all.

    Raises:
        ssm.InputError (a ValueError): an unknown field, or a value that is not allowed; one line
            with the field, the value and what is allowed.

    Example:
        >>> import dataclasses
        >>> config = Config(num_classes=4, imbalance_ratio=100, weight_exponent=0.5)
        >>> config.class_counts
        (500, 500, 5, 5)
        >>> dataclasses.replace(config, profile="long_tailed").class_counts
        (500, 108, 23, 5)
    """

    seed: Annotated[int, Within(0, 2**31 - 1)] = 0
    """Seed of the start and of mini-batches."""
    dtype: DType = "float64"
    """Floating-point type of the whole run."""

    def __post_init__(self) -> None:
        for name, value in checked_fields(self).items():
            object.__setattr__(self, name, value)
        is_left_out = self.num_classes == DataFields.num_classes
        self.check_data(self.check_groups(self.num_classes, is_left_out))
        self.check_weights(self.num_classes)
        self.check_loss()
        self._check_what_flow_can_reach()
        self._check_ramp()
        if self.geometry and self.depth != 2:
            allowed = f"False unless depth is 2, not {self.depth}"
            raise errors.invalid("geometry", self.geometry, allowed)
        self.check_model(self.num_classes)
        self.check_inputs(self.coupling, self.feature_decay, is_descent=self.is_descent)
        self._check_kind_of_run()
        self._check_targets()
        self._check_groups()
        self.check_optimizer(self.num_saves)
        self._check_coupling()
        self._check_sizes()

    def __repr__(self) -> str:
        return showing.call(self)

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:
        yield from showing.differing(self).items()

    def _repr_html_(self) -> str:
        return showing.table(self)

    @property
    def column_kind(self) -> Literal["samples", "classes", "coordinates"]:
        """What the feature columns of the run stand for: whole `classes` where all features of a
        class stay equal, else `coordinates` of each class (squared loss), else `samples`."""
        if self.has_inputs or self.has_groups or self.targets == "own":
            return "samples"
        if self.coupling == 1:
            return "classes"
        if self.optimizer in LINEAR and self.batch_size is None:
            if self.init in ("spectral", "collapsed"):
                return "classes"
            if self.loss == "squared" and self.init != "own":
                return "coordinates"
        return "samples"

    @property
    def num_columns(self) -> int:
        """Number of feature columns m."""
        kind = self.column_kind
        if kind == "classes":
            return self.num_classes
        if kind == "samples":
            return sum(self.class_counts)
        # The rows of a balanced start are combinations of k rows, those of a Gaussian one are d rows.
        rows = self.num_classes if self.init == "balanced" else self.feature_dim
        # A class needs no more columns than it has samples, but for few of them it does not pay to compile another shape.
        width = min(rows + 1, max(FEWEST_COORDINATES, *self.class_counts))
        return self.num_classes * width

    @property
    def num_inputs(self) -> int:
        """Number of inputs p that features are made of; 0 where the features themselves are followed."""
        if self.noise_dim is None:
            return 0
        named = 1 + self.num_classes + self.num_attributes
        return named + self.noise_dim + self.has_hidden_bias

    @property
    def observes_margin(self) -> bool:
        """Whether margins and the logarithm of the loss are observed."""
        terminal = self.clock == "loss" or self.stop_margin is not None or self.geometry
        return terminal and self.loss != "squared"

    def with_seed(self, seed: int) -> Self:
        """The same run from another start. Nothing but the seed is checked again, since no other field depends on it."""
        other = copy.copy(self)
        object.__setattr__(other, "seed", interval(type(self), "seed").integer("seed", seed))
        return other

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The Config that `to_json` wrote; raises InputError for anything else."""
        try:
            fields = json.loads(text)
        except (json.JSONDecodeError, TypeError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise errors.invalid("config", text, "a JSON object of Config fields")
        return cls(**fields)

    def _check_what_flow_can_reach(self) -> None:
        """Refuse the clock of the loss where the loss does not fall to 0, and a margin to stop at under
        the squared loss, which has no margins."""
        kept_up = {
            "under the squared loss": self.loss == "squared",
            "with weight or feature decay": self.has_decay,
            "with label smoothing": self.label_smoothing > 0,
            f"with optimizer={self.optimizer}": self.is_descent,
        }
        for what, keeps in kept_up.items():
            if keeps and self.clock == "loss":
                allowed = f"time {what}: the loss has to fall to 0 by itself, in a flow"
                raise errors.invalid("clock", self.clock, allowed)
        if self.stop_margin is not None and self.loss == "squared":
            allowed = "left out under the squared loss"
            raise errors.invalid("stop_margin", self.stop_margin, allowed)

    def _check_ramp(self) -> None:
        """Refuse weights that change evenly with the solver rkl2, which can stop at a switch of the field but
        cannot follow a change within a step."""
        may_be_rkl2 = self.solver == "rkl2" or (self.clock == "loss" and self.solver is None)
        if self.weight_ramp > 0 and may_be_rkl2:
            allowed = "0 with solver=rkl2, the loss clock's: a switch, no ramp"
            raise errors.invalid("weight_ramp", self.weight_ramp, allowed)

    def _check_kind_of_run(self) -> None:
        """Refuse numbers of an optimiser's steps in a flow, and numbers of a flow in an optimiser's
        steps."""
        of_others = OF_A_FLOW if self.is_descent else OF_STEPS
        whose = "a flow" if self.is_descent else "an optimiser's steps"
        for name in of_others:
            value = getattr(self, name)
            if value != getattr(
                type(self), name
            ):  # the default, which a dataclass keeps as an attribute of the class
                allowed = f"left out with optimizer={self.optimizer}: it is of {whose} only"
                raise errors.invalid(name, value, allowed)

    def _check_targets(self) -> None:
        """Refuse, where targets are distributions, what is known only for one label a sample."""
        if self.targets == "labels":
            return
        if self.loss not in ("squared", "cross_entropy"):
            allowed = "squared or cross_entropy with targets of one's own"
            raise errors.invalid("loss", self.loss, allowed)
        for name, neutral in NEUTRAL.items():
            if (value := getattr(self, name)) not in (None, neutral):
                raise errors.invalid(name, value, "left out with targets of one's own")
        for name in ("geometry", "stop_margin", "clock"):
            if (value := getattr(self, name)) != getattr(type(self), name):
                allowed = "left out with targets of one's own, which have no label to end at"
                raise errors.invalid(name, value, allowed)
        if self.coupling == 1 and not self.has_inputs:
            allowed = "below 1 with targets of one's own: shared features have one target a class"
            raise errors.invalid("coupling", self.coupling, allowed)

    def _check_groups(self) -> None:
        """Refuse what is not known for groups inside classes."""
        if not self.has_groups:
            return
        if self.coupling + self.attribute_coupling > 1:
            allowed = f"at most 1 - coupling, {1 - self.coupling:g}"
            raise errors.invalid("attribute_coupling", self.attribute_coupling, allowed)
        if self.coupling + self.attribute_coupling == 1 and not self.has_inputs:
            allowed = "less than 1 together with attribute_coupling, unless noise_dim is given"
            raise errors.invalid("coupling", self.coupling, allowed)
        if self.geometry:
            allowed = "False with groups, of which no geometry of the end is known"
            raise errors.invalid("geometry", self.geometry, allowed)
        if self.targets == "own":
            raise errors.invalid("groups", self.groups, "left out with targets of one's own")

    def _check_coupling(self) -> None:
        """Refuse coupled features under an optimiser whose steps are not linear in the gradients, unless there are
        inputs, from which its steps follow."""
        if self.optimizer in LINEAR or self.has_inputs:
            return
        of_features = (
            f"with optimizer={self.optimizer}, whose steps depend on what moves coupled features, not on "
            "their gradient alone; noise_dim gives them inputs"
        )
        if self.attribute_coupling > 0:
            raise errors.invalid("attribute_coupling", self.attribute_coupling, f"0 {of_features}")
        if 0 < self.coupling < 1:
            raise errors.invalid("coupling", self.coupling, f"0 or 1 {of_features}")
        if self.between_coupling > 0:
            raise errors.invalid("between_coupling", self.between_coupling, f"0 {of_features}")
        if self.has_hidden_bias:
            raise errors.invalid("bias", self.bias, f"none or output {of_features}")

    def _check_sizes(self) -> None:
        """Refuse a run whose arrays would not fit a machine's memory."""
        k, d, num_columns = self.num_classes, self.feature_dim, self.num_columns
        hidden = max(self.depth - 2, 0) * d**2
        features = self.num_inputs or num_columns
        size = (k + features) * d + hidden
        if self.num_inputs * num_columns > LARGEST_STATE:
            allowed = f"so small that {features} inputs of {num_columns} samples are at most {LARGEST_STATE} numbers"
            raise errors.invalid("noise_dim", self.noise_dim, allowed)
        if max(size, k * num_columns) > LARGEST_STATE:
            raise errors.invalid(
                "feature_dim",
                d,
                "small enough, and so the classes and their counts, that all layers, here with "
                f"{num_columns} feature columns, and the logits hold at most {LARGEST_STATE} numbers "
                "(the squared loss, coupling=1 and init=collapsed need only some columns a class)",
            )
        if self.column_kind == "coordinates":  # their states are kept as those of all samples
            size = (k + sum(self.class_counts)) * d + hidden
        if self.save_state and size * self.num_saves > LARGEST_STATE:
            allowed = (
                f"False unless num_saves times the {size} numbers of all layers is at most "
                f"{LARGEST_STATE}"
            )
            raise errors.invalid("save_state", True, allowed)


def field_names() -> tuple[str, ...]:
    """The names of all fields, in order."""
    return tuple(field.name for field in dataclasses.fields(Config))


def check_config(name: str, value: object) -> Config:
    """`value` if it is a Config; raises InputError for anything else."""
    if isinstance(value, Config):
        return value
    mapping = isinstance(value, Mapping)
    allowed = "a Config: ssm.Config(**fields) makes one of a mapping" if mapping else "a Config"
    raise errors.invalid(name, value, allowed)
