"""Short public addresses of modules that live in a room.

`ssm.losses` is the same module as `ssm.problem.losses`, and `ssm.practice.kernels` the same as
`ssm.practice.network.kernels`. It is imported on first use: as an attribute, by `from ssm import losses`, or by
`import ssm.losses`. Type checkers know the first two ways only, since they find no file for the third. Code in `ssm/` itself imports from the rooms.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ADDRESSES = {
    "ssm.adjusted_growth": "ssm.theory.adjusted_growth",
    "ssm.balance": "ssm.results.balance",
    "ssm.collapse": "ssm.measures.collapse",
    "ssm.decision_plots": "ssm.plots.decisions",
    "ssm.defaults": "ssm.theory.defaults",
    "ssm.exact": "ssm.theory.exact",
    "ssm.fits": "ssm.results.fits",
    "ssm.geometry": "ssm.measures.geometry",
    "ssm.held_out": "ssm.measures.held_out",
    "ssm.losses": "ssm.problem.losses",
    "ssm.metrics": "ssm.measures.metrics",
    "ssm.plotting": "ssm.plots.runs",
    "ssm.posthoc": "ssm.problem.posthoc",
    "ssm.predictions": "ssm.theory.predictions",
    "ssm.profiles": "ssm.config.profiles",
    "ssm.reduction": "ssm.dynamics.coordinates",
    "ssm.regularised": "ssm.theory.regularised",
    "ssm.schedules": "ssm.problem.schedules",
    "ssm.spectral": "ssm.measures.spectral",
    "ssm.states": "ssm.measures.states",
    "ssm.step": "ssm.theory.step",
    "ssm.stores": "ssm.results.stores",
    "ssm.summaries": "ssm.cli.summaries",
    "ssm.sweep_plots": "ssm.plots.sweeps",
    "ssm.terminal": "ssm.theory.terminal",
    "ssm.weights": "ssm.problem.weights",
    **{
        f"ssm.practice.{name}": f"ssm.practice.{room}.{name}"
        for room, names in {
            "data": ("datasets",),
            "decisions": ("conformal", "costs", "curves", "factors", "shares", "thresholds"),
            "deployment": ("cards", "model_files"),
            "network": (
                "alarms",
                "batches",
                "checkpoints",
                "estimator",
                "kernels",
                "monitors",
                "networks",
                "observing",
                "tasks",
            ),
            "statistics": ("calibration", "comparisons", "evaluation"),
            "study": ("records", "strategies", "studies"),
            "reporting": ("report",),
        }.items()
        for name in names
    },
}


class AddressFinder(Loader, MetaPathFinder):
    """Imports the module in its room where its public address is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in ADDRESSES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        home = importlib.import_module(ADDRESSES[spec.name])
        spec.loader_state = home.__spec__
        return home

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just named the address as the module's origin; it stays the home.
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Make the addresses importable."""
    sys.meta_path.append(AddressFinder())
