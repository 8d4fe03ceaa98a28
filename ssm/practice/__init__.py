"""Reweighting on real data: a classifier, its trainer, monitors, evaluation and studies."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import Any

# A module is imported on first use, so that `import ssm` is enough to reach it and costs nothing.


def __dir__() -> list[str]:
    return sorted({*globals(), *(found.name for found in pkgutil.iter_modules(__path__))})


def __getattr__(name: str) -> Any:
    if importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
