"""Every number of a study in one frozen dataclass, checked where it is made."""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, Any, Literal, get_args

import tyro

from ssm.support import checks, errors

Profile = Literal["step", "long_tailed"]
Score = Literal["balanced_log_loss", "macro_average_precision", "balanced_accuracy", "worst_class"]
Stopping = Literal[
    "balanced_log_loss", "macro_average_precision", "balanced_accuracy", "worst_class", "none"
]
Action = Literal["warn", "stop", "roll_back"]
Decimal = Literal[".", ","]
TABS = ("tab", "\\t", "\t")
"""Ways to write the separator that is hard to type."""
SIGNS = frozenset(string.punctuation + " ") - set("\"'.+-_")
"""Other separators."""
SCORES, ACTIONS = get_args(Score), get_args(Action)
DEFAULT_STRATEGIES = "erm,inverse,sqrt,effective,drw,adaptive,la,ldam,focal"


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """What is studied, and how. Times are in steps, one update on one mini-batch.

    Raises:
        ssm.InputError (a ValueError): a value that is not allowed; one line with the field, the
            value and what is allowed.
    """

    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    """`digits`, `breast_cancer`, `wine`, or a file: a table with a header row, .csv, .tsv or .txt
    and any of them with .gz (columns of text are encoded as 0 and 1), or .npz (arrays `features`
    and `labels`)."""
    strategies: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...")] = DEFAULT_STRATEGIES
    """Names between commas, the baseline erm first: erm, inverse, sqrt, effective, drw, ramp,
    clipped, adaptive, la, cdt, vs, ldam, ldam-drw, focal."""
    folds: int = 5
    """Folds of the stratified cross-validation, at least 2; each class needs as many samples."""
    seeds: int = 3
    """How often it is repeated, each time with splits, networks and mini-batches of its own."""
    imbalance_ratio: float | None = None
    """Make the data imbalanced: samples of the largest class over those of the smallest, at least
    1; one subsample, the same for all seeds. Left out: all samples as they are."""
    profile: Profile = "step"
    """`step`: the smaller half of the classes is cut; `long_tailed`: sizes fall by equal factors."""
    label: str = "label"
    """The column that holds the class; every text there is a class, as it is written."""
    exclude: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...")] = ""
    """Columns to leave out, as identifiers and free text; a name with a comma in double quotes."""
    impute: bool = False
    """Take missing features, in place of refusing them: empty, ?, NA and the like. Numbers, also
    infinite ones, get the median of each training part; missing texts are a category of their own.
    """
    sep: Annotated[str | None, tyro.conf.arg(metavar="CHARACTER")] = None
    """What separates the entries of a table, such as ; or tab. Left out: tab in a .tsv, in others
    what the header shows."""
    decimal: Decimal = "."
    """The decimal sign of a table's numbers."""
    num_steps: int | None = None
    """Steps of training, at most. Left out: 1000, or 20 passes over a training part if that is
    more."""
    hidden_layer_sizes: tuple[int, ...] = (64,)
    """Widths of the hidden layers."""
    learning_rate: float = 0.003
    """Of Adam."""
    batch_size: int = 128
    """Samples of a mini-batch."""
    weight_decay: float = 0.0
    """Share of the kernels lost a step, times the learning rate."""
    early_stopping: Stopping = "balanced_log_loss"
    """Performance on held-out samples (a fifth of the training part) that ends training: the network
    of the latest evaluation not worse than the best beyond noise is trained anew on all samples.
    `worst_class` is the least recall; `none`: train to the end."""
    alarm_action: Action = "warn"
    """What an alarm does: `warn`, `stop`, or `roll_back` to the best evaluation."""
    margin: float = 0.05
    """Largest loss of balanced accuracy beside the baseline that is acceptable, and within which two
    strategies count as equivalent."""
    minimum_score: float | None = None
    """Least acceptable balanced accuracy, a number that somebody asks for. Left out: only the loss
    beside the baseline is judged."""
    ablations: bool = True
    """Also train what it takes to switch weights, schedule, clip and margin on and off."""
    sensitivity: bool = True
    """Also train with scaled weights, and on fewer samples."""

    def __post_init__(self) -> None:
        for name in ("data", "strategies", "label", "exclude"):
            text(name, getattr(self, name))
        self._keep("folds", checks.integer("folds", self.folds, 2, 1000))
        self._keep("seeds", checks.integer("seeds", self.seeds, 1, 1000))
        if self.imbalance_ratio is not None:
            checks.real("imbalance_ratio", self.imbalance_ratio, 1)
        checks.choice("profile", self.profile, get_args(Profile))
        separator(self.sep)
        decimal_sign(self.decimal)
        if self.num_steps is not None:
            self._keep("num_steps", checks.integer("num_steps", self.num_steps, 1, 10**7))
        if not isinstance(self.hidden_layer_sizes, tuple | list):
            allowed = "integers, the width of each hidden layer"
            raise errors.invalid("hidden_layer_sizes", self.hidden_layer_sizes, allowed)
        widths = (
            checks.integer("hidden_layer_sizes", width, 1, 10**5)
            for width in self.hidden_layer_sizes
        )
        self._keep("hidden_layer_sizes", tuple(widths))
        checks.real("learning_rate", self.learning_rate, 0, open_ends="(")
        self._keep("batch_size", checks.integer("batch_size", self.batch_size, 1, 10**9))
        checks.real("weight_decay", self.weight_decay, 0)
        checks.choice("early_stopping", self.early_stopping, get_args(Stopping))
        checks.choice("alarm_action", self.alarm_action, ACTIONS)
        self._keep("margin", checks.real("margin", self.margin, 0, 1, open_ends="()"))
        if self.minimum_score is not None:
            self._keep("minimum_score", checks.real("minimum_score", self.minimum_score, 0, 1))
        for name in ("impute", "ablations", "sensitivity"):
            checks.flag(name, getattr(self, name))

    def _keep(self, name: str, value: Any) -> None:
        """Set a field to its value in plain Python, which can be written as JSON."""
        object.__setattr__(self, name, value)

    @property
    def strategy_names(self) -> tuple[str, ...]:
        """The strategies' names, in the order given."""
        return tuple(name.strip() for name in self.strategies.split(","))


def text(name: str, value: Any) -> str:
    """`value` if it is a string, else InputError."""
    if not isinstance(value, str):
        raise errors.invalid(name, value, "a string")
    return value


def separator(value: Any) -> str | None:
    """The character that separates entries, None where it is to be found; else InputError."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in (*SIGNS, *TABS):
        raise errors.invalid("sep", value, "one sign, such as , or ; or |, or tab")
    return "\t" if value in TABS else value


def decimal_sign(value: Any) -> str:
    """`value` if it is one of the two, else InputError."""
    if not isinstance(value, str) or value not in get_args(Decimal):
        raise errors.invalid("decimal", value, "'.' or ','")
    return value
