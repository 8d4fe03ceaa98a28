"""Parts of a card that say where a model comes from: its data, its class weights, and its rule of decision."""

from __future__ import annotations

import dataclasses

import numpy as np

from ssm.practice.data.classifiers import Label
from ssm.practice.deployment import fields
from ssm.practice.deployment.fields import Numbers
from ssm.support import checks
from ssm.support.errors import invalid

KINDS = ("trained", "shares", "costs", "threshold")
"""The ways in which a model may decide: as it was trained to, for class shares, for the least expected cost, or by a threshold on
the probability of one class."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What a model was trained on.

    Raises ssm.InputError for counts that are not whole numbers, for feature names unless there is one for each column, and for a
    digest that is not a SHA-256.
    """

    name: str
    """What the data are, in the user's words."""
    num_rows: int
    class_counts: tuple[int, ...]
    """The number of rows of each class, in the order of the card's classes. Their sum is at most `num_rows`, since rows
    of sample weight 0 are left out."""
    num_features: int | None = None
    feature_names: tuple[str, ...] | None = None
    digest: str | None = None
    """The SHA-256 of the rows and labels, or of the file that they came from."""

    def __post_init__(self) -> None:
        fields.text("data.name", self.name)
        fields.whole("data.num_rows", self.num_rows)
        counts = checks.items("data.class_counts", self.class_counts, "whole numbers, one a class")
        counts = tuple(fields.whole("data.class_counts", count) for count in counts)
        if sum(counts) > self.num_rows:
            raise invalid("data.class_counts", counts, f"at most {self.num_rows} rows together")
        object.__setattr__(self, "class_counts", counts)
        if self.num_features is not None:
            fields.whole("data.num_features", self.num_features)
        if self.feature_names is not None:
            names = checks.items("data.feature_names", self.feature_names, "names, one a column")
            names = tuple(fields.text("data.feature_names", name) for name in names)
            if len(names) != self.num_features:
                what = f"{self.num_features} names, one for each of data.num_features"
                raise invalid("data.feature_names", names, what)
            object.__setattr__(self, "feature_names", names)
        if self.digest is not None:
            fields.sha256("data.digest", self.digest)


@dataclasses.dataclass(frozen=True)
class Training:
    """The class shares of the training samples, and the weights that they were trained with.

    Raises ssm.InputError unless shares are positive and sum to 1, and weights are positive, one for each class.
    """

    class_shares: Numbers
    """The shares pi_c, in which each sample counts as often as its sample weight says."""
    class_weights: Numbers | None = None
    """The weights w_c; None where they are not known."""

    def __post_init__(self) -> None:
        fields.set_shares(self, "class_shares", "training")
        if self.class_weights is not None:
            weights = tuple(checks.positive("training.class_weights", self.class_weights).tolist())
            if len(weights) != len(self.class_shares):
                what = f"{len(self.class_shares)} numbers, one a class"
                raise invalid("training.class_weights", weights, what)
            object.__setattr__(self, "class_weights", weights)

    @property
    def effective_shares(self) -> Numbers | None:
        """The class shares as weighted in training, pi_c w_c / sum_j pi_j w_j; None where the weights are not known."""
        if self.class_weights is None:
            return None
        made = np.array(self.class_shares) * self.class_weights
        return tuple((made / made.sum()).tolist())


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a model decides.

    Raises ssm.InputError for a kind that is none of `KINDS`, for a number that the kind needs and is not given, and for one that
    is given and does not belong to the kind.
    """

    kind: str = "trained"
    shares: Numbers | None = None
    """Of the kind `shares` only: the class shares for which the most probable class is decided."""
    costs: tuple[Numbers, ...] | None = None
    """Of the kind `costs` only: the cost C[c, j] of deciding j where c is true."""
    label: Label | None = None
    """Of the kind `threshold` only: the class that is decided where its probability is at least `threshold`. Elsewhere the most
    probable of the other classes is decided."""
    threshold: float | None = None

    def __post_init__(self) -> None:
        checks.choice("rule.kind", self.kind, KINDS)
        needed = {"shares": ["shares"], "costs": ["costs"], "threshold": ["label", "threshold"]}
        for name in ("shares", "costs", "label", "threshold"):
            value, is_needed = getattr(self, name), name in needed.get(self.kind, [])
            if (value is not None) != is_needed:
                what = "given" if is_needed else "left out"
                raise invalid(f"rule.{name}", value, f"{what} where rule.kind is {self.kind!r}")
        if self.shares is not None:
            fields.set_shares(self, "shares", "rule")
        if self.costs is not None:
            object.__setattr__(self, "costs", fields.cost_rows("rule.costs", self.costs))
        if self.threshold is not None:
            object.__setattr__(
                self, "threshold", checks.real("rule.threshold", self.threshold, 0, 1)
            )
