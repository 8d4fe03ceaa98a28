"""Fields of a Config that say what moves the parameters: gradient flow, or the steps of an optimiser."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Annotated, Literal

from ssm.config.bounds import Each, Within
from ssm.support import checks, errors

Optimizer = Literal[
    "flow",
    "gd",
    "momentum",
    "nesterov",
    "normalised_gd",
    "class_normalised_gd",
    "sign",
    "adam",
    "adamw",
    "sam",
    "muon",
    "muon_uncorrected",
    "spectral_gd",
]
OptimizerOrOwn = Literal[Optimizer, "own"]
RateSchedule = Literal["constant", "cosine", "step"]

# Optimisers whose steps are linear in the gradients so far, so that they conserve what gradient flow conserves.
LINEAR = ("flow", "gd", "momentum", "nesterov")
# Optimisers whose steps shrink as the gradient does.
GRADIENT_SIZED = (*LINEAR, "sam")
MOST_STEPS = 10_000_000  # bounded, since the learning rate of each step is kept
DROP_STEPS = Each(0, 2**53)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerFields:
    """The optimiser, its learning rate, and the number and size of its steps."""

    optimizer: OptimizerOrOwn = "flow"
    """Gradient `flow`, or steps, the run's time: `gd`, with `momentum` or `nesterov`'s,
    `normalised_gd` (of unit norm), `class_normalised_gd` (PCNGD: the gradient of each class of unit norm, in
    which class weights cancel; decay apart from it), `sign`, `adam`, `adamw` (decay apart from the gradient), `sam`,
    `muon` (optax's, whose momentum is corrected for its start), `muon_uncorrected` (the published one,
    whose momentum is not corrected), or `spectral_gd`, along U V^T of each layer's gradient. `own` stands for a
    transformation of optax that is given beside the Config, to `ssm.simulate` or `ssm.sweep`."""
    learning_rate: Annotated[float | None, Within(0, 1e50, open_ends="(")] = None
    """Learning rate of an optimiser, > 0. Left out: a tenth of an e-fold of the fastest contrast a step for `gd`
    and `sam`, the same in the long run with momentum, else 0.01."""
    learning_rate_schedule: RateSchedule = "constant"
    """`constant`; `cosine`, falling to 0 at the last step; or `step`, times `drop_factor` from each
    `drop_step` on."""
    drop_step: Annotated[int | tuple[int, ...] | None, DROP_STEPS] = None
    """Step at which the learning rate drops, for `step`; or several, in ascending order."""
    drop_factor: Annotated[float, Within(0, 1)] = 0.1
    """Factor by which the learning rate drops each time, in [0, 1]."""
    num_steps: Annotated[int | None, Within(1, MOST_STEPS)] = None
    """Steps of an optimiser, at least num_saves - 1, at most ten million. Left out: as many as
    gradient descent takes in the length chosen from theory, its schedule counted in, and 1000 for an
    optimiser whose steps do not follow the gradient's size."""
    batch_size: Annotated[int | None, Within(1, 1_000_000)] = None
    """Samples of a step of an optimiser, drawn anew each time with replacement. Left out: each sample
    once."""
    momentum: Annotated[float | None, Within(0, 1, open_ends=")")] = None
    """Momentum of `momentum` and `nesterov`, in [0, 1). Left out: 0.9."""
    sam_radius: Annotated[float | None, Within(0, 1e50, open_ends="(")] = None
    """How far `sam` climbs before it takes the gradient, > 0. Left out: `init_scale`; a start whose
    growing part is shorter than the radius falls back to 0."""

    @property
    def is_descent(self) -> bool:
        """Whether the run is one of an optimiser's steps, not a flow."""
        return self.optimizer != "flow"

    @property
    def drop_steps(self) -> tuple[int, ...]:
        """The steps at which the learning rate drops, in ascending order; none for another schedule."""
        if self.drop_step is None:
            return ()
        return self.drop_step if isinstance(self.drop_step, tuple) else (self.drop_step,)

    def check_optimizer(self, num_saves: int) -> None:
        """Put checked drop steps in the place of those given, a single one as an integer.

        Raises InputError for numbers of another optimiser or schedule than the one asked for, and for
        fewer steps than there are observations.
        """
        if self.momentum is not None and self.optimizer not in ("momentum", "nesterov"):
            allowed = "left out unless optimizer is momentum or nesterov"
            raise errors.invalid("momentum", self.momentum, allowed)
        if self.sam_radius is not None and self.optimizer != "sam":
            allowed = "left out unless optimizer is sam"
            raise errors.invalid("sam_radius", self.sam_radius, allowed)
        if (self.drop_step is None) == (self.learning_rate_schedule == "step"):
            allowed = "given with learning_rate_schedule=step, and only with it"
            raise errors.invalid("drop_step", self.drop_step, allowed)
        if self.drop_step is not None:
            object.__setattr__(self, "drop_step", _checked_drops(self.drop_step))
        if self.drop_factor != OptimizerFields.drop_factor and self.drop_step is None:
            allowed = "0.1 unless learning_rate_schedule is step"
            raise errors.invalid("drop_factor", self.drop_factor, allowed)
        if self.num_steps is not None and self.num_steps < num_saves - 1:
            raise errors.invalid(
                "num_steps", self.num_steps, f"at least num_saves - 1, {num_saves - 1}"
            )


def _checked_drops(given: object) -> int | tuple[int, ...]:
    """The drop steps, checked: a single one as an integer, several as a tuple."""
    if not isinstance(given, Iterable):
        return Within(*DROP_STEPS).integer("drop_step", given)
    what = "an integer, or several in ascending order"
    steps = DROP_STEPS.integers("drop_step", checks.items("drop_step", given, what))
    if len(steps) == 1:
        return steps[0]
    if not steps or any(first >= second for first, second in itertools.pairwise(steps)):
        raise errors.invalid("drop_step", given, what)
    return steps
