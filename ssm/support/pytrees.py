"""Immutable dataclasses whose arrays JAX sees, so that those of one shape share a compilation."""

from __future__ import annotations

import dataclasses
from typing import Any, dataclass_transform

import jax


def static(**options: Any) -> Any:
    """A field that is fixed in what is compiled: no array, told from others by ==, hashable."""
    return dataclasses.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Pytree:
    """A base class that makes each class below it a frozen dataclass and a pytree of JAX of all its fields but those that are
    `static`.

    `equinox.Module` does more of that kind, but takes 2.4 times as long to be taken apart, which every run is several times,
    and a tenth of a second to be imported.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        made: Any = dataclasses.dataclass(frozen=True, eq=False)(cls)
        fixed = {field.name: "static" in field.metadata for field in dataclasses.fields(made)}
        jax.tree_util.register_dataclass(
            made,
            data_fields=[name for name, is_fixed in fixed.items() if not is_fixed],
            meta_fields=[name for name, is_fixed in fixed.items() if is_fixed],
        )
