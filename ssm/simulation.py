"""One run, Config to Dataset: the front door."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm import dynamics, losses, metrics, model, results, spectral, theory
from ssm.config import Config
from ssm.dynamics import Columns, Trajectory
from ssm.model import Params
from ssm.problem import Problem, make_problem

MOST_PASSES = 6  # each narrows a gap by about the number of saves, fifty or more


class Observer(eqx.Module):
    """What a run is asked at each saved time. A pytree, so that runs of one shape share a
    compilation."""

    columns: Columns
    multiplicity: Float[Any, " m"]
    counts: Float[Any, " k"]
    components: spectral.LabelSpectrum
    conserved: Float[Any, "d d"]
    keep_state: bool = eqx.field(static=True)

    def __call__(self, params: Params) -> dict[str, Any]:
        """Every time-dependent variable of the Dataset but the block means."""
        columns, loss = self.columns, losses.LOSSES[self.columns.loss]
        logits = params.W @ params.H
        class_columns = columns.class_columns
        class_sums = (logits * self.multiplicity[None]) @ class_columns
        strength = spectral.strengths(class_sums, self.components)
        samples = logits * jnp.sqrt(self.multiplicity)[None]
        largest = jnp.abs(samples).max()
        largest = largest + (largest == 0)  # a scale, so that squares of small logits are not 0
        classifier, features = model.conserved_terms(params, class_columns, columns.coupling)
        scale = jnp.linalg.norm(classifier) + jnp.linalg.norm(features)
        values = loss.value(logits, columns.labels)
        observed = {
            "loss": losses.risk(loss, logits, columns.labels, columns.risk_weights),
            "class_loss": values @ class_columns / class_columns.sum(0),
            "class_accuracy": metrics.class_accuracy(logits, columns.labels, class_columns),
            "strength": strength,
            "class_strength": spectral.class_strengths(class_sums, self.counts),
            "singular_value": jnp.linalg.svd(samples, compute_uv=False, full_matrices=False)[
                : min(params.W.shape)
            ],
            "residual": spectral.residual(strength / largest, ((samples / largest) ** 2).sum()),
            "drift": jnp.linalg.norm(classifier - features - self.conserved)
            / (scale + (scale == 0)),
        }
        if self.keep_state:
            observed |= {"W": params.W, "H": params.H}
        return observed


def make_observer(
    config: Config, problem: Problem, params: Params, components: spectral.LabelSpectrum
) -> Observer:
    """The observer of one run, which remembers the conserved matrix of its start."""
    columns = dynamics.make_columns(problem, config.loss)
    classifier, features = model.conserved_terms(params, columns.class_columns, columns.coupling)
    return Observer(
        columns=columns,
        multiplicity=problem.multiplicity,
        counts=problem.counts.astype(np.float64),
        components=components._replace(blocks=()),
        conserved=classifier - features,
        keep_state=config.save_state,
    )


def save_times(config: Config, t1: float) -> Float[np.ndarray, " t"]:
    """The observed times, 0 to t1: evenly spaced, or 0 and then four decades up to t1."""
    if config.save_spacing == "linear":
        return np.linspace(0.0, t1, config.num_saves)
    return np.concatenate([[0.0], np.geomspace(t1 * 1e-4, t1, config.num_saves - 1)])


def resolve_learning(
    follow: Callable[..., Trajectory], trajectory: Trajectory, components: spectral.LabelSpectrum
) -> tuple[Float[np.ndarray, " t"], dict[str, np.ndarray]]:
    """Strengths at enough times to read every learning time from.

    Where the saved times jump over a crossing the run is followed again through times in between,
    as many as were saved, so that nothing is compiled (but at least fifty); the solver's steps do
    not depend on where it is observed.

    Returns:
        times, and `strength` and `class_strength` at them.
    """
    size = max(len(trajectory.times), 50)
    times, finest = trajectory.times, np.finfo(trajectory.observations["strength"].dtype).eps
    known = {name: trajectory.observations[name] for name in ("strength", "class_strength")}
    for _ in range(MOST_PASSES):
        progress = np.hstack(list(results.learning_progress(known, components).values()))
        gaps = [
            (start, end)
            for start, end in spectral.unresolved(times, progress)
            if (end - start) / size > 4 * finest * end
        ]
        if not gaps:
            break
        shares = np.array_split(np.arange(size - 1), len(gaps))
        inside = [
            np.linspace(start, end, len(share) + 1)[1:]
            for (start, end), share in zip(gaps, shares, strict=True)
            if len(share)
        ]
        again = follow(times=np.concatenate([[0.0], *inside]))
        times, order = np.unique(np.concatenate([times, again.times]), return_index=True)
        known = {
            name: np.concatenate([values, again.observations[name]])[order]
            for name, values in known.items()
        }
    return times, known


def simulate(config: Config, progress: Callable[[float], None] | None = None) -> xr.Dataset:
    """Run the small-scale model once.

    Gradient flow dW/dt = -G H^T, dH/dt = -W^T G K on L = (1/n) sum_i w_{y_i} l(z_i, y_i), Z = W H,
    from the start and to the time that `config` names. A run that fails (out of steps, step too
    small, not finite) returns a Dataset too, with that status and NaN for what it did not reach.

    Args:
        config: every number of the run.
        progress: called now and then with the share of the run done, in [0, 1].

    Returns:
        A Dataset. Over `time` (flow time): `loss`, `residual`, `drift`; by class `class_loss`,
        `class_accuracy`, `class_strength`; by component `strength`; by block `block_strength`; by
        mode `singular_value`; `W` and `H` when asked for. `learning_time`, `class_learning_time`,
        `block_learning_time` (when half of the target is reached, NaN where it is not) and
        `predicted_learning_time`. Coordinates hold each class's count, weight and group, and each
        component's and block's target. The attributes hold the Config as JSON, the `status`, and
        the origin. Each variable's own attributes say what it is.
    """
    problem = make_problem(config)
    components = spectral.components(problem)
    params = model.initial_params(config, problem)
    t1 = theory.automatic_t1(config, problem) if config.t1 is None else config.t1
    observer = make_observer(config, problem, params, components)
    follow = functools.partial(
        dynamics.gradient_flow,
        params,
        observer.columns,
        observe=observer,
        rtol=config.rtol,
        atol=config.absolute_tolerance,
        solver=config.solver,
        max_steps=config.max_steps,
    )
    with jax.enable_x64(config.dtype == "float64"):
        trajectory = follow(times=save_times(config, t1), progress=progress)
        quietly = None if progress is None else lambda share: None  # shares the compilation
        finer = resolve_learning(
            functools.partial(follow, progress=quietly), trajectory, components
        )
    return results.dataset(
        config,
        problem,
        components,
        trajectory,
        finer=finer,
        predicted_learning_time=theory.predicted_learning_times(config, problem, components),
        device=jax.devices()[0].device_kind,
    )
