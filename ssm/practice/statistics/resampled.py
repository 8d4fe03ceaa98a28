"""The corrected resampled t-test: means over the folds of repeated cross-validation, which depend on one
another, with their p values and intervals; and Holm's correction for many of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from ssm.support import checks


class Mean(NamedTuple):
    """The mean of `num` values of folds, which depend on one another."""

    value: float
    standard_error: float
    """Corrected for that dependence; 0 where no value varies, NaN for fewer than two values."""
    num: int

    def p_above(self) -> float:
        """The one-sided p value of a mean of at most 0."""
        if self.num < 2:
            return 1.0
        if self.standard_error == 0:
            return 2.0**-self.num if self.value > 0 else 1.0
        return float(special.stdtr(self.num - 1, -self.value / self.standard_error))

    def p_below(self) -> float:
        """The one-sided p value of a mean of at least 0."""
        return self._replace(value=-self.value).p_above()

    def p_value(self) -> float:
        """The two-sided p value of a mean of 0."""
        return min(1.0, 2 * min(self.p_above(), self.p_below()))

    def interval(self, significance: float) -> tuple[float, float]:
        """The two-sided interval of confidence 1 - significance; endless for too few values."""
        too_few = self.standard_error == 0 and 2.0 ** (1 - self.num) > significance
        if self.num < 2 or too_few:
            return -math.inf, math.inf
        reach = -float(special.stdtrit(self.num - 1, significance / 2)) * self.standard_error
        return self.value - reach, self.value + reach


def mean_of(values: Float[np.ndarray, " j"], ratio: float, tolerance: float) -> Mean:
    """The mean of the values of folds with its corrected standard error,
    sqrt((1/J + n_test/n_train) s^2) for J values of sample variance s^2.

    Args:
        values: one for each fold, shape (j,). Sums are exact, so that their order does not matter.
        ratio: n_test / n_train.
        tolerance: values that differ by no more than this count as equal.
    """
    num = len(values)
    value = math.fsum(values) / num if num else math.nan
    if num < 2:
        return Mean(value, math.nan, num)
    if np.ptp(values) <= tolerance:
        return Mean(value if np.abs(values).max() > tolerance else 0.0, 0.0, num)
    variance = math.fsum((values - value) ** 2) / (num - 1)
    return Mean(value, math.sqrt((1 / num + ratio) * variance), num)


def holm(p_values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """p values adjusted for a family of m questions: p_(i) -> max_{j <= i} min(1, (m - j + 1) p_(j)), with
    p_(1) the smallest (Holm 1979).

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.minimum(1, p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def ratio_of_test_to_train(num_folds: int) -> float:
    """n_test / n_train of a K-fold cross-validation, which is 1/(K - 1)."""
    return 1 / (checks.integer("folds", num_folds, 2, 2**31 - 1) - 1)
