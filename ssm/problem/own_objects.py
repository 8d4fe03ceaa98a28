"""Objects of one's own that a run is given beside its Config: pytrees of numbers, which are told apart by their
name, their numbers and their version."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ssm.support import checks, errors

VERSION = "1, 2, ... or a word, a new one after each change of what it computes"


def as_arrays(name: str, value: PyTree) -> PyTree:
    """The pytree with its numbers as arrays, so that objects that differ only in their numbers share a compilation.

    Raises ssm.InputError, which names the argument `name`, for anything but a pytree of numbers.
    """
    try:
        leaves, structure = jax.tree.flatten(value)
        hash(structure)
    except Exception as error:
        allowed = f"a pytree of numbers, as a NamedTuple is ({type(error).__name__})"
        raise errors.invalid(name, type(value).__name__, allowed) from None
    allowed = "a pytree of numbers: a NamedTuple, an equinox.Module or a dataclass that JAX knows"
    if any(leaf is value for leaf in leaves):  # JAX does not know the parts of such an object.
        raise errors.invalid(name, value, allowed)
    arrays = []
    for leaf in leaves:
        array = checks.array(name, leaf, allowed)
        arrays.append(array if np.asarray(leaf).dtype.kind == "f" else np.asarray(leaf))
    return jax.tree.unflatten(structure, arrays)


def number_names(value: PyTree) -> tuple[str, ...]:
    """The names of those fields of a NamedTuple or a dataclass that hold a single number; none for other objects."""
    if hasattr(value, "_fields"):
        names = value._fields
    else:
        names = [field.name for field in dataclasses.fields(value)] if _is_dataclass(value) else []
    return tuple(name for name in names if np.ndim(getattr(value, name)) == 0)


def with_number(value: PyTree, name: str, number: float) -> PyTree:
    """A copy of the object whose field of that name holds another number."""
    if hasattr(value, "_fields"):
        return value._replace(**{name: np.asarray(number)})
    return dataclasses.replace(value, **{name: np.asarray(number)})


def _is_dataclass(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def identity(value: PyTree) -> dict[str, Any]:
    """The facts by which an object is told apart, as JSON types: the name of its class, its version, and its numbers by
    their place in it."""
    kind = type(value)
    leaves, _ = jax.tree_util.tree_flatten_with_path(value)
    return {
        "name": f"{kind.__module__}.{kind.__qualname__}",
        "version": _version(value),
        "numbers": {
            jax.tree_util.keystr(path).lstrip("."): np.asarray(leaf).tolist()
            for path, leaf in leaves
        },
    }


def _version(value: object) -> str | None:
    version = getattr(value, "version", None)
    return None if version is None else str(version)


def check_version(name: str, value: object) -> None:
    """Refuse an object without a version. A store that goes on later recognises the object by its version."""
    if _version(value) is None:
        allowed = f"of a class with an attribute version = {VERSION}, so that a store can go on"
        raise errors.invalid(name, type(value).__name__, allowed)
