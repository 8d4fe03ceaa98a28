"""One run, Config to Dataset: the front door."""

from __future__ import annotations

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
from ssm.dynamics import Columns
from ssm.model import Params
from ssm.problem import Problem, make_problem


class Observer(eqx.Module):
    """What a run is asked at each saved time. A pytree, so that runs of one shape share a compilation."""

    columns: Columns
    multiplicity: Float[Any, " m"]
    counts: Float[Any, " k"]
    components: spectral.LabelSpectrum
    conserved: Float[Any, "d d"]
    loss: str = eqx.field(static=True)
    keep_state: bool = eqx.field(static=True)

    def __call__(self, params: Params) -> dict[str, Any]:
        """Every time-dependent variable of the Dataset but the block means."""
        columns, loss = self.columns, losses.LOSSES[self.loss]
        logits = params.W @ params.H
        class_columns = columns.class_columns
        class_sums = (logits * self.multiplicity[None]) @ class_columns
        strength = spectral.strengths(class_sums, self.components)
        samples = logits * jnp.sqrt(self.multiplicity)[None]
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
            "residual": spectral.residual(strength, (samples**2).sum()),
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
    columns = dynamics.make_columns(problem)
    classifier, features = model.conserved_terms(params, columns.class_columns, columns.coupling)
    return Observer(
        columns=columns,
        multiplicity=problem.multiplicity,
        counts=problem.counts.astype(np.float64),
        components=components._replace(blocks=()),
        conserved=classifier - features,
        loss=config.loss,
        keep_state=config.save_state,
    )


def save_times(config: Config, t1: float) -> Float[np.ndarray, " t"]:
    """The observed times, 0 to t1: evenly spaced, or 0 and then four decades up to t1."""
    if config.save_spacing == "linear":
        return np.linspace(0.0, t1, config.num_saves)
    return np.concatenate([[0.0], np.geomspace(t1 * 1e-4, t1, config.num_saves - 1)])


def simulate(config: Config, progress: Callable[[float], None] | None = None) -> xr.Dataset:
    """Run the small-scale model once.

    Gradient flow dW/dt = -G H^T, dH/dt = -W^T G K on L = (1/n) sum_i w_{y_i} l(z_i, y_i), Z = W H, from the start and to
    the time that `config` names. A run that fails (out of steps, step too small, not finite) returns a Dataset too, with that
    status and NaN for what it did not reach.

    Args:
        config: every number of the run.
        progress: called now and then with the share of the run done, in [0, 1].

    Returns:
        A Dataset over `time` (flow time), `class`, `component`, `block` and `mode` as `results.dataset` describes.

    Raises:
        Nothing of its own: bad values are refused when the Config is made.
    """
    problem = make_problem(config)
    components = spectral.label_spectrum(problem.counts, class_groups=problem.class_groups)
    params = model.initial_params(config, problem)
    t1 = theory.automatic_t1(config, problem) if config.t1 is None else config.t1
    with jax.enable_x64(config.dtype == "float64"):
        trajectory = dynamics.gradient_flow(
            params,
            dynamics.make_columns(problem),
            config.loss,
            save_times(config, t1),
            make_observer(config, problem, params, components),
            rtol=config.rtol,
            atol=config.atol,
            solver=config.solver,
            max_steps=config.max_steps,
            progress=progress,
        )
    return results.dataset(
        config,
        problem,
        components,
        trajectory,
        predicted_learning_time=theory.predicted_learning_times(config, problem, components),
        device=jax.devices()[0].device_kind,
    )
