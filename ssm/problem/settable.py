"""Immutable objects whose numbers have names, by which they are shown, read and changed in the manner
of scikit-learn, so that its searches reach into them."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Self

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from ssm.support import checks, errors
from ssm.support.arrays import AnyArray

LONGEST_SHOWN = 6  # Arrays with more numbers than these are shown shortened.


class Settable(eqx.Module):
    """An object made of named numbers, and of other such objects. It keeps each argument of its constructor
    as an attribute of the same name."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments by which the constructor makes an equal object, by name: numbers as floats, arrays as
        lists. With `deep` the arguments of the objects inside are there too, as `inner__exponent`."""
        params = {name: _plain(value) for name, value in self._arguments().items()}
        for name, value in list(params.items()):
            if deep and isinstance(value, Settable):
                params |= {f"{name}__{inner}": x for inner, x in value.get_params().items()}
        return params

    def set_params(self, **params: object) -> Self:
        """A new object with some parameters changed, by the names that `get_params` gives them; this
        one stays as it is, unlike a scikit-learn estimator.

        Raises ssm.InputError for a name that is no parameter's, and for a value that is not allowed.
        """
        own, inside = self.get_params(deep=False), {}
        for name, value in params.items():
            first, nested, rest = name.partition("__")
            if first not in own:
                deep = self.get_params()
                names = [
                    each
                    for each, value in deep.items()
                    if not (isinstance(value, Settable) and value.get_params())
                ]
                hint = errors.did_you_mean(name, names)
                of = type(self).__name__
                what = f"a parameter of {of}, which has {', '.join(names) or 'none'}{hint}"
                raise errors.invalid(name, value, what)
            if nested:
                inside.setdefault(first, {})[rest] = value
            else:
                own[first] = value
        for first, changes in inside.items():
            if not isinstance(own[first], Settable):
                name, value = next(iter(changes.items()))
                what = f"a parameter, and {first} has none of its own"
                raise errors.invalid(f"{first}__{name}", value, what)
            own[first] = own[first].set_params(**changes)
        return self._made_of(own)

    def _arguments(self) -> dict[str, object]:
        """The arguments of the constructor, by name, as the object keeps them."""
        taken = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in taken if hasattr(self, name)}

    def _made_of(self, arguments: Mapping[str, Any]) -> Self:
        """The object that the constructor makes of these arguments."""
        return type(self)(**arguments)

    def __sklearn_clone__(self) -> Self:
        return self  # An object that never changes may be shared.

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(x)}" for name, x in self._arguments().items())
        return f"{type(self).__name__}({shown})"


def number(
    name: str, low: float = -math.inf, high: float = math.inf, *, open_ends: str = ""
) -> Callable[[object], Float[AnyArray, ""]]:
    """A converter of a field to an array without axes, which raises InputError for a value outside [low, high].
    A value that JAX traces is not known yet, and is not checked."""

    def convert(value: object) -> Float[AnyArray, ""]:
        if isinstance(value, Tracer):
            return value
        return np.asarray(checks.real(name, value, low, high, open_ends=open_ends))

    return convert


def array(name: str, value: object) -> AnyArray:
    """`value` as an array; raises InputError for anything but real numbers."""
    return value if isinstance(value, Tracer) else checks.array(name, value, "an array of numbers")


def positive(name: str, value: object) -> Float[AnyArray, " k"]:
    """`value` as a vector of positive finite numbers; raises InputError for anything else. Of a value that JAX
    traces only the number of axes is known and checked."""
    if not isinstance(value, Tracer):
        return checks.positive(name, value)
    if value.ndim != 1:
        raise errors.invalid(name, value, "positive finite numbers, one a class")
    return value


def _plain(value: object) -> object:
    """An array as a float or a list, a Partial around a plain function as that function, and anything else, arrays
    that JAX traces among it, unchanged."""
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, Tracer):
        return np.asarray(value).tolist()
    if isinstance(value, jax.tree_util.Partial) and not value.args and not value.keywords:
        return value.func
    return value


def _shown(value: object) -> str:
    plain = _plain(value)
    if isinstance(plain, types.FunctionType):
        return plain.__qualname__  # The function's repr would hold its address in memory.
    if isinstance(plain, list) and len(plain) > LONGEST_SHOWN:
        first, last = ", ".join(map(repr, plain[:3])), repr(plain[-1])
        return f"[{first}, ..., {last}]"
    return repr(plain)
