"""How class sizes adjust the logits of cross-entropy, for NumPy and JAX alike.

What is here needs no JAX, so that theory can use it too; `losses` adds what needs it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

Scalar = float | int | Float[Any, ""]


class ClassAdjustments(NamedTuple):
    """What each class's logit is changed by: z'_c = factors_c z_c + offsets_c - [c = y] margins_c."""

    factors: Float[Any, " k"]
    offsets: Float[Any, " k"]
    margins: Float[Any, " k"]
    """Taken off the logit of the label alone."""


def class_adjustments(
    counts: Float[np.ndarray, " k"],
    *,
    additive_adjustment: Scalar,
    multiplicative_adjustment: Scalar,
    largest_margin: Scalar,
    logit_scale: Scalar,
) -> ClassAdjustments:
    """The adjustments of classes of given sizes, each of shape (k,); arrays of JAX where the number that
    it comes from is one.

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
