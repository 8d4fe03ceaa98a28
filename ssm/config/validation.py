"""The checks of a Config's fields, one by one and together, on the mapping of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from ssm.config import profiles
from ssm.config.choices import (
    LINEAR,
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
from ssm.support import checks, errors

LARGEST_COUNT = 2**53  # beyond it a count is no longer exact as a float64
LARGEST_STATE = 2**31  # numbers in W and H together: 16 GiB in float64
DEFAULT_NUM_CLASSES = 10
MOST_STEPS = 10_000_000  # whose learning rates are kept, one each

_CHOICES = {
    "profile": Profile,
    "loss": Loss,
    "reduction": Reduction,
    "init": Init,
    "save_spacing": Spacing,
    "clock": Clock,
    "optimizer": Optimizer,
    "learning_rate_schedule": RateSchedule,
    "dtype": DType,
}
_FLAGS = ("save_state", "geometry")
_INTEGERS = {
    "depth": (1, 100),
    "minority_count": (1, LARGEST_COUNT),
    "feature_dim": (1, LARGEST_STATE),
    "max_steps": (1, 2**31 - 1),
    "seed": (0, 2**31 - 1),
}
LOSS_NUMBERS: dict[str, tuple[float, float, str]] = {
    "additive_adjustment": (-100, 100, ""),
    "multiplicative_adjustment": (-10, 10, ""),
    "largest_margin": (0, 1e6, ""),
    "logit_scale": (0, 1e6, "("),
    "focusing": (0, 100, ""),
    "label_smoothing": (0, 1, ")"),
}
_REALS = {
    "label_smoothing": LOSS_NUMBERS["label_smoothing"],
    "weight_decay": (0, 1e50, ""),
    "feature_decay": (0, 1e50, ""),
    "imbalance_ratio": (1, float("inf"), ""),
    "minority_fraction": (0, 1, "()"),
    "weight_exponent": (-10, 10, ""),
    "weight_ramp": (0, 1e300, ""),
    "drop_factor": (0, 1, ""),
    "coupling": (0, 1, ""),
    "rtol": (0, 0.1, "("),
}
# fields that may be left out, None
_OPTIONAL_INTEGERS = {
    "num_steps": (1, MOST_STEPS),
    "batch_size": (1, 1_000_000),
    "drop_step": (0, 2**53),
}
_OPTIONAL_REALS = {
    **{name: ends for name, ends in LOSS_NUMBERS.items() if name != "label_smoothing"},
    "effective_number_beta": (0, 1, ")"),
    "weight_start": (0, 1e300, ""),
    "learning_rate": (0, 1e50, "("),
    "momentum": (0, 1, ")"),
    "sam_radius": (0, 1e50, "("),
    "atol": (0, float("inf"), ""),
    "t1": (0, float("inf"), "("),
    "stop_margin": (0, float("inf"), "("),
}
# fields that say something of a flow only, or of an optimiser's steps only, and their defaults
_OF_A_FLOW = {
    "t1": None,
    "stop_margin": None,
    "solver": None,
    "rtol": 1e-6,
    "atol": None,
    "max_steps": 100_000,
}
_OF_STEPS = {
    "learning_rate": None,
    "learning_rate_schedule": "constant",
    "num_steps": None,
    "batch_size": None,
}


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Every field in its own Python type, or InputError."""
    out: dict[str, Any] = {}
    for name, kind in _CHOICES.items():
        out[name] = checks.choice(name, fields[name], get_args(kind))
    for name in _FLAGS:
        out[name] = checks.flag(name, fields[name])
    for name, bounds in _INTEGERS.items():
        out[name] = checks.integer(name, fields[name], *bounds)
    for name, (low, high, ends) in _REALS.items():
        out[name] = checks.real(name, fields[name], low, high, open_ends=ends)
    scales = (1e-18, 1e18) if out["dtype"] == "float32" else (1e-70, 1e70)
    out["init_scale"] = checks.real("init_scale", fields["init_scale"], *scales)
    fewest = 3 if out["save_spacing"] == "log" else 2
    out["num_saves"] = checks.integer("num_saves", fields["num_saves"], fewest, 1_000_000)
    for name, bounds in _OPTIONAL_INTEGERS.items():
        value = fields[name]
        out[name] = None if value is None else checks.integer(name, value, *bounds)
    for name, (low, high, ends) in _OPTIONAL_REALS.items():
        value = fields[name]
        out[name] = None if value is None else checks.real(name, value, low, high, open_ends=ends)
    out["solver"] = fields["solver"]
    if out["solver"] is not None:
        out["solver"] = checks.choice("solver", out["solver"], get_args(Solver))
    out |= _checked_classes(fields, out)
    for check in (_check_loss, _check_weights, _check_depth, _check_optimizer, _check_sizes):
        check(out)
    return out


