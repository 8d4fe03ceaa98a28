"""Fields of a Config that say what the loss of one sample is."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from ssm.config.bounds import Within
from ssm.support import errors

Loss = Literal["cross_entropy", "squared", "logit_adjustment", "cdt", "vs", "ldam", "focal"]
LossOrOwn = Literal[Loss, "own"]

# The value of each number of an adjusted loss with which it changes nothing.
NEUTRAL = {
    "additive_adjustment": 0.0,
    "multiplicative_adjustment": 0.0,
    "largest_margin": 0.0,
    "logit_scale": 1.0,
    "focusing": 0.0,
    "label_smoothing": 0.0,
}
# The published values of each named loss: Menon et al. 2021; Ye et al. 2020; Kini et al. 2021; Cao
# et al. 2019; Lin et al. 2017. They tuned the exponent of `cdt` and `vs`, for which 0.3 is a usual value.
MARGIN_LOSSES: dict[str, dict[str, float]] = {
    "logit_adjustment": {"additive_adjustment": 1.0},
    "cdt": {"multiplicative_adjustment": 0.3},
    "vs": {"additive_adjustment": 1.0, "multiplicative_adjustment": 0.3},
    "ldam": {"largest_margin": 0.5, "logit_scale": 30.0},
    "focal": {"focusing": 2.0},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossFields:
    """The loss of one sample, and what adjusts it."""

    loss: LossOrOwn = "cross_entropy"
    """Loss of one sample: `cross_entropy`; `squared`, half the squared distance to the
    simplex-encoded label; or cross-entropy of adjusted logits, `logit_adjustment`, `cdt`, `vs`,
    `ldam` and `focal`, which name published values of the next fields. Those may be set for any loss
    but `squared`, together too: with p = softmax of s (n_c / n_max)^g z_c + tau log(n_c / n) - [c =
    y] s D_c, l = (1 - p_y)^gamma times cross-entropy. `own` stands for a loss that is given beside the
    Config, to `ssm.simulate` or `ssm.sweep`."""
    additive_adjustment: Annotated[float | None, Within(-100, 100)] = None
    """tau, of the logarithm of the class's share of the samples that is added to its logit, in
    [-100, 100]. Left out: 1 for `logit_adjustment` (balanced softmax) and `vs`, else 0."""
    multiplicative_adjustment: Annotated[float | None, Within(-10, 10)] = None
    """g of the factor (n_c / n_max)^g of a class's logit, in [-10, 10]. Left out: 0.3 for `cdt` and
    `vs`, else 0."""
    largest_margin: Annotated[float | None, Within(0, 1e6)] = None
    """The largest of D_c ~ n_c^(-1/4), taken off a sample's own logit, in [0, 1e6]. Left out: 0.5
    for `ldam`, else 0."""
    logit_scale: Annotated[float | None, Within(0, 1e6, open_ends="(")] = None
    """s, a factor of all logits (and so of the early growth rates), in (0, 1e6]. Left out: 30 for
    `ldam`, else 1."""
    focusing: Annotated[float | None, Within(0, 100)] = None
    """gamma of the focal factor (1 - p_y)^gamma, in [0, 100]; class weights stay outside of it. Left
    out: 2 for `focal`, else 0."""
    label_smoothing: Annotated[float, Within(0, 1, open_ends=")")] = 0.0
    """Share of a label that is spread evenly over all classes, in [0, 1)."""

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
        """The numbers that adjust the loss, by name. Those left out have the published value of the named
        loss, or the neutral one."""
        given = {name: getattr(self, name) for name in NEUTRAL}
        given = {name: value for name, value in given.items() if value is not None}
        return NEUTRAL | MARGIN_LOSSES.get(self.loss, {}) | given

    def check_loss(self) -> None:
        """Refuse, by InputError, numbers that adjust cross-entropy under another loss."""
        if self.loss not in ("squared", "own"):
            return
        which = "the squared loss" if self.loss == "squared" else "a loss of one's own"
        for name, neutral in NEUTRAL.items():
            value = getattr(self, name)
            if value not in (None, neutral):
                raise errors.invalid(name, value, f"left out under {which}")
