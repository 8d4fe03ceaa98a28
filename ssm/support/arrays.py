"""Arrays of any library as NumPy's, without importing that library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ssm.support import errors

if TYPE_CHECKING:
    import jax

    AnyArray = np.ndarray | jax.Array
    """An array of NumPy's or of JAX's."""
else:
    # JAX is not imported for a name; the shapes and types of numbers are checked with it all the same.
    AnyArray = Any


def as_numpy(name: str, value: Any, allowed: str) -> np.ndarray:
    """`value` as an array of NumPy's of real numbers, of words or of truth values. It is copied only where that is needed.

    Arrays of JAX, PyTorch, Keras, TensorFlow and others that have `__array__` or speak DLPack can be given, on any
    device and whether or not gradients are followed through them. Numbers of 16 bits that NumPy does not know become float32.

    Raises:
        ssm.InputError: the value is anything else, masked arrays included; the message names the field and what is allowed.
    """
    if np.ma.isMaskedArray(value):
        raise errors.invalid(name, "a masked array", "without masked values")
    try:
        # These are methods of tensors of PyTorch, for one that is part of a graph and for one on a GPU.
        for method in ("detach", "cpu"):
            if callable(getattr(value, method, None)):
                value = getattr(value, method)()
        array = _converted(value)
        if array.dtype.kind == "V":  # the kind that bfloat16 of JAX's arrays has
            array = array.astype(np.float32)
    except Exception:  # ragged lists, and what other libraries raise
        raise errors.invalid(name, type(value).__name__, allowed) from None
    if array.dtype.kind not in "fiubUTO" or (array.dtype.kind == "O" and not _are_words(array)):
        raise errors.invalid(name, shape_of(array), allowed)
    return array


def _converted(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except TypeError:
        if callable(getattr(value, "float", None)):  # PyTorch's bfloat16, which NumPy does not know
            return np.asarray(value.float())
        return np.from_dlpack(value)


def _are_words(array: np.ndarray) -> bool:
    return all(isinstance(entry, str) for entry in array.ravel())


def shape_of(array: Any) -> str:
    """The type and shape of an array, for messages."""
    return f"{array.dtype} of shape {tuple(array.shape)}"
