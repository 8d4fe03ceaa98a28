"""Every number of a study in one frozen dataclass, checked where it is made."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal, get_args

import tyro

from ssm import checks

Profile = Literal["step", "long_tailed"]
Score = Literal["balanced_accuracy", "worst_class"]
Stopping = Literal["balanced_accuracy", "worst_class", "none"]
Action = Literal["warn", "stop", "roll_back"]
SCORES, ACTIONS = get_args(Score), get_args(Action)
DEFAULT_STRATEGIES = "erm,inverse,sqrt,effective,drw,adaptive,la,ldam,focal"


@dataclasses.dataclass(frozen=True)
class Study:
    """What is studied, and how. Times are in steps, one update on one mini-batch.

    Raises:
        ssm.InputError (a ValueError): a value that is not allowed; one line with the field, the
            value and what is allowed.
    """

    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
    """`digits`, `breast_cancer`, `wine`, or a CSV file (a header row; numbers except for the label)
    or NPZ file (arrays `features` and `labels`)."""
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
    """The CSV column that holds the class."""
    impute: bool = False
    """Fill missing and infinite features with the median of each training part, in place of
    refusing them."""
    num_steps: int = 1000
    """Steps of training, at most."""
    hidden_layer_sizes: tuple[int, ...] = (64,)
    """Widths of the hidden layers."""
    learning_rate: float = 0.003
    """Of Adam."""
    batch_size: int = 128
    """Samples of a mini-batch."""
    weight_decay: float = 0.0
    """Share of the kernels lost a step, times the learning rate."""
    early_stopping: Stopping = "balanced_accuracy"
    """Performance on held-out samples (a fifth of the training part) whose best evaluation is kept;
    `none`: train to the end."""
    alarm_action: Action = "warn"
    """What an alarm does: `warn`, `stop`, or `roll_back` to the best evaluation."""
    minimum_accuracy: float | None = None
    """Least acceptable accuracy. Left out: the baseline's less 0.05."""
    ablations: bool = True
    """Also train what it takes to switch weights, schedule, clip and margin on and off."""
    sensitivity: bool = True
    """Also train with scaled weights, and on fewer samples."""

    def __post_init__(self) -> None:
        checks.integer("folds", self.folds, 2, 1000)
        checks.integer("seeds", self.seeds, 1, 1000)
        if self.imbalance_ratio is not None:
            checks.real("imbalance_ratio", self.imbalance_ratio, 1)
        checks.choice("profile", self.profile, get_args(Profile))
        checks.integer("num_steps", self.num_steps, 1, 10**7)
        for width in self.hidden_layer_sizes:
            checks.integer("hidden_layer_sizes", width, 1, 10**5)
        checks.real("learning_rate", self.learning_rate, 0, open_ends="(")
        checks.integer("batch_size", self.batch_size, 1, 10**9)
        checks.real("weight_decay", self.weight_decay, 0)
        checks.choice("early_stopping", self.early_stopping, get_args(Stopping))
        checks.choice("alarm_action", self.alarm_action, ACTIONS)
        if self.minimum_accuracy is not None:
            checks.real("minimum_accuracy", self.minimum_accuracy, 0, 1)

    @property
    def strategy_names(self) -> tuple[str, ...]:
        """The strategies' names, in the order given."""
        return tuple(name.strip() for name in self.strategies.split(","))

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations: twenty of them, at most one a step."""
        return math.ceil(self.num_steps / 20)
