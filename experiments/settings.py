"""The problem that most experiments share, and the variants of it that they compare."""

from __future__ import annotations

from ssm import Config
from ssm.config import Loss

BASE = Config(num_classes=10, imbalance_ratio=10, minority_count=5, feature_dim=16)
LOSSES: tuple[Loss, ...] = ("squared", "cross_entropy")
FEATURES = {"free": 0.0, "shared": 1.0}
WEIGHTINGS = {"ERM": 0.0, "inverse square root": 0.5, "inverse frequency": 1.0}
BALANCING = {"free": 0.5, "shared": 1.0}  # exponent at which both groups are learned at once
# Of learning times over the imbalance ratio, in the limit of small starts.
LAWS = {"free": "R^(1/2-g)", "shared": "R^(1-g)"}
