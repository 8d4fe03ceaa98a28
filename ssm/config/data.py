"""Fields of a Config that say how many samples each class has."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

from ssm.config import profiles
from ssm.config.bounds import Each, Within
from ssm.support import checks, errors

Profile = Literal["step", "long_tailed", "zipf", "custom"]
LARGEST_COUNT = 2**53  # beyond it a count is no longer exact as a float64
NUM_CLASSES = Within(2, 10_000)
COUNTS = Each(1, LARGEST_COUNT)
COUNTS_OF_TARGETS = Each(0, LARGEST_COUNT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFields:
    """How samples are spread over classes."""

    profile: Profile | None = None
    """How samples are spread over classes: `step` (two sizes of class), `long_tailed` (exponential), `zipf` (a
    power of the rank of a class), `custom` (`counts`). Left out: `custom` where there are counts, else `step`."""
    num_classes: Annotated[int, NUM_CLASSES] = 10
    """Number of classes k, at least 2. With `counts` it is their number; left at its default, it
    becomes that."""
    imbalance_ratio: Annotated[float, Within(1, math.inf)] = 10.0
    """R, samples of the largest class over samples of the smallest, at least 1 (all but `custom`). Under `zipf`
    with R = num_classes sizes fall as one over the rank."""
    minority_fraction: Annotated[float, Within(0, 1, open_ends="()")] = 0.5
    """rho, the fraction of classes that are minorities, in (0, 1): round(rho k) classes, at least
    one, not all (`step`)."""
    minority_count: Annotated[int, Within(1, LARGEST_COUNT)] = 5
    """Samples of the smallest class (all but `custom`); the largest has round(R * minority_count)."""
    counts: Annotated[tuple[int, ...] | None, COUNTS] = None
    """Samples of each class, of a `custom` profile."""
    targets: Literal["labels", "own"] = "labels"
    """What samples are taught: their `labels`, or distributions over the classes that are given beside the
    Config, to `ssm.simulate`: then it says `own`, and a class may have no samples."""

    @property
    def counts_of_groups(self) -> tuple[int, ...] | None:
        """The counts of classes that have groups, as the sums of these; None for classes without groups."""
        return None

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Samples n_c of each class, largest first for `step` and `long_tailed`."""
        if self.profile == "custom":
            counts = self.counts_of_groups if self.counts is None else self.counts
            assert counts is not None  # as `check_data` has seen to
            return counts
        if self.profile == "step":
            return profiles.step_counts(
                self.num_classes, self.imbalance_ratio, self.minority_fraction, self.minority_count
            )
        law = profiles.zipf_counts if self.profile == "zipf" else profiles.long_tailed_counts
        return law(self.num_classes, self.imbalance_ratio, self.minority_count)

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

    def check_data(self, classes_of_groups: int | None = None) -> None:
        """Put the profile that is meant, checked `counts`, and their number as `num_classes`, in the place of
        what was given. Where `classes_of_groups` classes have groups, these say the counts.

        Raises InputError where the fields do not describe classes of at least one sample each.
        """
        if classes_of_groups is not None:
            object.__setattr__(self, "num_classes", classes_of_groups)
            for name in ("counts", "profile"):
                if (value := getattr(self, name)) not in (None, "custom"):
                    allowed = f"left out with groups, which make {self.counts_of_groups}"
                    raise errors.invalid(name, value, allowed)
            object.__setattr__(self, "profile", "custom")
            return
        if self.profile is None:
            object.__setattr__(self, "profile", "step" if self.counts is None else "custom")
        if self.profile == "custom":
            self._check_counts()
            return
        if self.counts is not None:
            allowed = f"left out with profile={self.profile}: counts are a custom profile"
            raise errors.invalid("counts", self.counts, allowed)
        if self.profile == "step":
            k = self.num_classes
            num_minority = profiles.num_minority_classes(k, self.minority_fraction)
            if not 1 <= num_minority < k:
                raise errors.invalid(
                    "minority_fraction",
                    self.minority_fraction,
                    f"such that round(minority_fraction * {k}) is in [1, {k - 1}], "
                    f"not {num_minority}",
                )
        if self.imbalance_ratio * self.minority_count > LARGEST_COUNT:
            raise errors.invalid(
                "imbalance_ratio",
                self.imbalance_ratio,
                f"at most {LARGEST_COUNT} / minority_count",
            )

    def _check_counts(self) -> None:
        """Check the counts of a custom profile, and set the number of classes to theirs."""
        what = f"at least two integers in [1, {LARGEST_COUNT}] when profile='custom'"
        values = checks.items("counts", self.counts, what)
        if len(values) < 2:
            raise errors.invalid("counts", self.counts, what)
        bounds = COUNTS if self.targets == "labels" else COUNTS_OF_TARGETS
        counts = bounds.integers("counts", values)
        if not any(counts):
            raise errors.invalid("counts", counts, "of at least one sample")
        if self.num_classes not in (len(counts), DataFields.num_classes):
            raise errors.invalid(
                "num_classes", self.num_classes, f"the number of counts, {len(counts)}"
            )
        num_classes = NUM_CLASSES.integer("number of counts", len(counts))
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "num_classes", num_classes)
