"""The coupling of the small-scale model, measured from the features of a real network. All of it is
derived for this project; none of it is the paper's.

The model assumes that features move as dH/dt = -W^T G K, with K = blockdiag((1 - c) I + c 11^T) over
samples. In a network with features h_i = h(x_i; theta) it is dh_i/dt = -sum_j Theta_ij W^T g_j, with
Theta_ij = J_i J_j^T the tangent kernel of its backbone (d x d). That is the model's flow if

1. Theta_ij = K_ij I: all features behave alike, as in a wide layer;
2. K_ij = u_i + u_j + a [i = j](1 - c) + a c, the last term only for i and j of one class. The part
   u_i + u_j that samples have in common (biases, the positive mean of rectified features, a vector
   added to all of them) adds S Omega (u 1^T + 1 u^T) to what is learned, which is the same for all
   samples of all classes, or lies along S Omega 1 for all of them. Neither contributes to a contrast
   of equal classes, so it is subtracted;
3. K is known. For one wide random linear layer K = X^T X, which is also H^T H, the tangent kernel of
   the last layer, and H is what `measured_coupling` is given. For rectifiers and more layers the class
   blocks of H^T H stand in for those of Theta.

The constant vector of class c then has the eigenvalue a kappa_c with kappa_c = 1 + c (n_c - 1). In
general a and c differ by class: kappa_c = (a_c / mean a)(1 + c_c (n_c - 1)).

The exponent g of weights w_c ~ n_c^-g that balances the classes (contrasts among equal classes) is g*:

- If W and H are both small at first and K is constant until they have grown, the rate is
  w_c sqrt(n_c kappa_c) / n, with a square root since the two factors grow together. So
  g* = 1/2 + 1/2 log(kappa_maj / kappa_min) / log R, between 1/2 and 1: `theory.balancing_exponent`.
- If the kernel is fixed, as for a wide network of standard start whose features hardly move,
  dZ/dt = -G K grows at w_c kappa_c / n, linearly in time. So g* = log(kappa_maj / kappa_min) / log R,
  twice the former less 1: 0 for free features, 1 for shared ones, and near 1 wherever c n_c >> 1.
- For samples not trained on, with the kernel fixed, only classmates count: w_c c n_c / n and g* = 1.

A real network lies between the first two, and its kernel moves: c grows as classes contract.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ssm.support.errors import invalid
from ssm.theory import growth


class Coupling(NamedTuple):
    """How strongly the features of a network couple the samples of a class.

    `coupling` is the number for `ssm advise --coupling` and `Config.coupling`. The other numbers are
    those it is computed from, and those that follow from it.
    """

    counts: Int[np.ndarray, " k"]
    """Samples n_c of each class."""
    class_coupling: Float[np.ndarray, " k"]
    """c_c of each class."""
    kernel_eigenvalues: Float[np.ndarray, " k"]
    """kappa_c = (a_c / mean a)(1 + c_c (n_c - 1)), with a_c the mean squared length of a sample's
    features less what all classes have in common; for the model's K it is 1 + c (n_c - 1)."""
    pooled: float
    """c with every sample counted alike: least squares over the entries of K within classes."""
    equal_sampled: float
    """c with every class counted alike, however many samples it has: the intraclass correlation of
    the features, sigma_between^2 / (sigma_between^2 + sigma_within^2)."""
    exponent: float
    """g* from small starts, at `equal_sampled` and the extreme counts."""
    class_exponent: float
    """g* from small starts by the kappa_c of each class: 1/2 + 1/2 of the slope of log kappa_c over
    log n_c. For classes of two sizes that slope is log(kappa_maj / kappa_min) / log R, of geometric
    means."""

    @property
    def coupling(self) -> float:
        """c for `ssm advise --coupling`, `ssm.advice.advise` and `Config.coupling`: `equal_sampled`
        clipped to [0, 1]. The number of samples does not bias it, and `exponent` is computed from it."""
        return min(max(self.equal_sampled, 0.0), 1.0)

    @property
    def fixed_exponent(self) -> float:
        """g* of a network whose kernel stays fixed, for the samples that it is trained on. With only two
        classes it is the exponent at which their margins grow alike."""
        return 2 * self.exponent - 1

    @property
    def fixed_class_exponent(self) -> float:
        """`fixed_exponent` by the kappa_c of each class."""
        return 2 * self.class_exponent - 1

    def __repr__(self) -> str:
        """The numbers with what they mean, one on each line."""
        n, of_classes = self.counts, self.class_coupling
        among = f"{len(n)} classes of {n.min()} to {n.max()} samples"
        span = f"{of_classes.min():.3g} to {of_classes.max():.3g}"
        rows = {
            "coupling": f"{self.coupling:.3g}, the number for `ssm advise --coupling`",
            "equal_sampled": f"{self.equal_sampled:.3g}, the same before it is held to [0, 1]",
            "pooled": f"{self.pooled:.3g}, every sample alike instead of every class",
            "class_coupling": f"{span}, of each class",
            "exponent": f"{self.exponent:.3g}, g* from small starts",
            "fixed_exponent": f"{self.fixed_exponent:.3g}, g* with the kernel fixed",
            "class_exponent": f"{self.class_exponent:.3g}, g* by the kappa_c of each class",
        }
        return "\n".join([f"Coupling of {among}", *(f"  {a:<14}  {b}" for a, b in rows.items())])


