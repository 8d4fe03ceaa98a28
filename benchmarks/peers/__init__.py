"""The same runs by other means: scipy, torch, torchdiffeq, and diffrax as one would first call it.

A peer is a function of a Config and an accuracy, which follows the run and works out everything
that `ssm.simulate` returns over time; it gives back the block strengths (time, block).
"""

from __future__ import annotations

import importlib

from ssm import InputError

PACKAGES = ("diffrax", "scipy", "threadpoolctl", "torch", "torchdiffeq")


def require() -> None:
    """Refuse to begin without the packages of the peers."""
    missing = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise InputError(
            f"not installed: {', '.join(missing)}; pip install -c constraints.txt -e '.[bench]' in this project's folder has them"
        )
