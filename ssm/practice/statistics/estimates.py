"""Means over independent draws, such as seeds, with their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

SIGNIFICANCE = 0.05  # intervals are of 95 %


class Estimate(NamedTuple):
    """A mean over draws, with the interval that has it in 95 % of repetitions."""

    mean: float
    low: float
    high: float

    @classmethod
    def over_seeds(cls, values: ArrayLike) -> Estimate:
        """The mean of one number a seed, with Student's interval, which is endless for a single
        seed."""
        each = np.asarray(values, dtype=float).ravel()
        mean, count = float(each.mean()), each.size
        if count < 2 or not math.isfinite(mean):
            return cls._about(mean, math.inf, count)
        return cls._about(mean, float(each.std(ddof=1)) / math.sqrt(count), count)

    @classmethod
    def jackknife(cls, statistic: Callable[[list[int]], float], num_seeds: int) -> Estimate:
        """A number that is read off curves averaged over seeds, given which seeds to average: the number
        for all of them, with Student's interval from those that leave one seed out (Tukey 1958)."""
        seeds = list(range(num_seeds))
        whole = float(statistic(seeds))
        if num_seeds < 2 or not math.isfinite(whole):
            return cls._about(whole, math.inf, num_seeds)
        parts = np.array([statistic([j for j in seeds if j != i]) for i in seeds], dtype=float)
        if not np.isfinite(parts).all():
            return cls._about(whole, math.inf, num_seeds)
        error = math.sqrt((num_seeds - 1) * float(parts.var()))
        return cls._about(whole, error, num_seeds)

    @classmethod
    def _about(cls, mean: float, error: float, count: int) -> Estimate:
        """With an interval of Student's quantile times a standard error to either side."""
        if not math.isfinite(mean):
            return cls(mean, mean, mean)
        if not math.isfinite(error):
            return cls(mean, -math.inf, math.inf)
        reach = float(special.stdtrit(count - 1, 1 - SIGNIFICANCE / 2)) * error
        return cls(mean, mean - reach, mean + reach)

    @classmethod
    def geometric(cls, values: ArrayLike) -> Estimate:
        """The geometric mean of one positive number a seed, with the interval of the logarithms."""
        return cls(*(math.exp(end) for end in cls.over_seeds(np.log(values))))

    @property
    def interval(self) -> str:
        """The interval in words."""
        if not math.isfinite(self.mean):
            return "not reached in every draw"
        if math.isinf(self.low):
            return "too few seeds for an interval"
        return f"95 % interval {self.low:.4g} to {self.high:.4g}"
