"""Optimisers by name, as optax transformations of unit learning rate.

Every step is the learning rate times a direction. The rate is kept out of the transformations, so that
runs that differ in it share a compilation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from ssm.dynamics import parameters
from ssm.problem import own_objects
from ssm.support import errors


class Settings(NamedTuple):
    """Numbers of an optimiser beside its learning rate."""

    momentum: Float[Any, ""]
    sam_radius: Float[Any, ""]
    weight_decay: ArrayLike
    feature_decay: ArrayLike
    """Both decays are used by those optimisers only that apply them apart from the gradient."""


@runtime_checkable
class OwnOptimizer(Protocol):
    """An optimiser of one's own, a pytree of its numbers."""

    def transformation(self) -> optax.GradientTransformation:
        """The transformation of optax, with learning rate 1, that these numbers make."""
        ...


def polar_factor(X: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """U V^T of the singular value decomposition X = U diag(s) V^T, over those singular values that are
    more than rounding errors, so that every direction of X counts alike.

    Without that cut rounding errors would count as much in a direction in which X is exactly 0, as the classifier's
    gradient under cross-entropy is along 1^T.
    """
    U, values, V = jnp.linalg.svd(X, full_matrices=False)
    rounding = 1e3 * max(X.shape) * jnp.finfo(X.dtype).eps
    kept = values > rounding * values[0]
    return (U * kept.astype(X.dtype)[None]) @ V


def make_optimizer(name: str, settings: Settings) -> optax.GradientTransformationExtraArgs:
    """The optimiser of that name, with learning rate 1.

    - `gd`: the gradient; `momentum`, `nesterov`: with a trace m of past ones (Polyak 1964, Nesterov
      1983).
    - `normalised_gd`: the gradient over its norm, of all parameters together.
    - `class_normalised_gd`: the sum of the classes' gradients, each over its norm, which it has to be
      given as the gradient (`class_gradients.normalised_sum`); decay apart from it (PCNGD: Francazi,
      Baity-Jesi, Lucchi 2023, who have no decay).
    - `sign`: the sign of each entry.
    - `adam`: Kingma, Ba 2015; `adamw`: decay apart from it (Loshchilov, Hutter 2019).
    - `sam`: the gradient at a point climbed to along it, `sam_radius` away (Foret et al. 2021).
    - `muon`: momentum, orthogonalised by Newton-Schulz iterations (Jordan 2024), as optax has it, where
      the momentum is corrected for its start at 0. `muon_uncorrected`: as published, without that correction, in
      full precision. Orthogonalised steps do not depend on the size of the momentum, but with Nesterov's
      look ahead the correction changes its direction: early steps differ the more, the more the
      gradient has turned (the second step by 9e-4 in a run of the model).
    - `spectral_gd`: U V^T of each layer's gradient, exactly.

    Raises KeyError for another name.
    """
    return optax.with_extra_args_support(_MAKERS[name](settings))


def _decayed_apart(
    settings: Settings, direction: optax.GradientTransformation
) -> optax.GradientTransformation:
    def decay(updates: PyTree, params: PyTree) -> PyTree:
        decays = parameters.decays(settings.weight_decay, settings.feature_decay, params)
        return jax.tree.map(lambda u, p, each: u + each * p, updates, params, decays)

    return optax.chain(direction, optax.stateless(decay), optax.scale(-1.0))


def _sam(settings: Settings) -> optax.GradientTransformation:
    climb = optax.chain(_normalise(), optax.sgd(settings.sam_radius))
    return optax.contrib.sam(optax.sgd(1.0), climb, opaque_mode=True)


def _normalise() -> optax.GradientTransformation:
    return optax.normalize_by_update_norm(eps=1e-30)  # eps keeps a gradient of 0 at 0


def _muon(**numbers: Any) -> optax.GradientTransformation:
    def rows_are_outputs(params: PyTree) -> PyTree:
        return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(1, 0), params)

    return optax.contrib.muon(1.0, muon_weight_dimension_numbers=rows_are_outputs, **numbers)


def _muon_uncorrected(_: Settings) -> optax.GradientTransformation:
    """The published momentum, which optax's `muon` then orthogonalises as it is, since with no momentum of
    its own it has nothing to correct."""
    momentum = optax.trace(decay=0.95, nesterov=True)
    return optax.chain(momentum, _muon(beta=0.0, nesterov=False, eps=1e-7))


_MAKERS: dict[str, Callable[[Settings], optax.GradientTransformation]] = {
    "gd": lambda _: optax.sgd(1.0),
    "momentum": lambda settings: optax.sgd(1.0, settings.momentum),
    "nesterov": lambda settings: optax.sgd(1.0, settings.momentum, nesterov=True),
    "normalised_gd": lambda _: optax.chain(_normalise(), optax.scale(-1.0)),
    "class_normalised_gd": lambda settings: _decayed_apart(settings, optax.identity()),
    "sign": lambda _: optax.sign_sgd(1.0),
    "adam": lambda _: optax.adam(1.0),
    "adamw": lambda settings: _decayed_apart(settings, optax.scale_by_adam()),
    "sam": _sam,
    "muon": lambda _: _muon(),
    "muon_uncorrected": _muon_uncorrected,
    "spectral_gd": lambda _: optax.stateless(
        lambda updates, _: jax.tree.map(lambda x: -polar_factor(x), updates)
    ),
}


class PlainTransformation(eqx.Module):
    """A transformation of optax, as an optimiser of one's own without numbers. Each one compiles anew."""

    plain: optax.GradientTransformation = eqx.field(static=True)

    def transformation(self) -> optax.GradientTransformation:
        """The transformation itself."""
        return self.plain


def _is_transformation(value: object) -> TypeGuard[optax.GradientTransformation]:
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


def own_optimizer(value: Any) -> OwnOptimizer:
    """An optimiser of one's own, as an object that makes a transformation of optax, with learning rate 1, of its
    numbers.

    Args:
        value: a transformation of optax, or a pytree of numbers with a method `transformation()` that makes one.

    Raises:
        ssm.InputError: anything else, or a method that fails.
    """
    if _is_transformation(value):
        return PlainTransformation(value)
    allowed = (
        "a transformation of optax, or a pytree of numbers with transformation(), which makes one"
    )
    if not callable(getattr(value, "transformation", None)) or isinstance(value, type):
        raise errors.invalid("optimizer", value, allowed)
    value = own_objects.as_arrays("optimizer", value)
    try:
        made = value.transformation()
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise errors.invalid("optimizer", type(value).__name__, f"{allowed}; {said}") from None
    if not _is_transformation(made):
        raise errors.invalid("optimizer", type(value).__name__, allowed)
    return value
