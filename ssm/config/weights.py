"""Fields of a Config that weight the classes."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, get_args

from ssm.config.bounds import Each, Within
from ssm.support import checks, errors

NamedWeights = Literal["balanced", "sqrt", "effective"]
Reduction = Literal["mean", "weighted_mean"]
CLASS_WEIGHTS = Each(1e-50, 1e50)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightFields:
    """The weight of each class in the loss, the time from which it acts, and how weighted losses are summed."""

    weight_exponent: Annotated[float, Within(-10, 10)] = 0.0
    """g in w_c ~ n_c^-g, scaled to unit mean over samples: 0 is ERM, 1 inverse frequency; in [-10,
    10]. Which one balances depends on the coupling."""
    effective_number_beta: Annotated[float | None, Within(0, 1, open_ends=")")] = None
    """b in w_c ~ (1 - b) / (1 - b^n_c) instead of the power law, scaled alike (class-balanced loss);
    in [0, 1): 0 is ERM, towards 1 inverse frequency."""
    class_weights: Annotated[tuple[float, ...] | NamedWeights | None, CLASS_WEIGHTS] = None
    """Weight of each class, in [1e-50, 1e50], used exactly as given instead of `weight_exponent`; or
    `balanced` (inverse frequency), `sqrt`, `effective` (effective number, b = (n - 1) / n)."""
    weight_start: Annotated[float | None, Within(0, 1e300)] = None
    """Time (step) from which on the weights act, where there are any, with ERM before it: deferred
    reweighting (DRW). A time beyond the run is ERM. Left out: they act from the start."""
    weight_ramp: Annotated[float, Within(0, 1e300)] = 0.0
    """Time (steps) from `weight_start` over which the weighted risk takes the place of ERM's, evenly;
    0 is a switch."""
    reduction: Reduction = "mean"
    """How the weighted losses of samples are summed: to their `mean`, over n, or to their `weighted_mean`, over
    the sum of their weights, which then have unit mean over samples (of each mini-batch)."""

    @property
    def has_deferral(self) -> bool:
        """Whether weights begin to act later than at the start."""
        return self.weight_start is not None and self.weight_start + self.weight_ramp > 0

    def check_weights(self, num_classes: int) -> None:
        """Put checked `class_weights` in the place of those given.

        Raises InputError for another number of them than `num_classes`, and for weights that are given in two
        ways at once.
        """
        given = self.class_weights
        if isinstance(given, str):
            checks.choice("class_weights", given, get_args(NamedWeights))
        elif given is not None:
            what = f"{num_classes} positive numbers, one a class"
            values = checks.items("class_weights", given, what)
            if len(values) != num_classes:
                raise errors.invalid("class_weights", given, what)
            class_weights = CLASS_WEIGHTS.reals("class_weights", values)
            object.__setattr__(self, "class_weights", class_weights)
        if given is not None and self.weight_exponent != 0:
            raise errors.invalid(
                "weight_exponent", self.weight_exponent, "0 when class_weights are given"
            )
        if self.effective_number_beta is not None:
            if given is not None:
                raise errors.invalid(
                    "effective_number_beta",
                    self.effective_number_beta,
                    "left out when class_weights are given",
                )
            if self.weight_exponent != 0:
                raise errors.invalid(
                    "weight_exponent", self.weight_exponent, "0 when effective_number_beta is given"
                )
        if self.weight_ramp > 0 and self.weight_start is None:
            raise errors.invalid("weight_ramp", self.weight_ramp, "0 unless weight_start is given")
