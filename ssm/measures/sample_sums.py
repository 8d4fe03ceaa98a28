"""The sums over samples from which the spectral variables of logits follow, in one pass over blocks
of samples.

Only one block is in memory at a time, and the sums are k x k whatever the number of samples.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int, Shaped
from scipy.linalg import get_lapack_funcs

ROWS = 512
"""The number of samples in a block of the factorisation, which stays in the cache with 100 classes."""
COLUMNS = 8
"""How many columns the factorisation reflects at once. With blocks of these sizes products are too small for BLAS to
share among cores, which would wait for each other longer than they work."""

# This makes the triangle R' of a triangle R with a block below it.
(_extended,) = get_lapack_funcs(("tpqrt",), dtype=np.float64)


class SampleSums:
    """Sums over the samples of one set of logits Z^T (n x k), to which samples are added.

    Singular values come from the triangle R of the QR factorisation Z^T = Q R by Householder
    reflections, [R; block] = Q' R' for one block after another. R has the singular values of Z up to
    the rounding of the largest, |error_j| <= c eps sigma_1 with c a low power of k, which is the bound
    of a singular value decomposition of Z itself. The square roots of the eigenvalues of Z Z^T only
    have |error_j| <= c eps sigma_1^2 / sigma_j, which is as good only for the largest values, and
    logits whose columns sum to zero always have a singular value 0.

    Source: Demmel, Grigori, Hoemmen, Langou 2012 (QR by blocks of rows).
    """

    class_sums: Float[np.ndarray, "k k"]
    """Sums of logits by class, [logit, class]."""
    correct: Int[np.ndarray, " k"]
    """The number of samples of each class whose largest logit is that of their class; the first of equal logits counts as
    the largest."""
    triangle: Float[np.ndarray, "k k"]
    """R, upper triangular: R^T R = Z Z^T."""

    def __init__(self, num_classes: int):
        self.class_sums = np.zeros((num_classes, num_classes))
        self.correct = np.zeros(num_classes, dtype=np.int64)
        self.triangle = np.zeros((num_classes, num_classes), order="F")

    def add(self, logits: Shaped[np.ndarray, "m k"], labels: Int[np.ndarray, " m"]) -> None:
        """Add samples, given their finite logits, of any real type, and their labels. All sums are in
        float64."""
        k = len(self.correct)
        for first in range(0, len(labels), ROWS):
            block = np.ascontiguousarray(logits[first : first + ROWS], dtype=np.float64)
            own = labels[first : first + ROWS]
            row_ends = np.arange(len(own) + 1)
            one_hot = scipy.sparse.csr_array((np.ones(len(own)), own, row_ends), (len(own), k))
            self.class_sums += (one_hot.T @ block).T
            self.correct += np.bincount(own[block.argmax(axis=1) == own], minlength=k)
            self.triangle = _extended(0, min(COLUMNS, k), self.triangle, block, overwrite_a=True)[0]

    def singular_values(self) -> Float[np.ndarray, " k"]:
        """The k singular values of Z, largest first, of which the last k - n are 0 with n < k samples."""
        return np.linalg.svd(self.triangle, compute_uv=False)

    def energy(self, unit: float) -> float:
        """The energy |Z|^2 / unit^2 (Frobenius), with a unit that keeps the squares of very small or large logits
        from vanishing or overflowing."""
        return float(((self.triangle / unit) ** 2).sum())
