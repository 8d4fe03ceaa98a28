"""Every number of a study in one frozen dataclass, checked where it is made."""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, Literal, get_args

import tyro

from ssm.support import checks, errors

Profile = Literal["step", "long_tailed"]
Score = Literal["balanced_log_loss", "macro_average_precision", "balanced_accuracy", "worst_class"]
Stopping = Literal[Score, "none"]
Action = Literal["warn", "stop", "roll_back"]
Decimal = Literal[".", ","]
TABS = ("tab", "\\t", "\t")
"""Ways to write a tab as the separator."""
SIGNS = frozenset(string.punctuation + " ") - set("\"'.+-_")
"""The other characters that may separate the entries of a table."""
SCORES: tuple[Score, ...] = get_args(Score)
ACTIONS: tuple[Action, ...] = get_args(Action)
DEFAULT_STRATEGIES = "erm,inverse,sqrt,effective,drw,adaptive,la,ldam,focal"
DEFAULT_MODELS = "logistic,boosting,forest,network"
NETWORK = "network"
"""The model that is this project's own, to which all strategies apply."""
OWN = "own"
"""The one strategy of a model that balances classes by itself."""
WEIGHTS = ("erm", "inverse", "sqrt", "effective", "clipped")
"""The strategies that are class weights alone, the same at every step, so that any model can be given them."""

SMOTE = "smote"
"""The strategy of made-up samples before a fit, which is for all models but the network."""


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """What a study compares, on which data, and how. Times are in steps, each one update on one
    mini-batch.

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
    clipped, adaptive, la, cdt, vs, ldam, ldam-drw, focal, sampling, sampling-effective, mixup, remix, smote
    (of imbalanced-learn)."""
    folds: int = 5
    """Folds of the stratified cross-validation, at least 2; each class needs as many samples."""
    seeds: int = 3
    """How often the cross-validation is repeated, each time with new splits, networks and
    mini-batches."""
    models: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...")] = DEFAULT_MODELS
    """What the strategies are tried on, between commas, plain ones first: logistic, boosting, forest,
    balanced_forest (of imbalanced-learn), network, or the import path package.module:Class of a
    classifier of scikit-learn's kind that takes sample weights, which is made with its defaults. Strategies
    that act within a network's training, and ablations and sensitivity, are of the network alone; smote is
    of the others."""
    imbalance_ratio: float | None = None
    """Make the data imbalanced: the size of the largest class over that of the smallest, at least 1,
    by one subsample that all seeds share. Left out: all samples are used as they are."""
    profile: Profile = "step"
    """`step`: the smaller half of the classes is cut; `long_tailed`: sizes fall by equal factors."""
    label: str = "label"
    """The column that holds the class. Every different text there is a class of its own."""
    exclude: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...")] = ""
    """Columns to leave out, such as identifiers and free text. A name with a comma in it stands in
    double quotes."""
    impute: bool = False
    """Accept missing features (empty, ?, NA and the like) instead of refusing them. Missing and
    infinite numbers get the median of each training part; missing texts are a category of their own.
    """
    sep: Annotated[str | None, tyro.conf.arg(metavar="CHARACTER")] = None
    """What separates the entries of a table, such as ; or tab. Left out: a tab in a .tsv, in other
    files whatever the header row shows."""
    decimal: Decimal = "."
    """The decimal sign of a table's numbers."""
    num_steps: int | None = None
    """The largest number of training steps. Left out: 1000, or 20 passes over a training part if that
    is more."""
    evaluate_every: int | None = None
    """Steps between two evaluations on held-out samples, by which early stopping and schedules that follow
    performance go. Left out: a twentieth of the steps."""
    hidden_layer_sizes: tuple[int, ...] = (64,)
    """Widths of the hidden layers."""
    learning_rate: float = 0.003
    """Learning rate of Adam."""
    batch_size: int = 128
    """How many samples a mini-batch has."""
    weight_decay: float = 0.0
    """Decoupled weight decay: each step takes learning_rate x weight_decay of the kernels off them."""
    early_stopping: Stopping = "balanced_log_loss"
    """The performance on held-out samples, a fifth of the training part, by which training is ended.
    The latest evaluation that is within noise of the best one says for how many steps a network is
    then trained anew on all samples. `worst_class` is the least recall of any class; `none` trains to
    the end."""
    alarm_action: Action = "warn"
    """What an alarm of a training run does: `warn`, `stop`, or `roll_back` to the best evaluation."""
    margin: float = 0.05
    """The largest loss of balanced accuracy, compared with the baseline, that is acceptable; two
    strategies whose difference is shown to be smaller count as equivalent."""
    minimum_score: float | None = None
    """The least acceptable balanced accuracy, where somebody requires one. Left out: only the loss
    compared with the baseline is judged."""
    cost: Annotated[str | None, tyro.conf.arg(metavar="FILE | CLASS=PRICE,CLASS=PRICE,...")] = None
    """What decisions cost, in any one unit: a CSV file with a row for each true class and a column for each
    decision, or the price of getting each class wrong. Candidates are then compared by the expected cost of 1000
    cases. Left out: by balanced errors."""
    alarm_budget: float | None = None
    """The share of all cases that may be alarms, in (0, 1): recall at this budget is reported, and without costs
    candidates are compared by it."""
    alarm_class: str | None = None
    """The class that alarms are for. Left out: the rarer of two."""
    ablations: bool = True
    """Also train the variants that switch weights, schedule, clip and margin on and off, and train on to the
    end where the study stops early."""
    sensitivity: bool = True
    """Also train with scaled weights, and on fewer samples."""

    def __post_init__(self) -> None:
        for name in ("data", "strategies", "models", "label", "exclude"):
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
        if self.evaluate_every is not None:
            every = checks.integer("evaluate_every", self.evaluate_every, 1, 10**6)
            self._keep("evaluate_every", every)
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
        for name in ("cost", "alarm_class"):
            if getattr(self, name) is not None:
                text(name, getattr(self, name))
        if self.alarm_budget is not None:
            budget = checks.real("alarm_budget", self.alarm_budget, 0, 1, open_ends="()")
            self._keep("alarm_budget", budget)
        for name in ("impute", "ablations", "sensitivity"):
            checks.flag(name, getattr(self, name))

    def _keep(self, name: str, value: object) -> None:
        """Set a field to its checked value, which is plain Python and can be written as JSON."""
        object.__setattr__(self, name, value)

    @property
    def strategy_names(self) -> tuple[str, ...]:
        """The strategies' names, in the order given."""
        return tuple(name.strip() for name in self.strategies.split(","))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models' names, in the order given."""
        return tuple(name.strip() for name in self.models.split(","))


def text(name: str, value: object) -> str:
    """`value` if it is a string; raises InputError if not."""
    if not isinstance(value, str):
        raise errors.invalid(name, value, "a string")
    return value


def separator(value: object) -> str | None:
    """The character that separates entries, None where the header is to show it; raises InputError for
    anything else."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in (*SIGNS, *TABS):
        raise errors.invalid("sep", value, "one sign, such as , or ; or |, or tab")
    return "\t" if value in TABS else value


def decimal_sign(value: object) -> str:
    """`value` if it is `.` or `,`; raises InputError if not."""
    if not isinstance(value, str) or value not in get_args(Decimal):
        raise errors.invalid("decimal", value, "'.' or ','")
    return value
