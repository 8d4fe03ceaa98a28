"""Synthetic samples of rarer classes before a fit, by SMOTE of imbalanced-learn, which need not be installed."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
from jaxtyping import Float, Int

from ssm.practice.options import SMOTE
from ssm.support import errors

NEIGHBOURS = 5  # as in the paper; a class of fewer samples has fewer neighbours


def check() -> None:
    """Raises ssm.InputError where imbalanced-learn is not installed."""
    _over_sampling()


def filled_up(
    X: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], seed: int
) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]]:
    """The samples, and synthetic ones of all but the largest class, so that each class has as many, m = k max_c n_c in all. A
    synthetic sample lies at a random place between a sample and one of its `NEIGHBOURS` nearest of the same class (Chawla et al.
    2002). Where a class has a single sample, samples of all smaller classes are repeated instead.

    Args:
        X: features, shape (n, d), all on one scale, since distances count them alike.
        labels: classes 0 to k - 1, shape (n,), each of which has samples.
        seed: the seed of the random places.

    Raises:
        ssm.InputError: imbalanced-learn is not installed.
    """
    library, counts = _over_sampling(), np.bincount(labels)
    neighbours = min(NEIGHBOURS, int(counts.min()) - 1)
    if neighbours:
        sampler = library.SMOTE(k_neighbors=neighbours, random_state=seed)
    else:
        sampler = library.RandomOverSampler(random_state=seed)
    return sampler.fit_resample(X, labels)


def _over_sampling() -> ModuleType:
    """The part of imbalanced-learn that makes samples; raises ssm.InputError where it is not installed."""
    try:
        return importlib.import_module("imblearn.over_sampling")
    except ImportError:
        allowed = "a strategy that is installed: this one needs the package imbalanced-learn"
        raise errors.invalid("strategies", SMOTE, allowed) from None