def measured_coupling(features: ArrayLike, labels: ArrayLike) -> Coupling:
    """The coupling c of a network's features: how far training a sample moves its classmates, as
    the class blocks of the last layer's tangent kernel K = H H^T show it (rows are samples).

    c = (within - across) / (self - across), with self the mean of K_ii, within the mean of K_ij over
    different samples of one class, and across the mean over samples of different classes. In full:
    B_cc' is the mean of K over the samples of classes c and c' (for c = c' over different samples, so
    that their number does not bias it), and B_cc' = beta_c + beta_c' is fitted to pairs of different
    classes. Then o_c = B_cc - 2 beta_c, s_c^2 = self_c - B_cc, a_c = o_c + s_c^2 and c_c = o_c / a_c.
    Rotating or scaling all features, a bias (K + 1), and adding one vector to all features change
    nothing. With only two classes the betas are taken to be equal; a vector added to all features then
    moves c_c, but not what is averaged over classes.

    The number for `ssm advise --coupling` is `measured_coupling(features, labels).coupling`. It alone
    is clipped to [0, 1]: where c is about 0, the others may be negative by chance. An exponent is NaN
    where all counts are equal or some kappa_c is not positive, as for a class whose mean lies closer
    to the other classes than its samples lie to each other.

    Example:
        >>> features = [[1.0, 0.0], [0.8, 0.2], [0.0, 1.0], [0.1, 0.9], [0.0, 1.1], [0.2, 1.0]]
        >>> round(measured_coupling(features, [0, 0, 1, 1, 1, 1]).coupling, 2)
        0.96

    Args:
        features: H, shape (m, d), the features that the last layer is given, of training samples.
        labels: classes, shape (m,): at least two classes, and at least two samples of each.

    Raises:
        ssm.InputError: anything else.

    The head of this module says what the numbers mean for a network and what they assume.
    """
    H, classes, counts = _checked(features, labels)
    order = np.argsort(classes, kind="stable")
    sums = np.add.reduceat(H[order], np.cumsum(counts) - counts, axis=0)
    squares = np.bincount(classes, (H**2).sum(axis=1)) / counts
    means = sums / counts[:, None]
    return coupling_of_moments(means @ means.T, squares, counts)


def coupling_of_moments(
    gram: Float[np.ndarray, "k k"], squares: Float[np.ndarray, " k"], counts: Int[np.ndarray, " k"]
) -> Coupling:
    """`measured_coupling` from the moments that it depends on, which are cheap to keep while a network
    trains.

    Args:
        gram: inner products of the classes' mean features, shape (k, k).
        squares: mean squared length of the features of each class, shape (k,).
        counts: samples n_c of each class, shape (k,).
    """
    n, mean_squares = counts, np.diagonal(gram)
    within = (n * mean_squares - squares) / (n - 1)
    scatter = squares - within
    between = within - 2 * _common(gram)
    size = between + scatter
    kernel_eigenvalues = (scatter + n * between) / size.mean()
    pairs = n * (n - 1)
    pooled = (pairs @ between / pairs.sum()) / (n @ size / n.sum())
    equal_sampled = float(between.mean() / size.mean())
    extremes = int(n.max()), int(n.min())
    return Coupling(
        counts=n,
        class_coupling=between / size,
        kernel_eigenvalues=kernel_eigenvalues,
        pooled=float(pooled),
        equal_sampled=equal_sampled,
        exponent=float(growth.balancing_exponent(*extremes, min(max(equal_sampled, 0.0), 1.0))),
        class_exponent=_class_exponent(n, kernel_eigenvalues),
    )


def _common(gram: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """beta_c, what each class has in common with all: gram_cc' = beta_c + beta_c' is solved for c != c'
    by least squares, by the smallest solution where there are several."""
    k = len(gram)
    across = gram.sum(axis=1) - np.diagonal(gram)
    if k == 2:  # Only the sum of the two matters.
        return np.full(2, across.sum() / 4)
    return (across - across.sum() / (2 * k - 2)) / (k - 2)  # the inverse of (k - 2) I + 1 1^T


def _class_exponent(counts: Int[np.ndarray, " k"], kappa: Float[np.ndarray, " k"]) -> float:
    """g* from small starts by the slope of log kappa_c over log n_c; NaN where there is none."""
    sizes = np.log(counts) - np.log(counts).mean()
    if np.ptp(counts) == 0 or not (kappa > 0).all():
        return float("nan")
    return float(0.5 + 0.5 * (sizes @ np.log(kappa)) / (sizes @ sizes))


def _checked(
    features: ArrayLike, labels: ArrayLike
) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"], Int[np.ndarray, " k"]]:
    """The features as float64, the classes as 0 .. k - 1, and the number of samples of each class."""
    H, y = np.asarray(features), np.asarray(labels)
    if H.ndim != 2 or H.dtype.kind not in "fiu" or not all(H.shape):
        shown = f"{H.dtype} of shape {H.shape}"
        raise invalid(
            "features", shown, "real numbers of shape (samples, features), with no axis empty"
        )
    H = H.astype(np.float64)
    if not np.isfinite(H).all():
        raise invalid("features", "not finite", "finite everywhere")
    if y.shape != (len(H),):
        raise invalid("labels", f"of shape {y.shape}", f"{len(H)} classes, one a row of features")
    names, classes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise invalid("labels", names.tolist(), "of at least two classes")
    if counts.min() < 2:
        alone = names[counts.argmin()].item()
        raise invalid("labels", f"one sample of class {alone!r}", "at least two of each class")
    if not np.ptp(H, axis=0).any():
        raise invalid("features", "the same for all samples", "of samples that differ")
    return H, classes, counts
