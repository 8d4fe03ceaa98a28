"""The table of the variables of a run: names, dimensions, words, units, types, and which runs have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ssm.config import Config

OBSERVED = "observed"
"""The type of observations of a run while it goes on: floats in the precision of that run."""
WORD, COUNT, REAL = "<U14", "int64", "float64"


class Variable(NamedTuple):
    """One variable or coordinate of a run."""

    dims: tuple[str, ...]
    words: str
    """Its description, for the attribute `description`."""
    units: str = "1"
    """Its units, empty for words."""
    dtype: str = OBSERVED
    """Its type in a sweep, where all runs share one array: a type of NumPy, or `OBSERVED`."""
    when: Callable[[Config], bool] | None = None
    """Whether the run of a Config has it; None where every run does."""

    @property
    def attributes(self) -> dict[str, str]:
        """Its attributes `description` and `units` in a Dataset."""
        units = {"units": self.units} if self.units else {}
        return {"description": self.words} | units


def _has_geometry(config: Config) -> bool:
    return config.geometry


def is_descent(config: Config) -> bool:
    """Whether an optimiser takes steps."""
    return config.is_descent


def _observes_margin(config: Config) -> bool:
    return config.observes_margin


def _keeps_samples(config: Config) -> bool:
    return config.save_state and config.column_kind != "classes" and not config.has_inputs


def _keeps_classes(config: Config) -> bool:
    return config.save_state and config.column_kind == "classes"


def _is_held_out(config: Config) -> bool:
    return config.held_out


def has_groups(config: Config) -> bool:
    """Whether classes have groups."""
    return config.has_groups


def only_of_networks(config: Config) -> bool:
    """False, since no run has the variable. The log of a network has it where it was given the data for it."""
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
        when=is_descent,
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
        when=only_of_networks,
    ),
    "nc1_traces": Variable(
        ("time",),
        "trace of the covariance within classes over that between them, every class alike",
        when=only_of_networks,
    ),
    "nc1_pooled_traces": Variable(
        ("time",), "the same with every sample alike", when=only_of_networks
    ),
    "cdnv": Variable(
        ("time",),
        "class-distance normalised variance, the mean over pairs of classes",
        when=only_of_networks,
    ),
    "coupling": Variable(
        ("time",),
        "how far training a sample moves the features of its classmates, as features show it",
        when=only_of_networks,
    ),
    "balancing_exponent": Variable(
        ("time",),
        "exponent g of class weights n_c^-g at which contrasts among majority and among minority classes "
        "grow alike from small starts, at that coupling",
        when=only_of_networks,
    ),
    "minority_cosine": Variable(
        ("time", "factor"),
        "mean cosine of two minority classes, 1 where they have collapsed onto one another",
        when=only_of_networks,
    ),
    "classifier_gradient_share": Variable(
        ("time", "class"),
        "share of the classifier's squared gradient that is in the row of a class",
        when=only_of_networks,
    ),
    "effective_weight": Variable(
        ("time", "class"),
        "weight that a class has in the mean loss of mini-batches that is divided by their weights",
        when=only_of_networks,
    ),
    "not_finite": Variable(
        ("time",),
        "watched samples whose logits or features are not finite; where there are any, what follows from "
        "them is NaN",
        when=only_of_networks,
    ),
    "group_loss": Variable(
        ("time", "group"),
        "mean loss of a group's samples, unweighted",
        "loss",
        when=has_groups,
    ),
    "group_accuracy": Variable(
        ("time", "group"), "share of a group's samples classified right", when=has_groups
    ),
    "held_out_group_accuracy": Variable(
        ("time", "group"),
        "share of held-out samples of a group classified right",
        when=lambda config: config.has_groups and config.held_out,
    ),
    "core_strength": Variable(
        ("time",),
        "how far mean logits of groups follow the class whatever the attribute, 1 at interpolation",
        when=has_groups,
    ),
    "spurious_strength": Variable(
        ("time",),
        "how far they follow what the attribute says of classes, 0 at interpolation",
        when=has_groups,
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
