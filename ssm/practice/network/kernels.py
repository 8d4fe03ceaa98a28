"""The coupling of the small-scale model, measured from the features of a real network. All of it is
derived for this project; none of it is the paper's.

What the model assumes. Features move as dH/dt = -W^T G K, with K = blockdiag((1 - c) I + c 11^T)
over samples. In a network h_i = h(x_i; theta), so dh_i/dt = -sum_j Theta_ij W^T g_j with Theta_ij =
J_i J_j^T the tangent kernel of its backbone (d x d). That is the model's flow where

1. Theta_ij = K_ij I: all features alike, as in a wide layer;
2. K_ij = u_i + u_j + a [i = j](1 - c) + a c, the last only for i, j of one class. What samples have
   in common, u_i + u_j (biases, the positive mean of rectified features, a vector added to all), adds
   S Omega (u 1^T + 1 u^T) to what is learned: the same for all samples of all classes, or along
   S Omega 1 for all of them. Neither is in a contrast of equal classes, so it is taken off;
3. K is known. For one wide random linear layer K = X^T X, which is H^T H too, the tangent kernel of
   the last layer: what `measured_coupling` is given is H. For rectifiers and more layers the class
   blocks of H^T H stand in for those of Theta.

The constant vector of class c then has the eigenvalue a kappa_c, kappa_c = 1 + c (n_c - 1), with
a_c and c_c of each class in general: kappa_c = (a_c / mean a)(1 + c_c (n_c - 1)).

Which exponent balances (contrasts among equal classes, w_c ~ n_c^-g):

- W and H both small at first, K constant until they have grown: rate w_c sqrt(n_c kappa_c) / n, the
  square root because the two factors grow together, so that g* = 1/2 + 1/2 log(kappa_maj /
  kappa_min) / log R, between 1/2 and 1. This is `theory.balancing_exponent`.
- The kernel fixed, as for a wide network of standard start whose features hardly move: dZ/dt = -G K
  grows by w_c kappa_c / n, linearly in time, so that g* = log(kappa_maj / kappa_min) / log R, which is
  twice the former less 1: 0 for free features, 1 for shared ones, and near 1 wherever c n_c >> 1.
- For samples not trained on, with the kernel fixed, only classmates count: w_c c n_c / n, g* = 1.

A real network lies between the first two, and its kernel moves: c grows as classes contract.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssm.support.errors import invalid
from ssm.theory import growth


class Coupling(NamedTuple):
    """How the features of a network couple the samples of a class.

    `coupling` is the number for `ssm advise --coupling` and `Config.coupling`; the others are what
    it comes from and what follows from it.
    """

    counts: Int[np.ndarray, " k"]
    """Samples n_c of each class."""
    class_coupling: Float[np.ndarray, " k"]
    """c_c of each class."""
    kernel_eigenvalues: Float[np.ndarray, " k"]
    """kappa_c = (a_c / mean a)(1 + c_c (n_c - 1)), a_c what a sample has of its own and its class's;
    for the model's K it is 1 + c (n_c - 1)."""
    pooled: float
    """c of all samples, each alike: least squares over the entries of K within classes."""
    equal_sampled: float
    """c of all classes, each alike, however many samples they have: the intraclass correlation of
    the features, sigma_between^2 / (sigma_between^2 + sigma_within^2)."""
    exponent: float
    """g* from small starts, at `equal_sampled` and the extreme counts."""
    class_exponent: float
    """g* from small starts, by the kappa_c of each class: 1/2 + 1/2 of the slope of log kappa_c over
    log n_c, for two sizes log(kappa_maj / kappa_min) / log R of their geometric means."""

    @property
    def coupling(self) -> float:
        """c for `ssm advise --coupling`, `ssm.advice.advise` and `Config.coupling`: `equal_sampled`,
        which no number of samples biases and which `exponent` is computed from, held to [0, 1]."""
        return min(max(self.equal_sampled, 0.0), 1.0)

    @property
    def fixed_exponent(self) -> float:
        """g* of a network whose kernel stays fixed, for the samples it is trained on; of two classes
        alone the exponent at which their margins grow alike."""
        return 2 * self.exponent - 1

    @property
    def fixed_class_exponent(self) -> float:
        """The same by the kappa_c of each class."""
        return 2 * self.class_exponent - 1

    def __repr__(self) -> str:
        """The numbers in words, a line each."""
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


def measured_coupling(features: Any, labels: Any) -> Coupling:
    """The coupling c of a network's features: how far training a sample moves its classmates, as
    the class blocks of the last layer's tangent kernel K = H H^T show it (rows are samples).

    c = (within - across) / (own - across), with own the mean of K_ii, within that of K_ij over
    different samples of a class and across that over samples of different classes. In full: with
    B_cc' = mean of K over class c and c' (c = c': over different samples, so that no number of them
    biases it), and B_cc' = beta_c + beta_c' fitted to the classes that differ, o_c = B_cc - 2 beta_c,
    s_c^2 = own_c - B_cc, a_c = o_c + s_c^2 and c_c = o_c / a_c. Rotating or scaling all features, a
    bias (K + 1) and a vector added to all of them change nothing. With two classes alone the betas
    are taken equal, so that such a vector moves c_c, though not what is averaged over classes.

    The number for `ssm advise --coupling` is `measured_coupling(features, labels).coupling`. It alone
    is held to [0, 1]: by chance c may be below 0 where it is about 0. An exponent is NaN where all
    counts are equal or some kappa_c is not positive, as for a class that lies between the others
    closer than its samples do.

    Args:
        features: H, shape (m, d), of training samples: what the last layer sees.
        labels: classes, shape (m,); at least two samples of each, of at least two classes.

    Raises InputError for anything else. What the numbers mean for a network, and what is assumed, is
    said at the head of this module.
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
    """The same from the Gram matrix of the class means of the features and the mean squared length
    of each class's features, which is all it needs: cheap to keep while a network trains."""
    n, own = counts, np.diagonal(gram)
    within = (n * own - squares) / (n - 1)
    scatter = squares - within
    between = within - 2 * _common(gram)
    size = between + scatter
    kappa = (scatter + n * between) / size.mean()
    pairs = n * (n - 1)
    pooled = (pairs @ between / pairs.sum()) / (n @ size / n.sum())
    equal = float(between.mean() / size.mean())
    extremes = int(n.max()), int(n.min())
    return Coupling(
        counts=n,
        class_coupling=between / size,
        kernel_eigenvalues=kappa,
        pooled=float(pooled),
        equal_sampled=equal,
        exponent=growth.balancing_exponent(*extremes, min(max(equal, 0.0), 1.0)),
        class_exponent=_class_exponent(n, kappa),
    )


def _common(gram: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """beta_c of what classes have in common, gram_cc' = beta_c + beta_c' for c != c' by least
    squares, the smallest ones where there are several."""
    k = len(gram)
    across = gram.sum(axis=1) - np.diagonal(gram)
    return np.linalg.pinv((k - 2) * np.eye(k) + 1) @ across


def _class_exponent(counts: Int[np.ndarray, " k"], kappa: Float[np.ndarray, " k"]) -> float:
    sizes = np.log(counts) - np.log(counts).mean()
    if np.ptp(counts) == 0 or not (kappa > 0).all():
        return float("nan")
    return float(0.5 + 0.5 * (sizes @ np.log(kappa)) / (sizes @ sizes))


def _checked(features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features as float64, classes as 0 .. k - 1, and samples of each."""
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
