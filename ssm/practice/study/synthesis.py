"""Made-up samples of rarer classes before a fit, by SMOTE of imbalanced-learn, which need not be installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ssm.practice.options import SMOTE
from ssm.support import errors

NEIGHBOURS = 5  # of the paper; a smaller class has fewer


def check() -> None:
    """Raises ssm.InputError where imbalanced-learn is not installed."""
    _over_sampling()


def filled_up(
    X: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], seed: int
) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]]:
    """Samples with made-up ones of all but the largest class, so that each class has as many, m = k max_c n_c: at a random
    place between a sample and one of its `NEIGHBOURS` nearest of the same class (Chawla et al. 2002). Where a
    class has one sample alone, samples are repeated in place of that.

    Args:
        X: features on one scale, as distances are of all of them.
        labels: classes 0 to k - 1, each of them there.
        seed: of the random places.

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


def _over_sampling() -> Any:
    """The part of imbalanced-learn that is needed."""
    try:
        return importlib.import_module("imblearn.over_sampling")
    except ImportError:
        allowed = "a strategy that is installed: this one needs the package imbalanced-learn"
        raise errors.invalid("strategies", SMOTE, allowed) from None
