"""The version of this package, as it was installed."""

from __future__ import annotations

import importlib.metadata

DISTRIBUTION = "small-scale-model"
"""What installs the package `ssm`. On the package index the name "ssm" is another project's."""


def own() -> str:
    """The version of this package."""
    return importlib.metadata.version(DISTRIBUTION)
