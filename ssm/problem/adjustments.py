"""How class sizes adjust the logits of cross-entropy, for NumPy and JAX alike.

This module does not import JAX, so that theory can use it too; `losses` holds the rest, which needs JAX.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ssm.support.arrays import AnyArray

Scalar = float | int | Float[AnyArray, ""]


class ClassAdjustments(NamedTuple):
    """The numbers that change the logit of each class: z'_c = factors_c z_c + offsets_c - [c = y] margins_c. They are
    arrays of NumPy, as theory needs them, or of JAX where a number is one."""

    factors: Float[Any, " k"]
    offsets: Float[Any, " k"]
    margins: Float[Any, " k"]
    """m_c, which is taken off the logit of the label alone."""


def class_adjustments(
    counts: Float[np.ndarray, " k"],
    *,
    additive_adjustment: Scalar,
    multiplicative_adjustment: Scalar,
    largest_margin: Scalar,
    logit_scale: Scalar,
) -> ClassAdjustments:
    """The adjustments of classes of given sizes, each of shape (k,): an array of JAX where it comes from a number
    that is one.

    factors_c = s (n_c / n_max)^g,  offsets_c = tau log(n_c / n),  margins_c = s m (n_min / n_c)^(1/4)

    Args:
        counts: samples n_c > 0 of each class, shape (k,), on the host.
        additive_adjustment, multiplicative_adjustment, largest_margin, logit_scale: tau, g, m and s, as
            `losses.adjustment` describes them, with the sources there.
    """
    n = counts
    return ClassAdjustments(
        factors=logit_scale * (n / n.max()) ** multiplicative_adjustment,
        offsets=additive_adjustment * np.log(n / n.sum()),
        margins=logit_scale * largest_margin * (n.min() / n) ** 0.25,
    )
