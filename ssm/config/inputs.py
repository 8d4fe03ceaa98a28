"""Fields of a Config that say what inputs the features are made of, and whether data is held out."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from ssm.config.bounds import Within
from ssm.config.model import LARGEST_STATE
from ssm.support import errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputFields:
    """Inputs and held-out data.

    A sample of class y is x = sqrt(c_b) e_0 + sqrt(c - c_b) e_y + sqrt(1 - c) xi, with the couplings c and c_b
    as the parts that it shares with all samples and with those of its class, and xi its noise.
    """

    noise_dim: Annotated[int | None, Within(1, LARGEST_STATE)] = None
    """q of the noise xi ~ N(0, I/q) in the inputs of samples; features are then made by a layer A from
    inputs that the seed draws, H = A X. Left out: infinite, where the noise of each sample is orthogonal to
    that of all others, which is what couplings alone describe."""
    held_out: bool = False
    """Observe fresh samples at every observed time: `held_out_accuracy`, `held_out_loss` and
    `held_out_strength` of each class. It takes a coupling above 0, and starts features from their
    inputs, so that those of a class share a part from the beginning."""

    @property
    def has_inputs(self) -> bool:
        """Whether the features are made from inputs that are drawn."""
        return self.noise_dim is not None

    @property
    def starts_from_inputs(self) -> bool:
        """Whether the features of the start are those of inputs, A_0 X."""
        return self.has_inputs or self.held_out

    def check_inputs(self, coupling: float, feature_decay: float, *, is_descent: bool) -> None:
        """Refuse, by InputError, held-out samples where classes share nothing with the samples of training, and where
        it is not known how the part of them that is not learned fades under the steps of an optimiser."""
        if self.held_out and coupling == 0:
            allowed = "False at coupling=0, where samples of a class share nothing"
            raise errors.invalid("held_out", self.held_out, allowed)
        if self.held_out and not self.has_inputs and is_descent and feature_decay > 0:
            allowed = "0 with held_out and an optimiser, unless noise_dim gives the features inputs"
            raise errors.invalid("feature_decay", feature_decay, allowed)