def class_counts(fields: Mapping[str, Any]) -> tuple[int, ...]:
    """Samples of each class under checked Config fields."""
    if fields["profile"] == "custom":
        return fields["counts"]
    shape = fields["num_classes"], fields["imbalance_ratio"]
    if fields["profile"] == "step":
        return profiles.step_counts(*shape, fields["minority_fraction"], fields["minority_count"])
    return profiles.long_tailed_counts(*shape, fields["minority_count"])


FEWEST_COORDINATES = 32  # of a class, where its features have as many dimensions


def feature_columns(
    fields: Mapping[str, Any],
) -> tuple[Literal["samples", "classes", "coordinates"], int]:
    """What feature columns stand for under checked Config fields, and how many there are."""
    num_classes = fields["num_classes"]
    if fields["coupling"] == 1:
        return "classes", num_classes
    if fields["optimizer"] in LINEAR and fields["batch_size"] is None:
        if fields["init"] in ("spectral", "collapsed"):
            return "classes", num_classes
        if fields["loss"] == "squared":
            # the rows of a balanced start are combinations of k rows, those of a Gaussian one are d
            rows = num_classes if fields["init"] == "balanced" else fields["feature_dim"]
            # a class needs no more than it has samples; few are not worth a shape of their own
            width = min(rows + 1, max(FEWEST_COORDINATES, *class_counts(fields)))
            return "coordinates", num_classes * width
    return "samples", sum(class_counts(fields))


def _only(known: Mapping[str, Any], name: str, allowed: str) -> None:
    """Refuse a field's value where only `allowed` will do."""
    raise errors.invalid(name, known[name], allowed)


def _check_loss(known: dict[str, Any]) -> None:
    squared = known["loss"] == "squared"
    decays = known["weight_decay"] > 0 or known["feature_decay"] > 0
    for name, neutral in NEUTRAL.items():
        if squared and known[name] not in (None, neutral):
            _only(known, name, "left out under the squared loss")
    kept_up = {
        "under the squared loss": squared,
        "with weight or feature decay": decays,
        "with label smoothing": known["label_smoothing"] > 0,
        f"with optimizer={known['optimizer']}": known["optimizer"] != "flow",
    }
    for what, keeps in kept_up.items():
        if keeps and known["clock"] == "loss":
            _only(known, "clock", f"time {what}: the loss has to fall to 0 by itself, in a flow")
    if known["stop_margin"] is not None and squared:
        _only(known, "stop_margin", "left out under the squared loss")


def _check_weights(known: dict[str, Any]) -> None:
    if known["effective_number_beta"] is not None:
        if known["class_weights"] is not None:
            _only(known, "effective_number_beta", "left out when class_weights are given")
        if known["weight_exponent"] != 0:
            _only(known, "weight_exponent", "0 when effective_number_beta is given")
    if known["weight_ramp"] > 0:
        if known["weight_start"] is None:
            _only(known, "weight_ramp", "0 unless weight_start is given")
        if known["solver"] == "rkl2" or (known["clock"] == "loss" and known["solver"] is None):
            _only(known, "weight_ramp", "0 with solver=rkl2, the loss clock's: a switch, no ramp")


def _check_depth(known: dict[str, Any]) -> None:
    k = known["num_classes"]
    if known["geometry"] and known["depth"] != 2:
        _only(known, "geometry", f"False unless depth is 2, not {known['depth']}")
    if known["depth"] == 1:
        if known["feature_dim"] != k:
            what = f"num_classes, {k}, at depth=1, where the features are the logits"
            _only(known, "feature_dim", what)
        if known["weight_decay"] > 0:
            _only(known, "weight_decay", "0 at depth=1, which has no classifier to decay")
        if known["init"] == "balanced":
            what = "another start at depth=1, which has no second layer to balance"
            _only(known, "init", what)


