"""Immutable dataclasses whose arrays JAX sees, so that those of one shape share a compilation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Self, dataclass_transform

import jax


def static(**options: Any) -> Any:
    """A field that is fixed in what is compiled: no array, told from others by ==, hashable."""
    return dataclasses.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Pytree:
    """A base class that makes each class below it a frozen dataclass and a pytree of JAX of all its fields but those that are
    `static`.

    `equinox.Module` does more of that kind, but takes a tenth of a second to be imported, and longer to be made and taken apart.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        made: Any = dataclasses.dataclass(frozen=True, eq=False)(cls)
        fields = dataclasses.fields(made)
        fixed = tuple(field.name for field in fields if "static" in field.metadata)
        parts = tuple(field.name for field in fields if "static" not in field.metadata)
        keys = tuple(map(jax.tree_util.GetAttrKey, parts))

        def flatten(tree: Pytree) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            held = vars(tree)
            return tuple([held[name] for name in parts]), tuple([held[name] for name in fixed])

        def flatten_with_keys(tree: Pytree) -> tuple[Iterable[tuple[Any, Any]], tuple[Any, ...]]:
            values, structure = flatten(tree)
            return tuple(zip(keys, values, strict=True)), structure

        def unflatten(structure: tuple[Any, ...], values: Iterable[Any]) -> Self:
            # JAX puts all kinds of things in the place of arrays, with which no object of the class is ever made.
            tree = object.__new__(cls)
            vars(tree).update(zip(parts, values, strict=True))
            vars(tree).update(zip(fixed, structure, strict=True))
            return tree

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
