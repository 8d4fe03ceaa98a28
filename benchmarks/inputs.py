"""Features made of inputs: a field evaluation beside its products, and a run beside its bare work."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import timing
from benchmarks.table import Row, milliseconds

NOTE = """Features made of inputs, H = A X, under cross-entropy: k = 10, R = 10, noise of 400 dimensions, on one core
in a process of its own. An evaluation of the field is beside its five products, W A, (W A) X, G X^T, W^T (G X^T) and
(G X^T) A^T, and the gradient of the loss, in one compiled loop of plain arrays: the faster of two, with X^T and A^T
written out and with these as they are. Seconds are the processor's. A run of 100 saved times is beside its work limit, as in `work`."""

SIZES = ((5, 16), (5, 64), (46, 16), (46, 64))
"""Samples of a minority class, and features."""
TARGETS = (("evaluation", "its products", 1.3), ("run", "work limit", 1.5))
"""A run also adds up the slopes of its stages, of as many numbers as A has, which is much beside the work of few
samples."""
NOISE_DIM = 400
WORK = 1e9
"""Multiplications of all evaluations of one measurement."""


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    sizes, rows = SIZES[:1] if quick else SIZES, []
    with tempfile.TemporaryDirectory() as cache:
        for i, (minority_count, dim) in enumerate(sizes):
            one = timing.in_fresh_process(
                "benchmarks.inputs:measure",
                cache,
                1,
                minority_count=minority_count,
                dim=dim,
                repeats=2 if quick else 7,
            )
            for what, to, at_most in TARGETS:
                ours, limit = one[what]
                rows.append(
                    Row(
                        f"{what}, n = {one['samples']:,}, d = {dim}",
                        milliseconds(ours),
                        ours / limit,
                        f"{to}, {milliseconds(limit)}",
                        at_most=at_most,
                    )
                )
            report((i + 1) / len(sizes))
    return rows


def measure(minority_count: int, dim: int, repeats: int) -> dict[str, Any]:
    """Seconds of an evaluation and of its products, and of a run and of its work limit."""
    import jax
    import numpy as np

    import ssm
    from benchmarks.limits import bare_field, bare_work
    from ssm import preparation, simulation

    config = ssm.Config(
        minority_count=minority_count,
        feature_dim=dim,
        noise_dim=NOISE_DIM,
        coupling=0.03,
        num_saves=100,
    )
    run = preparation.prepare(config)
    columns, params = run.flow.field.columns, run.flow.params
    assert columns.inputs is not None
    steps = int(simulation.follow(run).num_steps)
    times = max(int(WORK / (config.num_classes * columns.inputs.size)), 5)
    with jax.enable_x64(True):
        risk_weights = np.asarray(columns.risk_weights)[None]
        arrays = params.W, params.H, columns.inputs, columns.member_columns.T, risk_weights
        plain = functools.partial(_products(), *jax.device_put(arrays), times, 0.0)
        works = {
            "evaluation": lambda: jax.block_until_ready(bare_field(params, columns, times)),
            "written out": lambda: jax.block_until_ready(plain(True)),
            "as they are": lambda: jax.block_until_ready(plain(False)),
            "run": lambda: simulation.follow(run),
            "limit": lambda: bare_work(run.flow, steps),
        }
        took = timing.medians(works, repeats, timing.processor_seconds)
    products = min(took["written out"], took["as they are"])
    return {
        "evaluation": (took["evaluation"] / times, products / times),
        "run": (took["run"], took["limit"]),
        "samples": sum(config.class_counts),
    }


def _products() -> Callable[..., Any]:
    """The five products and the gradient of the loss, so many times, compiled."""
    import jax
    import jax.numpy as jnp

    @functools.partial(jax.jit, static_argnums=7)
    def repeat(
        W: Any, A: Any, X: Any, Y: Any, risk_weights: Any, times: Any, nothing: Any, out: bool
    ) -> Any:
        X_T, A_T = X.T, A.T
        if out:
            X_T, A_T = jax.lax.optimization_barrier((X_T, A_T))

        def once(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            W, _ = carry
            Z = (W @ A) @ X
            P = jnp.exp(Z - Z.max(0))
            back = ((P / P.sum(0) - Y) * risk_weights) @ X_T
            return W + nothing * (back @ A_T), jax.lax.optimization_barrier(W.T) @ back

        return jax.lax.fori_loop(0, times, once, (W, A))[1]

    return repeat