def _check_optimizer(known: dict[str, Any]) -> None:
    optimizer = known["optimizer"]
    of_others = _OF_STEPS if optimizer == "flow" else _OF_A_FLOW
    for name, default in of_others.items():
        if known[name] != default:
            whose = "an optimiser's steps" if optimizer == "flow" else "a flow"
            _only(known, name, f"left out with optimizer={optimizer}: it is of {whose} only")
    if known["momentum"] is not None and optimizer not in ("momentum", "nesterov"):
        _only(known, "momentum", "left out unless optimizer is momentum or nesterov")
    if known["sam_radius"] is not None and optimizer != "sam":
        _only(known, "sam_radius", "left out unless optimizer is sam")
    if (known["drop_step"] is None) == (known["learning_rate_schedule"] == "step"):
        _only(known, "drop_step", "given with learning_rate_schedule=step, and only with it")
    if known["drop_factor"] != 0.1 and known["drop_step"] is None:
        _only(known, "drop_factor", "0.1 unless learning_rate_schedule is step")
    if known["num_steps"] is not None and known["num_steps"] < known["num_saves"] - 1:
        _only(known, "num_steps", f"at least num_saves - 1, {known['num_saves'] - 1}")
    if optimizer not in LINEAR and 0 < known["coupling"] < 1:
        what = f"0 or 1 with optimizer={optimizer}, whose steps depend on what moves coupled features, not on their gradient alone"
        _only(known, "coupling", what)


def _check_sizes(known: dict[str, Any]) -> None:
    columns, num_columns = feature_columns(known)
    hidden = max(known["depth"] - 2, 0) * known["feature_dim"] ** 2
    size = (known["num_classes"] + num_columns) * known["feature_dim"] + hidden
    if max(size, known["num_classes"] * num_columns) > LARGEST_STATE:
        raise errors.invalid(
            "feature_dim",
            known["feature_dim"],
            f"small enough, and so the classes and their counts, that all layers, here with {num_columns} feature columns, "
            f"and the logits hold at most {LARGEST_STATE} numbers (the squared loss, coupling=1 and "
            "init=collapsed need only some columns a class)",
        )
    if columns == "coordinates":  # which are kept as the samples they stand for
        size = (known["num_classes"] + sum(class_counts(known))) * known["feature_dim"] + hidden
    if known["save_state"] and size * known["num_saves"] > LARGEST_STATE:
        raise errors.invalid(
            "save_state",
            True,
            f"False unless num_saves times the {size} numbers of all layers is at most {LARGEST_STATE}",
        )


def _checked_classes(fields: Mapping[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The fields that speak of single classes, which have to agree on how many there are."""
    out: dict[str, Any] = {"counts": None, "class_weights": None}
    if known["profile"] == "custom":
        what = f"at least two integers in [1, {LARGEST_COUNT}] when profile='custom'"
        counts = checks.items("counts", fields["counts"], what)
        if len(counts) < 2:
            raise errors.invalid("counts", fields["counts"], what)
        out["counts"] = tuple(
            checks.integer(f"counts[{i}]", n, 1, LARGEST_COUNT) for i, n in enumerate(counts)
        )
    elif fields["counts"] is not None:
        raise errors.invalid("counts", fields["counts"], "left out unless profile='custom'")

    out["num_classes"] = checks.integer("num_classes", fields["num_classes"], 2, 10_000)
    if out["counts"] is not None:
        num_counts = len(out["counts"])
        if out["num_classes"] not in (num_counts, DEFAULT_NUM_CLASSES):
            raise errors.invalid(
                "num_classes", fields["num_classes"], f"the number of counts, {num_counts}"
            )
        out["num_classes"] = checks.integer("number of counts", num_counts, 2, 10_000)
    num_classes = out["num_classes"]

    if known["profile"] == "step":
        num_minority = profiles.num_minority_classes(num_classes, known["minority_fraction"])
        if not 1 <= num_minority < num_classes:
            raise errors.invalid(
                "minority_fraction",
                fields["minority_fraction"],
                f"such that round(minority_fraction * {num_classes}) is in [1, {num_classes - 1}], "
                f"not {num_minority}",
            )
    if (
        known["profile"] != "custom"
        and known["imbalance_ratio"] * known["minority_count"] > LARGEST_COUNT
    ):
        raise errors.invalid(
            "imbalance_ratio",
            fields["imbalance_ratio"],
            f"at most {LARGEST_COUNT} / minority_count",
        )

    if isinstance(fields["class_weights"], str):
        names = get_args(NamedWeights)
        out["class_weights"] = checks.choice("class_weights", fields["class_weights"], names)
    elif fields["class_weights"] is not None:
        what = f"{num_classes} positive numbers, one a class"
        weights = checks.items("class_weights", fields["class_weights"], what)
        if len(weights) != num_classes:
            raise errors.invalid("class_weights", fields["class_weights"], what)
        out["class_weights"] = tuple(
            checks.real(f"class_weights[{i}]", w, 1e-50, 1e50) for i, w in enumerate(weights)
        )
    if out["class_weights"] is not None and known["weight_exponent"] != 0:
        raise errors.invalid(
            "weight_exponent", fields["weight_exponent"], "0 when class_weights are given"
        )
    return out
