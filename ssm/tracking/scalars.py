"""The observations of a network at one step, in single numbers by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ssm.config import profiles
from ssm.measures import geometry
from ssm.measures.probes import Probe

BY_CLASS = (
    "class_accuracy",
    "class_loss",
    "class_strength",
    "gradient_share",
    "classifier_gradient_share",
    "held_out_accuracy",
    "held_out_loss",
    "weight",
    "effective_weight",
)
BY_FACTOR = ("nc2_norms", "nc2_angles", "nc2_distance", "minority_cosine")
BY_PART = ("seli_distance", "etf_distance")


def of_step(observed: Mapping[str, np.ndarray], probe: Probe) -> dict[str, float]:
    """One number or a few for each variable of a step, as `Tracker.scalars` gives them."""
    found = {}
    for name, value in observed.items():
        if name in BY_CLASS:
            short = name.removeprefix("class_")
            parts = {group: value[probe.groups == group] for group in profiles.GROUPS} | {
                "all": value
            }
            found |= {
                f"{short}/{part}": float(np.nanmean(values))
                for part, values in parts.items()
                if np.isfinite(values).any()
            }
        elif name in BY_FACTOR:
            found |= {f"{name}/{x}": float(v) for x, v in zip(geometry.FACTORS, value, strict=True)}
        elif name in BY_PART:
            found |= {f"{name}/{x}": float(v) for x, v in zip(geometry.PARTS, value, strict=True)}
        elif value.ndim == 0 and name != "time":
            found[name] = float(value)
    if "strength" in observed:
        shares, blocks = (
            observed["strength"] / probe.components.singular_values,
            probe.components.blocks,
        )
        found |= {f"learned/{b}": float(shares[blocks == b].mean()) for b in np.unique(blocks)}
    return found
