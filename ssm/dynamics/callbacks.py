"""How far a compiled loop has come, told to whoever listens while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

# Listeners are looked up when a report comes. If they were part of the compiled run, each new one would
# compile the run anew.
_listeners: list[Callable[[float], None]] = []


def _report(share: Any) -> None:
    for listener in _listeners:
        listener(float(share))


@contextlib.contextmanager
def reporting_to(listener: Callable[[float], None] | None) -> Iterator[None]:
    """Pass what is reported inside on to `listener`, if there is one."""
    if listener is None:
        yield
        return
    _listeners.append(listener)
    try:
        yield
        jax.effects_barrier()
    finally:
        _listeners.remove(listener)


def report_share(reported: Array, share: Array, report: bool) -> Array:
    """Report the share done, at most a hundred times a run; returns what was reported last."""
    if not report:
        return reported

    def tell(now: Array) -> Array:
        jax.debug.callback(_report, now)
        return now

    return jax.lax.cond(share - reported >= 0.01, tell, lambda _: reported, share)


def report_end(reported: Array) -> None:
    """Report that all is done, after what was reported last."""
    # The value depends on the last report, so that this callback runs after it.
    jax.debug.callback(_report, jnp.maximum(reported, 1))
