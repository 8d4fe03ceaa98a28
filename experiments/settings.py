"""What the experiments on the small-scale model have in common: the problem, its variants, and how
they are drawn."""

from __future__ import annotations

import numpy as np

from ssm import Config
from ssm.config import Loss

BASE = Config(num_classes=10, imbalance_ratio=10, minority_count=5, feature_dim=16)
LOSSES: tuple[Loss, ...] = ("squared", "cross_entropy")
FEATURES = {"free": 0.0, "shared": 1.0}
WEIGHTINGS = {"ERM": 0.0, "inverse square root": 0.5, "inverse frequency": 1.0}
BALANCING = {"free": 0.5, "shared": 1.0}  # exponent at which both groups are learned at once
LAWS = {
    "free": "R^(1/2-g)",
    "shared": "R^(1-g)",
}  # of their learning times, in the small-start limit

FEATURE_COLORS = {"free": "#009E73", "shared": "#CC79A7"}  # so neither group's colour
THEORY = {"color": "black", "lw": 1, "ls": (0, (3, 2))}
FLOW_TIME = "flow time (steps x learning rate)"


def edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells about ascending centres, the outer ones as wide as their neighbours."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
