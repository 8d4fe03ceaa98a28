"""What the fields of a Config that are a choice may be."""

from __future__ import annotations

from typing import Literal

Profile = Literal["step", "long_tailed", "custom"]
Loss = Literal["cross_entropy", "squared", "logit_adjustment", "cdt", "vs", "ldam", "focal"]
NamedWeights = Literal["balanced", "sqrt", "effective"]
Reduction = Literal["mean", "weighted_mean"]
Init = Literal["gaussian", "balanced", "spectral", "collapsed"]
Spacing = Literal["linear", "log"]
Clock = Literal["time", "loss"]
Solver = Literal["tsit5", "dopri5", "rkl2"]
Optimizer = Literal[
    "flow",
    "gd",
    "momentum",
    "nesterov",
    "normalised_gd",
    "sign",
    "adam",
    "adamw",
    "sam",
    "muon",
    "spectral_gd",
]
RateSchedule = Literal["constant", "cosine", "step"]
DType = Literal["float64", "float32"]

# whose steps are linear in the gradients so far: they keep what gradient flow keeps together
LINEAR = ("flow", "gd", "momentum", "nesterov")
# whose steps shrink with the gradient
GRADIENT_SIZED = (*LINEAR, "sam")
# what a field of the margin losses is where neither it nor its loss says so
NEUTRAL = {
    "additive_adjustment": 0.0,
    "multiplicative_adjustment": 0.0,
    "largest_margin": 0.0,
    "logit_scale": 1.0,
    "focusing": 0.0,
    "label_smoothing": 0.0,
}
# published values of each named loss: Menon et al. 2021; Ye et al. 2020; Kini et al. 2021; Cao et
# al. 2019; Lin et al. 2017. The exponent of `cdt` and `vs` was tuned there; 0.3 is a usual value.
MARGIN_LOSSES: dict[str, dict[str, float]] = {
    "logit_adjustment": {"additive_adjustment": 1.0},
    "cdt": {"multiplicative_adjustment": 0.3},
    "vs": {"additive_adjustment": 1.0, "multiplicative_adjustment": 0.3},
    "ldam": {"largest_margin": 0.5, "logit_scale": 30.0},
    "focal": {"focusing": 2.0},
}
