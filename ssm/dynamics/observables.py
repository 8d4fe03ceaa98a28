"""Observables of one's own: what is observed of a run beside what is observed of every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from ssm.config import Config
from ssm.dynamics.columns import Columns
from ssm.dynamics.parameters import Params
from ssm.measures import geometry, spectral
from ssm.problem import own_objects
from ssm.support import errors

OWN = "own "
"""The prefix of the names of own observables while a run is followed, so that none is taken for another variable."""


@runtime_checkable
class Observable(Protocol):
    """What is observed of a run beside what is observed of every run, as a pytree of numbers."""

    @property
    def dims(self) -> tuple[str, ...]:
        """The dimensions of a value: those of a Dataset's variables except `time`, or names of one's own."""
        ...

    @property
    def units(self) -> str:
        """The units of a value, for the attribute `units`."""
        ...

    @property
    def words(self) -> str:
        """What the value is, in words, for the attribute `description`."""
        ...

    def __call__(self, params: Params, columns: Columns, time: ArrayLike) -> ArrayLike:
        """The value in a state, an array of the shape of `dims`, by operations that JAX can trace."""
        ...


class Names(NamedTuple):
    """The names that results use already."""

    taken: frozenset[str]
    """Names of variables, coordinates and fields."""
    dimensions: frozenset[str]
    """Names of dimensions."""


def own_observables(value: object, names: Names) -> dict[str, Observable]:
    """Observables of one's own by name, as pytrees of arrays.

    Raises:
        ssm.InputError: the value is something else than a mapping from new names to objects that are called with (params,
            columns, time) and have `dims`, `units` and `words`.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise errors.invalid("observables", value, "a mapping from names to observables")
    return {name: _own_observable(name, each, names) for name, each in value.items()}


def _own_observable(name: object, value: object, names: Names) -> Observable:
    if not isinstance(name, str) or not name.isidentifier():
        allowed = "a name of letters, digits and underscores"
        raise errors.invalid("observables", name, allowed)
    if name in names.taken or name in names.dimensions:
        raise errors.invalid("observables", name, "a name that no variable, field or dimension has")
    where = f"observables[{name}]"
    if not callable(value) or isinstance(value, type):
        allowed = "an object that is called with (params, columns, time)"
        raise errors.invalid(where, value, allowed)
    for attribute, kind in (("dims", tuple), ("units", str), ("words", str)):
        if not isinstance(given := getattr(value, attribute, None), kind):
            allowed = f"an object with {attribute}, a {kind.__name__}"
            raise errors.invalid(f"{where}.{attribute}", given, allowed)
    dims = value.dims
    if len(set(dims)) < len(dims) or not all(
        isinstance(dim, str) and dim.isidentifier() for dim in dims
    ):
        raise errors.invalid(
            f"{where}.dims", dims, "different names of letters, digits and underscores"
        )
    if taken := [dim for dim in dims if dim == "time" or dim in names.taken - names.dimensions]:
        allowed = (
            "other dimensions than time, which comes first anyway, and than names of variables"
        )
        raise errors.invalid(f"{where}.dims", taken[0], allowed)
    return own_objects.as_arrays(where, value)


def check_observables(
    config: Config, given: Mapping[str, Observable], params: Params, columns: Columns
) -> dict[str, tuple[int, ...]]:
    """The shapes of observables of a run, by name, padding included.

    Raises:
        ssm.InputError: an observable fails, its value is no array of real numbers, or the shape of its value is not
            that of its dimensions.
    """
    kind = "samples" if columns.inputs is not None else config.column_kind
    k, d = config.num_classes, config.feature_dim
    sizes = {
        "class": k,
        "component": k - 1,
        "block": len(spectral.BLOCKS),
        "mode": min(k, d),
        "feature": d,
        "input_feature": d,
        "layer": config.depth - 2,
        "part": len(geometry.PARTS),
        "factor": len(geometry.FACTORS),
        "input": params.H.shape[1] if columns.inputs is not None else 0,
        "sample": len(columns.labels) if kind == "samples" else 0,
    }
    shapes = {}
    with jax.enable_x64(config.dtype == "float64"):
        for name, each in given.items():
            where = f"observables[{name}]"
            try:
                value = jax.eval_shape(_asked, each, params, columns, np.float64(0))
                shape, real = tuple(value.shape), value.dtype.kind in "biuf"
            except Exception as error:
                said = " ".join(str(error).split())[:200]
                allowed = f"an array that JAX can trace; {type(error).__name__}: {said}"
                raise errors.invalid(where, type(each).__name__, allowed) from None
            if not real:
                raise errors.invalid(where, f"of type {value.dtype}", "of real numbers")
            if "sample" in each.dims and kind != "samples":
                allowed = f"without the dimension sample: this run follows its features by {kind}"
                raise errors.invalid(f"{where}.dims", each.dims, allowed)
            expected = tuple(sizes.get(dim) for dim in each.dims)
            if len(shape) != len(expected) or any(
                size not in (None, length) for size, length in zip(expected, shape, strict=True)
            ):
                allowed = f"of the shape of its dims, ({', '.join(each.dims)})"
                raise errors.invalid(where, f"of shape {shape}", allowed)
            shapes[name] = shape
    return shapes


def _asked(own: Observable, params: Params, columns: Columns, time: ArrayLike) -> Array:
    """The value of an observable, as an array."""
    return jnp.asarray(own(params, columns, time))
