"""Every number of a run in one frozen dataclass, checked where it is made."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import json
import textwrap
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ssm.config import profiles, validation
from ssm.config.choices import (
    MARGIN_LOSSES,
    NEUTRAL,
    Clock,
    DType,
    Init,
    Loss,
    NamedWeights,
    Optimizer,
    Profile,
    RateSchedule,
    Reduction,
    Solver,
    Spacing,
)
from ssm.support import errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All that defines one run of the small-scale model.

    The model is the unconstrained-features model: logits Z = W H with a classifier W (k x d) and
    one free feature column a sample in H (d x n), trained on L = (1/n) sum_i w_{y_i} l(z_i, y_i)
    and its penalties where there are any, by gradient flow or by the steps of an optimiser. Flow
    time is the number of gradient-descent steps times the learning rate, in the limit of small
    steps. Each field is a flag of `ssm run`, and `ssm run --help` describes them all.

    Raises:
        ssm.InputError (a ValueError): an unknown field, or a value that is not allowed; one line
            with the field, the value and what is allowed.
    """

    profile: Profile = "step"
    """How samples are spread over classes: `step` (two sizes of class), `long_tailed`
    (exponential), `custom` (`counts`)."""
    num_classes: int = 10
    """Number of classes k, at least 2. With `counts` it is their number; left at its default, it
    becomes that."""
    imbalance_ratio: float = 10.0
    """R, samples of the largest class over samples of the smallest, at least 1 (`step` and
    `long_tailed`)."""
    minority_fraction: float = 0.5
    """rho, the fraction of classes that are minorities, in (0, 1): round(rho k) classes, at least
    one, not all (`step`)."""
    minority_count: int = 5
    """Samples of the smallest class (`step` and `long_tailed`); the largest has round(R *
    minority_count)."""
    counts: tuple[int, ...] | None = None
    """Samples of each class, for `custom` only."""
    loss: Loss = "cross_entropy"
    """Loss of one sample: `cross_entropy`; `squared`, half the squared distance to the
    simplex-encoded label; or cross-entropy of adjusted logits, `logit_adjustment`, `cdt`, `vs`,
    `ldam` and `focal`, which name published values of the next fields. Those may be set for any loss
    but `squared`, together too: with p = softmax of s (n_c / n_max)^g z_c + tau log(n_c / n) - [c =
    y] s D_c, l = (1 - p_y)^gamma times cross-entropy."""
    additive_adjustment: float | None = None
    """tau, of the logarithm of the class's share of the samples that is added to its logit, in
    [-100, 100]. Left out: 1 for `logit_adjustment` (balanced softmax) and `vs`, else 0."""
    multiplicative_adjustment: float | None = None
    """g of the factor (n_c / n_max)^g of a class's logit, in [-10, 10]. Left out: 0.3 for `cdt` and
    `vs`, else 0."""
    largest_margin: float | None = None
    """The largest of D_c ~ n_c^(-1/4), taken off a sample's own logit, in [0, 1e6]. Left out: 0.5
    for `ldam`, else 0."""
    logit_scale: float | None = None
    """s, a factor of all logits (and so of the early growth rates), in (0, 1e6]. Left out: 30 for
    `ldam`, else 1."""
    focusing: float | None = None
    """gamma of the focal factor (1 - p_y)^gamma, in [0, 100]; class weights stay outside of it. Left
    out: 2 for `focal`, else 0."""
    label_smoothing: float = 0.0
    """Share of a label that is spread evenly over all classes, in [0, 1)."""
    weight_exponent: float = 0.0
    """g in w_c ~ n_c^-g, scaled to unit mean over samples: 0 is ERM, 1 inverse frequency; in [-10,
    10]. Which one balances depends on the coupling."""
    effective_number_beta: float | None = None
    """b in w_c ~ (1 - b) / (1 - b^n_c) instead of the power law, scaled alike (class-balanced loss);
    in [0, 1): 0 is ERM, towards 1 inverse frequency."""
    class_weights: tuple[float, ...] | NamedWeights | None = None
    """Weight of each class, in [1e-50, 1e50], used exactly as given instead of `weight_exponent`; or
    `balanced` (inverse frequency), `sqrt`, `effective` (effective number, b = (n - 1) / n)."""
    weight_start: float | None = None
    """Time (step) from which on the weights act, where there are any, ERM before it: deferred
    reweighting (DRW). One beyond the run is ERM. Left out: they act from the start."""
    weight_ramp: float = 0.0
    """Time (steps) from `weight_start` over which the weighted risk takes the place of ERM's, evenly;
    0 is a switch."""
    reduction: Reduction = "mean"
    """What samples' weighted losses are summed to: their `mean`, over n, or `weighted_mean`, over
    the sum of their weights, which then have unit mean over samples (of each mini-batch)."""
    coupling: float = 0.0
    """c in [0, 1], how far training one sample moves the features of its class: 0 free features, 1
    shared (class means). Networks lie between. At 0 inverse square-root weights balance, and inverse
    frequency reverses the order, minorities first; at 1 inverse frequency balances."""
    feature_dim: int = 16
    """Width d of the features. Below k - 1 the labels cannot be interpolated, which is allowed and
    reported."""
    depth: int = 2
    """Number of layers L, features included: 2 is Z = W H; beyond it d x d layers stand between; at
    1 the features are the logits, Z = H, and feature_dim is num_classes."""
    init: Init = "gaussian"
    """Start: `gaussian` entries, `balanced` (the conserved matrix is zero), `spectral` (every
    component alike), or `collapsed` (Gaussian, all features of a class equal)."""
    init_scale: float = 1e-3
    """Size of the start: standard deviation of the entries of W and H; a spectral start has product
    strength scale^depth. In [1e-70, 1e70], for float32 [1e-18, 1e18], so that its square can be
    told from 0 and infinity."""
    weight_decay: float = 0.0
    """lam_W >= 0: the penalty (lam_W / 2) |W|^2 on the classifier and each hidden layer."""
    feature_decay: float = 0.0
    """lam_H >= 0: the penalty (lam_H / 2) |H|^2 on the features (coupled ones: tr(H K^-1 H^T))."""
    clock: Clock = "time"
    """What times are: flow `time` t, or tau with d tau = L dt, driven by the `loss` (cross-entropy
    without decay): gradient flow of log L, which reaches the terminal phase."""
    optimizer: Optimizer = "flow"
    """Gradient `flow`, or steps, the run's time: `gd`, with `momentum` or `nesterov`'s,
    `normalised_gd` (of unit norm), `sign`, `adam`, `adamw` (decay apart from the gradient), `sam`,
    `muon` (optax's, whose momentum is corrected for its start, unlike the published one's), or
    `spectral_gd`, along U V^T of each layer's gradient."""
    learning_rate: float | None = None
    """Of an optimiser, > 0. Left out: a tenth of an e-fold of the fastest contrast a step for `gd`
    and `sam`, the same in the long run with momentum, else 0.01."""
    learning_rate_schedule: RateSchedule = "constant"
    """`constant`; `cosine`, falling to 0 at the last step; or `step`, times `drop_factor` from
    `drop_step` on."""
    drop_step: int | None = None
    """Step at which the learning rate drops, for `step`."""
    drop_factor: float = 0.1
    """What it drops by, in [0, 1]."""
    num_steps: int | None = None
    """Steps of an optimiser, at least num_saves - 1, at most ten million. Left out: as many as
    gradient descent takes in the length chosen from theory, its schedule counted in, and 1000 for an
    optimiser whose steps do not follow the gradient's size."""
    batch_size: int | None = None
    """Samples of a step of an optimiser, drawn anew each time with replacement. Left out: all, each
    once."""
    momentum: float | None = None
    """Of `momentum` and `nesterov`, in [0, 1). Left out: 0.9."""
    sam_radius: float | None = None
    """How far `sam` climbs before it takes the gradient, > 0. Left out: `init_scale`; a start whose
    growing part is shorter than the radius falls back to 0."""
    t1: float | None = None
    """Length of a flow by its clock. Left out: chosen from theory so that, from a small start, the
    contrasts of every class are learned (under cross-entropy the contrast between majorities and
    minorities may take longer); with decay, until that has settled; by the loss, about what
    `stop_margin`, or a margin of 1000, takes."""
    stop_margin: float | None = None
    """End the run where every sample's margin, its own logit over the next as its loss sees them,
    has reached this (cross-entropy); later times then hold NaN. Left out: it goes on to t1; by the
    loss, where that is left out too, to a margin of 1000."""
    num_saves: int = 200
    """Number of times at which the run is observed, both ends included."""
    save_spacing: Spacing = "linear"
    """Spacing of those times: `linear`, or `log` (0, then four decades up to t1)."""
    save_state: bool = False
    """Keep W and H at every observed time too, and the hidden layers."""
    geometry: bool = False
    """Observe the geometry too: neural collapse NC1 to NC4, and the distance to SELI and to the
    simplex ETF (depth 2)."""
    solver: Solver | None = None
    """Runge-Kutta method with error control: `tsit5` or `dopri5` of order 5, or `rkl2` of order 2
    with as many stages as a stiff problem asks for. Left out: `tsit5`, by the loss until stability
    holds it back and `rkl2` from there on, at a tighter tolerance."""
    rtol: float = 1e-6
    """Relative tolerance of one step, in (0, 0.1]."""
    atol: float | None = None
    """Absolute tolerance of one step, in the units of W and H. Left out: `init_scale` x `rtol`;
    larger ones lose small starts."""
    max_steps: int = 100_000
    """Steps after which the run is given up; its result says so."""
    seed: int = 0
    """Seed of the start, and of mini-batches."""
    dtype: DType = "float64"
    """Floating-point type of the whole run."""

    def __new__(cls, *args: Any, **values: Any) -> Config:
        if args:
            raise errors.invalid("Config", args[0], "given by the names of its fields")
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(values.keys() - set(names))
        if unknown:
            name = unknown[0]
            hint = errors.nearest(name, names, "see help(ssm.Config)")
            raise errors.invalid(name, values[name], f"a field of Config; {hint}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field, value in validation.checked(vars(self)).items():
            object.__setattr__(self, field, value)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Samples n_c of each class, largest first for `step` and `long_tailed`."""
        return validation.class_counts(vars(self))

    @property
    def class_groups(self) -> tuple[str, ...]:
        """`majority` or `minority` for each class: by position for `step` (R = 1 too), else by
        count."""
        counts = self.class_counts
        if self.profile != "step":
            return profiles.class_groups(counts)
        num_minority = profiles.num_minority_classes(len(counts), self.minority_fraction)
        return (profiles.MAJORITY,) * (len(counts) - num_minority) + (
            profiles.MINORITY,
        ) * num_minority

    @property
    def column_kind(self) -> Literal["samples", "classes", "coordinates"]:
        """What the feature columns of the run stand for: whole `classes` where all features of a
        class stay equal, else `coordinates` of each class (squared loss), else `samples`."""
        return validation.feature_columns(vars(self))[0]

    @property
    def num_columns(self) -> int:
        """Number of feature columns m."""
        return validation.feature_columns(vars(self))[1]

    @property
    def has_adjustment(self) -> bool:
        """Whether the loss is cross-entropy of adjusted logits."""
        named = any(
            getattr(self, name) is not None for name in NEUTRAL if name != "label_smoothing"
        )
        return named or self.loss in MARGIN_LOSSES or self.label_smoothing > 0

    @property
    def has_only_smoothing(self) -> bool:
        """Whether nothing but `label_smoothing` adjusts the loss."""
        return self.adjustments == NEUTRAL | {"label_smoothing": self.label_smoothing}

    @property
    def adjustments(self) -> dict[str, float]:
        """The numbers of that adjustment, those left out filled in by the loss."""
        given = {name: getattr(self, name) for name in NEUTRAL}
        given = {name: value for name, value in given.items() if value is not None}
        return NEUTRAL | MARGIN_LOSSES.get(self.loss, {}) | given

    @property
    def has_deferral(self) -> bool:
        """Whether weights act later than from the start on."""
        return self.weight_start is not None and self.weight_start + self.weight_ramp > 0

    @property
    def is_descent(self) -> bool:
        """Whether the run is one of an optimiser's steps, not a flow."""
        return self.optimizer != "flow"

    @property
    def chosen_solver(self) -> str:
        """`solver`, or the one for the run's clock where it is left out: by the loss it is
        `switching`, `tsit5` and from where that is held back `rkl2`."""
        return self.solver or ("switching" if self.clock == "loss" else "tsit5")

    @property
    def end_margin(self) -> float | None:
        """The margin that ends the run: `stop_margin`, or 1000 where a run by the loss is given no
        end; None where none does."""
        if self.stop_margin is None and self.clock == "loss" and self.t1 is None:
            return 1000.0
        return self.stop_margin

    @property
    def observes_margin(self) -> bool:
        """Whether margins and the logarithm of the loss are observed."""
        terminal = self.clock == "loss" or self.stop_margin is not None or self.geometry
        return terminal and self.loss != "squared"

    @property
    def has_decay(self) -> bool:
        """Whether anything is penalised."""
        return self.weight_decay > 0 or self.feature_decay > 0

    @property
    def absolute_tolerance(self) -> float:
        """`atol`, or init_scale x rtol where it is left out."""
        return self.init_scale * self.rtol if self.atol is None else self.atol

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


def field_names() -> tuple[str, ...]:
    """The names of all fields, in order."""
    return tuple(field.name for field in dataclasses.fields(Config))


def check_config(name: str, value: Any) -> Config:
    """`value` if it is a Config; raises InputError for anything else."""
    if isinstance(value, Config):
        return value
    mapping = isinstance(value, Mapping)
    allowed = "a Config: ssm.Config(**fields) makes one of a mapping" if mapping else "a Config"
    raise errors.invalid(name, value, allowed)


class _Words:
    """The docstring of Config, which is put together when it is asked for: its own, and those that
    stand below its fields in the source."""

    def __init__(self, own: str):
        self.own = inspect.cleandoc(own)

    def __get__(self, config: Config | None, owner: type) -> str:
        return self.whole

    @functools.cached_property
    def whole(self) -> str:
        try:
            (tree,) = ast.parse(inspect.getsource(Config)).body
        except (OSError, SyntaxError):  # there is no source
            return self.own
        assert isinstance(tree, ast.ClassDef)
        kinds, words = get_type_hints(Config), {}
        for line, below in itertools.pairwise(tree.body):
            if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr):
                words[ast.unparse(line.target)] = ast.literal_eval(below.value)
        rows = [
            f"    {field.name} ({_kind(kinds[field.name])}, default {field.default!r}):\n"
            + textwrap.indent(inspect.cleandoc(words[field.name]), " " * 8)
            for field in dataclasses.fields(Config)
        ]
        return "\n".join([self.own, "\nAttributes:", *rows])


def _kind(hint: Any) -> str:
    """A type as it would be written, choices in full."""
    if get_origin(hint) is Literal:
        return " | ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(map(_kind, get_args(hint)))
    if get_args(hint):
        return str(hint)
    return "None" if hint is type(None) else hint.__name__


Config.__doc__ = _Words(Config.__doc__ or "")  # type: ignore[assignment]
_parameters = inspect.signature(Config.__init__).parameters
# __new__ takes anything, to name what it does not know; help() should show the fields
Config.__signature__ = inspect.Signature(list(_parameters.values())[1:])  # type: ignore[attr-defined]
