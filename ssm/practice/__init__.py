"""Reweighting on real data: a classifier, its trainer, monitors, evaluation and studies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssm.support.errors import no_attribute

if TYPE_CHECKING:
    from ssm.practice import options
    from ssm.practice.data import datasets
    from ssm.practice.decisions import conformal, costs, curves, factors, shares, thresholds
    from ssm.practice.deployment import cards, model_files
    from ssm.practice.deployment.model_files import load_model, save_model
    from ssm.practice.network import (
        alarms,
        batches,
        checkpoints,
        estimator,
        kernels,
        monitors,
        networks,
        observing,
        tasks,
    )
    from ssm.practice.network.training_monitor import Decision, TrainingMonitor
    from ssm.practice.reporting import report
    from ssm.practice.statistics import calibration, comparisons, evaluation
    from ssm.practice.study import records, strategies, studies

__all__ = [
    "Decision",
    "TrainingMonitor",
    "alarms",
    "batches",
    "calibration",
    "cards",
    "checkpoints",
    "comparisons",
    "conformal",
    "costs",
    "curves",
    "datasets",
    "estimator",
    "evaluation",
    "factors",
    "kernels",
    "load_model",
    "model_files",
    "monitors",
    "networks",
    "observing",
    "options",
    "records",
    "report",
    "save_model",
    "shares",
    "strategies",
    "studies",
    "tasks",
    "thresholds",
]
_HOMES = {
    "Decision": "network.training_monitor",
    "TrainingMonitor": "network.training_monitor",
    "load_model": "deployment.model_files",
    "save_model": "deployment.model_files",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # A module is imported on first use, so that `import ssm` is enough to reach it and costs nothing.
    if name not in __all__:
        raise no_attribute(__name__, name, __all__)
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return importlib.import_module(f"{__name__}.{name}")
