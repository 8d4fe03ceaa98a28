"""The small-scale model of learning from imbalanced data: its dynamics, their spectra and their
theory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssm import addresses
from ssm.config import Config
from ssm.support.errors import InputError, no_attribute

if TYPE_CHECKING:
    from ssm import advice, practice, results, theory
    from ssm.cli import summaries
    from ssm.config import profiles
    from ssm.dynamics import coordinates as reduction
    from ssm.dynamics.parameters import Params
    from ssm.measures import collapse, geometry, held_out, metrics, spectral, states
    from ssm.plots import decisions as decision_plots
    from ssm.plots import runs as plotting
    from ssm.plots import sweeps as sweep_plots
    from ssm.plots.compare import compare
    from ssm.practice.decisions.reweighted import Reweighted
    from ssm.practice.network.estimator import ReweightedClassifier
    from ssm.problem import losses, posthoc, schedules, weights
    from ssm.problem.inputs import mixture_inputs
    from ssm.results import balance, fits, stores
    from ssm.results.exports import export
    from ssm.results.stores import load, save
    from ssm.simulation import simulate
    from ssm.sweeps.merging import merge
    from ssm.sweeps.points import points
    from ssm.sweeps.sweep import sweep
    from ssm.theory import (
        adjusted_growth,
        defaults,
        exact,
        predictions,
        regularised,
        step,
        terminal,
    )
    from ssm.tracking.logs import track
    from ssm.tracking.probe_sets import probe_set
    from ssm.tracking.tracker import Tracker

addresses.install()

__all__ = [
    "Config",
    "InputError",
    "Params",
    "Reweighted",
    "ReweightedClassifier",
    "Tracker",
    "adjusted_growth",
    "advice",
    "balance",
    "collapse",
    "compare",
    "decision_plots",
    "defaults",
    "exact",
    "export",
    "fits",
    "geometry",
    "held_out",
    "load",
    "losses",
    "merge",
    "metrics",
    "mixture_inputs",
    "plotting",
    "points",
    "posthoc",
    "practice",
    "predictions",
    "probe_set",
    "profiles",
    "reduction",
    "regularised",
    "results",
    "save",
    "schedules",
    "simulate",
    "spectral",
    "states",
    "step",
    "stores",
    "summaries",
    "sweep",
    "sweep_plots",
    "terminal",
    "theory",
    "track",
    "weights",
]

# What needs JAX or xarray is imported on first use: `ssm --help` should not wait for it.
_HOMES = {
    "simulate": "ssm.simulation",
    "Params": "ssm.dynamics.parameters",
    "mixture_inputs": "ssm.problem.inputs",
    "track": "ssm.tracking.logs",
    "Tracker": "ssm.tracking.tracker",
    "probe_set": "ssm.tracking.probe_sets",
    "compare": "ssm.plots.compare",
    "points": "ssm.sweeps.points",
    "sweep": "ssm.sweeps.sweep",
    "merge": "ssm.sweeps.merging",
    "export": "ssm.results.exports",
    "load": "ssm.results.stores",
    "save": "ssm.results.stores",
    "Reweighted": "ssm.practice.decisions.reweighted",
    "ReweightedClassifier": "ssm.practice.network.estimator",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"ssm.{name}")
    raise no_attribute("ssm", name, __all__)
