"""The version of this package, as it was installed."""

from __future__ import annotations

import importlib.metadata

DISTRIBUTION = "small-scale-model"
"""The name by which the package `ssm` is installed. On the package index the name "ssm" belongs to another project."""


def own() -> str:
    """The version of this package."""
    return importlib.metadata.version(DISTRIBUTION)
