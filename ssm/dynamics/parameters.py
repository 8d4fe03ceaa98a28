"""The state of the small-scale model, that is classifier, hidden layers and features; how features are coupled; and
what gradient flow conserves of the state."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ssm.dynamics.columns import Columns
from ssm.support.arrays import AnyArray


class Params(NamedTuple):
    """The state as NumPy arrays, or JAX arrays within a compiled run: classifier W (k x d), feature columns H (d x m), and
    hidden layers A_1 ... A_p (d x d) between them; logits are W A_1 ... A_p H, plus a bias where there is one.

    Where samples have inputs X, H stands for the layer A (d x p) that makes features of them, A X."""

    W: Float[Any, "k d"]
    H: Float[Any, "d columns"]
    hidden: tuple[Any, ...] = ()
    bias: Any = None
    """The bias of the logits, (k, 1); None where they have none."""


def padded(params: Params, columns: Columns) -> Params:
    """The state, of host arrays, with columns of zeros appended to the features where columns are padding."""
    missing = 0 if columns.inputs is not None else len(columns.labels) - params.H.shape[1]
    return params._replace(H=np.pad(params.H, ((0, 0), (0, missing))))


def classifier(params: Params) -> Float[Array, "k d"]:
    """W A_1 ... A_p, the linear map from features to logits."""
    head = params.W
    for layer in params.hidden:
        head = head @ layer
    return head


def decays(
    weight_decay: ArrayLike | None, feature_decay: ArrayLike | None, params: Params
) -> Params:
    """The decay of each layer, in the structure of `params`; a hidden layer decays as the classifier
    does, a bias not at all."""
    bias = None if params.bias is None else 0.0
    return Params(weight_decay, feature_decay, (weight_decay,) * len(params.hidden), bias)


def couple(X: Float[AnyArray, "r m"], columns: Columns) -> Float[AnyArray, "r m"]:
    """X K, the coupling kernel K = blockdiag((1 - c) I + (c - c_b) 11^T) + beta 11^T applied to the columns
    of X (r x m)."""
    if (groups := columns.groups) is not None and columns.inputs is None:
        return groups.private * X + (X @ groups.members) @ groups.kernel @ groups.members.T
    coupled = _couple_within(X, columns)
    if columns.common is None:
        return coupled
    return coupled + (X @ columns.common)[:, None] * columns.common[None]


def _couple_within(X: Float[AnyArray, "r m"], columns: Columns) -> Float[AnyArray, "r m"]:
    """X D, with D the kernel without the part that moves all columns together."""
    if columns.kernel is not None:
        return X * columns.kernel[None]
    if columns.coupling is None:
        return X
    assert columns.between_coupling is not None
    c, within = columns.coupling, columns.coupling - columns.between_coupling
    return (1 - c) * X + within * (X @ columns.sum_columns) @ columns.sum_columns.T


def conserved_terms(
    params: Params, columns: Columns
) -> tuple[Float[AnyArray, "pairs d d"], Float[AnyArray, "pairs d d"]]:
    """The d x d matrices whose differences gradient flow keeps, one pair for each two neighbouring
    layers: shape (depth - 1, d, d) each.

    For neighbours B and A, in the product B A, they are B^T B and A A^T; the last pair has H K^-1 H^T in the place
    of A A^T. It is multiplied by 1 - c where K^-1 would grow without bound as c tends to 1. On a
    class of n_c samples (1 - c) K^-1 = I - c 11^T / kappa_c.
    """
    W, H, hidden, _ = params
    layers = [W, *hidden]
    factor, features = feature_term(H, columns)
    left = [layer.T @ layer for layer in layers]
    left[-1] = factor * left[-1]
    right = [layer @ layer.T for layer in hidden]
    return _stack(left), _stack([*right, features])


def _stack(matrices: list[AnyArray]) -> AnyArray:
    """Matrices of one shape along a new first axis."""
    # Host arrays are stacked on the host, so that they keep their precision whatever the precision of JAX is.
    return (np if isinstance(matrices[0], np.ndarray) else jnp).stack(matrices)


def feature_term(
    H: Float[AnyArray, "r columns"], columns: Columns
) -> tuple[float | Float[AnyArray, ""], Float[AnyArray, "r r"]]:
    """A factor and H K^-1 H^T times that factor, which is 1 - c where K^-1 may grow without bound, and else 1.

    With K = D + e e^T, K^-1 = D^-1 - D^-1 e e^T D^-1 / (1 + e^T D^-1 e) (Sherman, Morrison 1950).
    """
    if (groups := columns.groups) is not None and columns.inputs is None:
        sums = H @ groups.members
        return groups.private, H @ H.T - sums @ groups.inverse @ sums.T
    factor, term = _term_within(H, columns)
    if columns.common is None:
        return factor, term
    e = columns.common
    solved = e / columns.constant_eigenvalues
    pull = H @ solved
    return factor, term - factor * pull[:, None] * pull[None] / (1 + e @ solved)


def _term_within(
    H: Float[AnyArray, "r columns"], columns: Columns
) -> tuple[float | Float[AnyArray, ""], Float[AnyArray, "r r"]]:
    """The factor and the product of `feature_term`, with D in the place of K."""
    if columns.kernel is not None:
        factor = columns.conserved_factor
        weights = columns.multiplicity * factor / columns.kernel
        # The one column of a class stands for n_c samples, but its kernel, kappa_c / n_c, has that
        # number in it already.
        weights = weights if columns.coordinates else 1 / columns.kernel
        return factor, (H * weights[None]) @ H.T
    if columns.coupling is None:
        return 1.0, H @ H.T
    assert columns.between_coupling is not None
    c, sums = columns.coupling, H @ columns.sum_columns
    shares = (c - columns.between_coupling) * sums / columns.kernel_eigenvalues[None]
    return 1 - c, H @ H.T - shares @ sums.T
