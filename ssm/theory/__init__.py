"""What the model predicts: growth rates, exact solutions, regularised ends, learning times, run lengths.

All of it is NumPy and SciPy. Nothing here imports `ssm.dynamics`, nor the other way round.
"""

from ssm.theory.early_phase import block_curves, linear_factors, linear_phase
from ssm.theory.growth import (
    balancing_exponent,
    class_growth_rates,
    component_growth_rates,
    damped_rate,
    growing_half,
    learning_time,
    learning_time_ratio,
    margin_exponent,
    mean_growth_rates,
    overlap,
    separable,
    sigmoid,
)
from ssm.theory.overlapping import Learning, overlapping_learning_times
from ssm.theory.unbalanced import starting_exponent, unbalanced_learning_time

__all__ = [
    "Learning",
    "balancing_exponent",
    "block_curves",
    "class_growth_rates",
    "component_growth_rates",
    "damped_rate",
    "growing_half",
    "learning_time",
    "learning_time_ratio",
    "linear_factors",
    "linear_phase",
    "margin_exponent",
    "mean_growth_rates",
    "overlap",
    "overlapping_learning_times",
    "separable",
    "sigmoid",
    "starting_exponent",
    "unbalanced_learning_time",
]
