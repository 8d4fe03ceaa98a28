"""Experiments: one file for each question, with claims that are stated before the run."""

from __future__ import annotations

from typing import Literal, get_args

Name = Literal[
    "overview",
    "label_spectrum",
    "early_training",
    "imbalance_sweep",
    "early_stopping",
    "terminal_phase",
    "cross_entropy_exact",
    "polynomial_tail",
    "heavy_tail",
    "soft_targets",
    "collapse",
    "depth",
    "margins",
    "optimizers",
    "batch_law",
    "deferred",
    "held_out",
    "held_out_maps",
    "held_out_data",
    "label_noise",
    "groups",
    "digits",
    "mnist",
    "stop_or_train",
    "bridge",
    "network_gap",
    "practice",
    "followed_digits",
    "tracked",
]


NAMES: tuple[Name, ...] = get_args(Name)
ON_MNIST: tuple[Name, ...] = ("mnist", "stop_or_train")  # which are given the folder of its files
IN_PYTORCH: tuple[Name, ...] = ("followed_digits",)  # which comes with an extra of its own
# The core ones are on the small-scale model itself, the others on networks trained on real data, on a loss of one's own,
# or on maps, groups and data that would take `make reproduce` beyond its five minutes.
_OTHERS = (
    "polynomial_tail",
    "heavy_tail",
    "soft_targets",
    "batch_law",
    "held_out_maps",
    "held_out_data",
    "label_noise",
    "groups",
    "digits",
    *ON_MNIST,
    "bridge",
    "network_gap",
    "practice",
    *IN_PYTORCH,
    "tracked",
)
CORE: tuple[Name, ...] = tuple(name for name in NAMES if name not in _OTHERS)
