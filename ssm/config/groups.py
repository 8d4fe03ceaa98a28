"""Fields of a Config that say how the samples of each class are spread over an attribute."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from ssm.config.bounds import Each, Within
from ssm.config.data import LARGEST_COUNT
from ssm.support import checks, errors

GROUPS = Each(1, LARGEST_COUNT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupFields:
    """Groups inside classes: samples of one class that differ in an attribute, which other classes have too.

    With an attribute b a sample of class y is x = sqrt(c_b) e_0 + sqrt(c - c_b) e_y + sqrt(c_a) e_b + sqrt(1 - c -
    c_a) xi.
    """

    groups: Annotated[tuple[int, ...] | None, GROUPS] = None
    """Samples of each group, a class with an attribute, class by class: ((90, 10), (10, 90)), or 90,10,10,90 with
    the number of classes. Each class has as many samples as its groups. Left out: classes have no groups."""
    attribute_coupling: Annotated[float, Within(0, 1)] = 0.0
    """c_a in [0, 1 - coupling], how far training one sample moves the features of all samples with its attribute, of
    whatever class, beside what it moves within its class."""
    group_weight_exponent: Annotated[float, Within(-10, 10)] = 0.0
    """g in weights of groups n_g^-g, of unit mean over samples, times those of classes: 0 is none, 1 weighs all
    groups alike; in [-10, 10]."""

    @property
    def has_groups(self) -> bool:
        """Whether classes have groups."""
        return self.groups is not None

    @property
    def num_attributes(self) -> int:
        """Number of values of the attribute; 0 without groups."""
        return 0 if self.groups is None else len(self.groups) // self._num_classes

    @property
    def group_counts(self) -> tuple[tuple[int, ...], ...]:
        """Samples of each group, a row a class; empty without groups."""
        if self.groups is None:
            return ()
        a = self.num_attributes
        return tuple(self.groups[first : first + a] for first in range(0, len(self.groups), a))

    @property
    def counts_of_groups(self) -> tuple[int, ...] | None:
        """Samples of each class; None without groups."""
        return tuple(map(sum, self.group_counts)) if self.has_groups else None

    @property
    def _num_classes(self) -> int:
        return getattr(self, "num_classes")  # noqa: B009 that is a field of another group

    def check_groups(self, num_classes: int, is_left_out: bool) -> int | None:
        """Put checked `groups` in the place of those given, and return the number of classes that they belong to; None
        without groups.

        Args:
            num_classes: k, which has to be the number of rows where groups are given as rows.
            is_left_out: whether k is the default, so that the number of rows may be another.

        Raises InputError for groups that are no table, and for numbers that need groups where there are none.
        """
        if self.groups is None:
            for name in ("attribute_coupling", "group_weight_exponent"):
                if (value := getattr(self, name)) != 0:
                    raise errors.invalid(name, value, "0 unless groups are given")
            return None
        what = "a row a class of equally many integers, or these class by class"
        rows = checks.items("groups", self.groups, what)
        if all(isinstance(row, list | tuple) or getattr(row, "ndim", 0) == 1 for row in rows):
            table = [checks.items("groups", row, what) for row in rows]
            if len({len(row) for row in table}) != 1 or len(table) < 2:
                raise errors.invalid("groups", self.groups, what)
            if num_classes != len(table) and not is_left_out:
                raise errors.invalid(
                    "num_classes", num_classes, f"the number of rows of groups, {len(table)}"
                )
            num_classes, numbers = len(table), [number for row in table for number in row]
        else:
            numbers = rows
        if len(numbers) < num_classes or len(numbers) % num_classes:
            allowed = f"as many numbers in each of {num_classes} classes"
            raise errors.invalid("groups", self.groups, allowed)
        object.__setattr__(self, "groups", GROUPS.integers("groups", numbers))
        return num_classes
