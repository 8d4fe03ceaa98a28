"""The small-scale model of learning from imbalanced data: its dynamics, their spectra and their
theory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssm.checks import InputError
from ssm.config import Config

if TYPE_CHECKING:
    from ssm.practice.estimator import ReweightedClassifier
    from ssm.simulation import simulate
    from ssm.stores import load, save
    from ssm.sweeping import sweep
    from ssm.tracking import track

__all__ = [
    "Config",
    "InputError",
    "ReweightedClassifier",
    "load",
    "save",
    "simulate",
    "sweep",
    "track",
]

# What needs JAX or xarray is imported on first use: `ssm --help` should not wait for it.
_HOMES = {
    "simulate": "ssm.simulation",
    "track": "ssm.tracking",
    "sweep": "ssm.sweeping",
    "load": "ssm.stores",
    "save": "ssm.stores",
    "ReweightedClassifier": "ssm.practice.estimator",
}


_MODULES = (
    "advice",
    "exact",
    "geometry",
    "losses",
    "metrics",
    "plotting",
    "posthoc",
    "practice",
    "predictions",
    "reduction",
    "regularised",
    "results",
    "schedules",
    "spectral",
    "sweep_plots",
    "theory",
    "weights",
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"ssm.{name}")
    raise AttributeError(f"module 'ssm' has no attribute {name!r}")
