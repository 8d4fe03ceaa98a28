"""Every number of a run in one frozen dataclass, checked where it is made."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

from ssm import checks, profiles

Profile = Literal["step", "long_tailed", "custom"]
Loss = Literal["cross_entropy", "squared"]
Init = Literal["gaussian", "balanced", "spectral", "collapsed"]
Spacing = Literal["linear", "log"]
Clock = Literal["time", "loss"]
Solver = Literal["tsit5", "dopri5", "rkl2"]
DType = Literal["float64", "float32"]

LARGEST_COUNT = 2**53  # beyond it a count is no longer exact as a float64
LARGEST_STATE = 2**31  # numbers in W and H together: 16 GiB in float64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All that defines one run of the small-scale model.

    The model is the unconstrained-features model: logits Z = W H with a classifier W (k x d) and
    one free feature column a sample in H (d x n), trained by gradient flow on L = (1/n) sum_i
    w_{y_i} l(z_i, y_i), and its penalties where there are any. Flow time is the number of gradient-descent steps times the learning rate,
    in the limit of small steps. Each field is a flag of `ssm run`, and `ssm run --help` describes
    them all.

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
    """Loss of one sample: `cross_entropy`, or `squared`, half the squared distance to the
    simplex-encoded label."""
    weight_exponent: float = 0.0
    """g in w_c ~ n_c^-g, scaled to unit mean over samples: 0 is ERM, 1 inverse frequency; in [-10,
    10]."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class, in [1e-50, 1e50], used exactly as given instead of
    `weight_exponent`."""
    coupling: float = 0.0
    """c in [0, 1], how far training one sample moves the features of its class: 0 free features, 1
    shared (class means)."""
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
    t1: float | None = None
    """Length of the run by its clock. Left out: chosen from theory so that, from a small start, the
    contrasts of every class are learned (under cross-entropy the contrast between majorities and
    minorities may take longer); with decay, until that has settled; by the loss, about until
    `stop_margin`, or a margin of 1000, is reached."""
    stop_margin: float | None = None
    """End the run where every sample's margin, its own logit over the next, has reached this
    (cross-entropy); later times then hold NaN. Left out: it goes on to t1."""
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
    with as many stages as a stiff problem asks for. Left out: `tsit5` by time, `rkl2` by the loss."""
    rtol: float = 1e-6
    """Relative tolerance of one step, in (0, 0.1]."""
    atol: float | None = None
    """Absolute tolerance of one step, in the units of W and H. Left out: `init_scale` x `rtol`;
    larger ones lose small starts."""
    max_steps: int = 100_000
    """Steps after which the run is given up; its result says so."""
    seed: int = 0
    """Seed of the start."""
    dtype: DType = "float64"
    """Floating-point type of the whole run."""

    def __new__(cls, *args: Any, **values: Any) -> Config:
        if args:
            raise checks.refuse("Config", args[0], "given by the names of its fields")
        unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise checks.refuse(
                unknown[0],
                values[unknown[0]],
                "one of the fields " + ", ".join(f.name for f in dataclasses.fields(cls)),
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field, value in self._checked().items():
            object.__setattr__(self, field, value)

    def _checked(self) -> dict[str, Any]:
        """Every field in its own Python type, or InputError."""
        out: dict[str, Any] = {
            "profile": checks.choice("profile", self.profile, get_args(Profile)),
            "loss": checks.choice("loss", self.loss, get_args(Loss)),
            "init": checks.choice("init", self.init, get_args(Init)),
            "save_spacing": checks.choice("save_spacing", self.save_spacing, get_args(Spacing)),
            "clock": checks.choice("clock", self.clock, get_args(Clock)),
            "dtype": checks.choice("dtype", self.dtype, get_args(DType)),
            "save_state": checks.flag("save_state", self.save_state),
            "geometry": checks.flag("geometry", self.geometry),
            "depth": checks.integer("depth", self.depth, 1, 100),
            "weight_decay": checks.real("weight_decay", self.weight_decay, 0, 1e50),
            "feature_decay": checks.real("feature_decay", self.feature_decay, 0, 1e50),
            "imbalance_ratio": checks.real("imbalance_ratio", self.imbalance_ratio, 1),
            "minority_fraction": checks.real(
                "minority_fraction", self.minority_fraction, 0, 1, open_ends="()"
            ),
            "minority_count": checks.integer(
                "minority_count", self.minority_count, 1, LARGEST_COUNT
            ),
            "weight_exponent": checks.real("weight_exponent", self.weight_exponent, -10, 10),
            "coupling": checks.real("coupling", self.coupling, 0, 1),
            "feature_dim": checks.integer("feature_dim", self.feature_dim, 1, LARGEST_STATE),
            "init_scale": checks.real(
                "init_scale",
                self.init_scale,
                *((1e-18, 1e18) if self.dtype == "float32" else (1e-70, 1e70)),
            ),
            "num_saves": checks.integer(
                "num_saves", self.num_saves, 3 if self.save_spacing == "log" else 2, 1_000_000
            ),
            "rtol": checks.real("rtol", self.rtol, 0, 0.1, open_ends="("),
            "max_steps": checks.integer("max_steps", self.max_steps, 1, 2**31 - 1),
            "seed": checks.integer("seed", self.seed, 0, 2**31 - 1),
        }
        if self.atol is not None:
            out["atol"] = checks.real("atol", self.atol, 0)
        if self.t1 is not None:
            out["t1"] = checks.real("t1", self.t1, 0, open_ends="(")
        if self.stop_margin is not None:
            out["stop_margin"] = checks.real("stop_margin", self.stop_margin, 0, open_ends="(")
        if self.solver is not None:
            out["solver"] = checks.choice("solver", self.solver, get_args(Solver))
        out |= self._checked_classes(out)
        self._check_together(out)
        columns, num_columns = _feature_columns(out)
        hidden = max(out["depth"] - 2, 0) * out["feature_dim"] ** 2
        size = (out["num_classes"] + num_columns) * out["feature_dim"] + hidden
        if max(size, out["num_classes"] * num_columns) > LARGEST_STATE:
            raise checks.refuse(
                "feature_dim",
                out["feature_dim"],
                f"small enough, and so the classes and their counts, that all layers, here with {num_columns} feature columns, "
                f"and the logits hold at most {LARGEST_STATE} numbers (the squared loss, coupling=1 and "
                "init=collapsed need only some columns a class)",
            )
        if columns == "coordinates":  # which are kept as the samples they stand for
            size = (out["num_classes"] + sum(_class_counts(out))) * out["feature_dim"] + hidden
        if out["save_state"] and size * out["num_saves"] > LARGEST_STATE:
            raise checks.refuse(
                "save_state",
                True,
                f"False unless num_saves times the {size} numbers of all layers is at most {LARGEST_STATE}",
            )
        return out

    def _check_together(self, known: dict[str, Any]) -> None:
        """What single fields allow and their combination does not."""
        squared, k = known["loss"] == "squared", known["num_classes"]
        if known["clock"] == "loss" and (squared or self.decays):
            what = "time under the squared loss" if squared else "time with weight or feature decay"
            raise checks.refuse("clock", "loss", f"{what}: the loss has to fall to 0 by itself")
        if "stop_margin" in known and squared:
            raise checks.refuse(
                "stop_margin", self.stop_margin, "left out unless loss=cross_entropy"
            )
        if known["geometry"] and known["depth"] != 2:
            raise checks.refuse("geometry", True, f"False unless depth is 2, not {known['depth']}")
        if known["depth"] == 1:
            if known["feature_dim"] != k:
                raise checks.refuse(
                    "feature_dim",
                    known["feature_dim"],
                    f"num_classes, {k}, at depth=1, where the features are the logits",
                )
            if known["weight_decay"] > 0:
                raise checks.refuse(
                    "weight_decay",
                    known["weight_decay"],
                    "0 at depth=1, which has no classifier to decay",
                )
            if known["init"] == "balanced":
                raise checks.refuse(
                    "init",
                    "balanced",
                    "another start at depth=1, which has no second layer to balance",
                )

    def _checked_classes(self, known: dict[str, Any]) -> dict[str, Any]:
        """The fields that speak of single classes, which have to agree on how many there are."""
        out: dict[str, Any] = {}
        if known["profile"] == "custom":
            what = f"at least two integers in [1, {LARGEST_COUNT}] when profile='custom'"
            counts = checks.items("counts", self.counts, what)
            if len(counts) < 2:
                raise checks.refuse("counts", self.counts, what)
            out["counts"] = tuple(
                checks.integer(f"counts[{i}]", n, 1, LARGEST_COUNT) for i, n in enumerate(counts)
            )
        elif self.counts is not None:
            raise checks.refuse("counts", self.counts, "left out unless profile='custom'")

        num_counts = len(out["counts"]) if "counts" in out else None
        out["num_classes"] = checks.integer("num_classes", self.num_classes, 2, 10_000)
        if num_counts is not None:
            if out["num_classes"] not in (num_counts, Config.num_classes):
                raise checks.refuse(
                    "num_classes", self.num_classes, f"the number of counts, {num_counts}"
                )
            out["num_classes"] = checks.integer("number of counts", num_counts, 2, 10_000)
        num_classes = out["num_classes"]

        if known["profile"] == "step":
            num_minority = profiles.num_minority_classes(num_classes, known["minority_fraction"])
            if not 1 <= num_minority < num_classes:
                raise checks.refuse(
                    "minority_fraction",
                    self.minority_fraction,
                    f"such that round(minority_fraction * {num_classes}) is in [1, {num_classes - 1}], "
                    f"not {num_minority}",
                )
        if (
            known["profile"] != "custom"
            and known["imbalance_ratio"] * known["minority_count"] > LARGEST_COUNT
        ):
            raise checks.refuse(
                "imbalance_ratio",
                self.imbalance_ratio,
                f"at most {LARGEST_COUNT} / minority_count",
            )

        if self.class_weights is not None:
            what = f"{num_classes} positive numbers, one a class"
            weights = checks.items("class_weights", self.class_weights, what)
            if len(weights) != num_classes:
                raise checks.refuse("class_weights", self.class_weights, what)
            out["class_weights"] = tuple(
                checks.real(f"class_weights[{i}]", w, 1e-50, 1e50) for i, w in enumerate(weights)
            )
            if known["weight_exponent"] != 0:
                raise checks.refuse(
                    "weight_exponent", self.weight_exponent, "0 when class_weights are given"
                )
        return out

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Samples n_c of each class, largest first for `step` and `long_tailed`."""
        return _class_counts(vars(self))

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
    def columns(self) -> Literal["samples", "classes", "coordinates"]:
        """What the feature columns of the run stand for: whole `classes` where all features of a
        class stay equal, else `coordinates` of each class (squared loss), else `samples`."""
        return _feature_columns(vars(self))[0]

    @property
    def num_columns(self) -> int:
        """Number of feature columns m."""
        return _feature_columns(vars(self))[1]

    @property
    def chosen_solver(self) -> Solver:
        """`solver`, or the one for the run's clock where it is left out."""
        return self.solver or ("rkl2" if self.clock == "loss" else "tsit5")

    @property
    def keeps_margin(self) -> bool:
        """Whether margins and the logarithm of the loss are observed."""
        terminal = self.clock == "loss" or self.stop_margin is not None or self.geometry
        return terminal and self.loss == "cross_entropy"

    @property
    def decays(self) -> bool:
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
            raise checks.refuse("config", text, "a JSON object of Config fields")
        return cls(**fields)


_parameters = inspect.signature(Config.__init__).parameters
# __new__ takes anything, to name what it does not know; help() should show the fields
Config.__signature__ = inspect.Signature(list(_parameters.values())[1:])  # type: ignore[attr-defined]


def _class_counts(fields: Mapping[str, Any]) -> tuple[int, ...]:
    """Samples of each class under checked Config fields."""
    if fields["profile"] == "custom":
        return fields["counts"]
    shape = fields["num_classes"], fields["imbalance_ratio"]
    if fields["profile"] == "step":
        return profiles.step_counts(*shape, fields["minority_fraction"], fields["minority_count"])
    return profiles.long_tailed_counts(*shape, fields["minority_count"])


def _feature_columns(
    fields: Mapping[str, Any],
) -> tuple[Literal["samples", "classes", "coordinates"], int]:
    """What feature columns stand for under checked Config fields, and how many there are."""
    num_classes = fields["num_classes"]
    if fields["coupling"] == 1 or fields["init"] in ("spectral", "collapsed"):
        return "classes", num_classes
    if fields["loss"] == "squared":
        # the rows of a balanced start are combinations of k rows, those of a Gaussian one are d
        rows = num_classes if fields["init"] == "balanced" else fields["feature_dim"]
        return "coordinates", num_classes * (rows + 1)
    return "samples", sum(_class_counts(fields))
