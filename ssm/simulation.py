"""One run, Config to Dataset: the front door."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from ssm import dynamics, geometry, model, reduction, results, spectral, theory, weights
from ssm.columns import Columns, make_columns
from ssm.config import Config
from ssm.dynamics import Flow, Trajectory
from ssm.fields import Field
from ssm.model import Params
from ssm.problem import Problem, make_problem
from ssm.reduction import Reduced


class Observer(eqx.Module):
    """What a run is asked: a `dynamics.Observe`."""

    rows: Float[Any, "k k"]
    """Left vectors of the label matrix and the constant one: rows in which logits are followed."""
    targets: Float[Any, " r"]
    block_weights: Float[Any, "blocks r"]
    field: Field
    conserved: Float[Any, "pairs d d"] | None
    """What the flow keeps, at the start; it fades by e^(-2 lam t) where all layers decay alike. None
    where nothing is kept."""
    basis: Float[Any, "k p width"] | None
    """Where columns are coordinates: those of the samples that accuracy is measured on."""
    drawn: Float[Any, "k p"] | None
    """1 where a class has such a sample."""
    width: int = eqx.field(static=True)
    """d."""
    keep_state: bool = eqx.field(static=True)
    keep_margin: bool = eqx.field(static=True)
    keep_geometry: bool = eqx.field(static=True)

    @property
    def columns(self) -> Columns:
        """Those of the field."""
        return self.field.columns

    def __call__(self, params: Params, time: Any) -> dict[str, Any]:
        """Sums over samples, from which `summarise` makes the variables of a Dataset."""
        columns, H, W = self.columns, params.H, model.classifier(params)
        # an upper bound of the logits, without which squares of small ones would be 0
        unit = jnp.linalg.norm(W) * jnp.linalg.norm(H)
        turning = (self.rows.T @ W) / (unit + (unit == 0))
        totals = columns.total(lambda part, features: self._sums(part, W, turning, features), H)
        observed = {
            "loss": totals["loss"],
            "class_loss": totals["values"][0] / columns.counts,
            "class_sums": totals["class_sums"],
            "unit": unit,
            "gram": totals["gram"],
        }
        if self.conserved is not None:
            observed["drift"] = self._drift(params, time, totals.get("scatter"))
        if self.keep_margin:
            logits = W @ H
            observed |= {"log_loss": columns.log_risk(logits), "margin": columns.margin(logits)}
        if self.field.weight_decay is not None:
            observed["objective"] = observed["loss"] + self.field.penalty(params)
        if self.keep_geometry:
            observed |= self._geometry(W, H, totals["class_sums"])
        if self.basis is None:
            observed["class_accuracy"] = totals["values"][1] / columns.counts
        else:
            observed["class_accuracy"] = _coordinate_accuracy(W @ H, self.basis, self.drawn)
        if self.keep_state:
            observed |= {"W": params.W, "H": H}
            observed |= {"hidden": jnp.stack(params.hidden)} if params.hidden else {}
        return observed

    def _drift(self, params: Params, time: Any, scatter: Any) -> Any:
        """Change of what the flow keeps, over the size of its terms."""
        if scatter is None:
            left, right = model.conserved_terms(params, self.columns)
        else:
            left, right = (params.W.T @ params.W)[None], scatter[None]
        kept = self.conserved
        if self.field.weight_decay is not None:
            kept = kept * jnp.exp(-2 * self.field.weight_decay * time)
        scale = jnp.linalg.norm(left) + jnp.linalg.norm(right)
        return jnp.linalg.norm(left - right - kept) / (scale + (scale == 0))

    def _geometry(self, W: Any, H: Any, class_sums: Any) -> dict[str, Any]:
        """Classifier, class means and how samples deviate from them."""
        columns = self.columns
        means = (H @ columns.sum_columns) / columns.counts[None]
        deviations = H - means[:, columns.labels] * columns.constant[None]
        weighted = deviations * columns.multiplicity[None]
        balanced = weighted / (columns.counts[columns.labels] * len(columns.counts))[None]
        logits, features, members = W @ H, H, columns.member_columns
        if self.basis is not None:
            features, members = _drawn_samples(H, self.basis, self.drawn)
            logits = W @ features
        return {
            "classifier": W,
            "means": means,
            "scatter": weighted @ deviations.T,
            "within": balanced @ deviations.T,
            "nc4": geometry.nearest_mean_mismatch(logits, features, means, members),
        }

    def _sums(self, columns: Columns, W: Any, turning: Any, H: Any) -> dict[str, Any]:
        """What is a sum over columns."""
        logits = W @ H
        turned = turning @ H
        if self.field.loss_clock:  # there the loss itself would round to 0
            values = [jnp.exp(columns.log_losses(logits))]
        else:
            values = [columns.losses(logits)]
        if self.basis is None:
            values.append((logits.argmax(0) == columns.labels).astype(logits.dtype))
        sums = {
            "loss": jnp.dot(columns.risk_weights, values[0]),
            "values": jnp.stack(values) @ columns.member_columns,
            "class_sums": logits @ columns.sum_columns,
            "gram": (turned * columns.multiplicity[None]) @ turned.T,
        }
        return sums | ({"scatter": H @ H.T} if self.columns.many else {})

    @property
    def _spectrum(self) -> spectral.LabelSpectrum:
        """The label matrix's, without the names of blocks, which cannot be compiled."""
        return spectral.LabelSpectrum(self.rows[:, :-1], self.targets, np.array(()))

    def watch(self, params: Params) -> Float[Any, " s"]:
        """What learning times are read from: the shares of their targets that components, classes
        and blocks have reached, s = (k - 1) + k + 3."""
        H, W = params.H, model.classifier(params)
        sums = self.columns.total(lambda part, features: (W @ features) @ part.sum_columns, H)
        strength = spectral.strengths(sums, self._spectrum)
        by_class = spectral.class_strengths(sums, self.columns.counts)
        return jnp.concatenate([strength / self.targets, by_class, self.block_weights @ strength])

    def summarise(self, observed: dict[str, Any]) -> dict[str, Any]:
        """Every time-dependent variable of the Dataset but the block means, on the host."""
        sums, gram, unit = (observed.pop(name) for name in ("class_sums", "gram", "unit"))
        k, dim = len(self.rows), self.width
        observed |= self._shapes(observed)
        if self.conserved is None:
            observed["drift"] = np.full(unit.shape, np.nan, unit.dtype)
        strength = spectral.strengths(sums, self._spectrum).astype(sums.dtype)
        unit = (unit + (unit == 0))[:, None]
        energy = np.trace(gram, axis1=1, axis2=2)
        return observed | {
            "strength": strength,
            "class_strength": spectral.class_strengths(sums, self.columns.counts).astype(
                sums.dtype
            ),
            "singular_value": (spectral.singular_values(gram) * unit)[:, : min(k, dim)],
            "residual": spectral.residual(strength / unit, energy),
        }

    def _shapes(self, observed: dict[str, Any]) -> dict[str, Any]:
        """Neural collapse and distances to the two geometries, where they were asked for."""
        if not self.keep_geometry:
            return {}
        W, means, scatter, within = (
            observed.pop(name) for name in ("classifier", "means", "scatter", "within")
        )
        counts = np.asarray(self.columns.counts)
        state = W, means, scatter, counts
        return geometry.neural_collapse(W, means, within) | {
            "seli_distance": geometry.distances(*state, geometry.seli(counts)),
            "etf_distance": geometry.distances(*state, geometry.etf(len(counts))),
        }


def _coordinate_accuracy(logits: Any, basis: Any, drawn: Any) -> Float[Any, " k"]:
    """Share of each class's samples that were drawn one by one that are classified right."""
    k, _, width = basis.shape
    of_samples = jnp.einsum("lcr,cpr->lcp", logits.reshape(k, k, width), basis)
    correct = of_samples.argmax(0) == jnp.arange(k)[:, None]
    return (correct * drawn).sum(1) / drawn.sum(1)


def _drawn_samples(H: Any, basis: Any, drawn: Any) -> tuple[Any, Any]:
    """Features of the samples that were drawn one by one, and the class of each: d x (k p), (k p) x
    k."""
    k, size, width = basis.shape
    features = jnp.einsum("dcr,cpr->dcp", H.reshape(len(H), k, width), basis)
    members = drawn[:, :, None] * jnp.eye(k, dtype=H.dtype)[:, None]
    return features.reshape(len(H), k * size), members.reshape(k * size, k)


class Run(NamedTuple):
    """A Config made ready to be followed."""

    config: Config
    problem: Problem
    components: spectral.LabelSpectrum
    reduced: Reduced | None
    flow: Flow
    predicted_learning_time: Float[np.ndarray, " r"]


class _Setting(NamedTuple):
    """What runs that differ only in their seed share."""

    problem: Problem
    components: spectral.LabelSpectrum
    columns: Columns
    times: Float[np.ndarray, " t"]
    predicted_learning_time: Float[np.ndarray, " r"]


@functools.lru_cache(maxsize=4)
def _setting(config: Config, size: int | None) -> _Setting:
    problem = make_problem(config)
    components = spectral.components(problem)
    t1 = theory.automatic_t1(config, problem) if config.t1 is None else config.t1
    return _Setting(
        problem,
        components,
        make_columns(config, problem, size),
        save_times(config, t1),
        theory.predicted_learning_times(config, problem, components),
    )


def prepare(config: Config, size: int | None = None) -> Run:
    """All of a run but its solving. Columns that are samples are padded up to `size`, so that runs
    of different sizes can share a compilation."""
    setting = _setting(dataclasses.replace(config, seed=0), size)
    problem, columns = setting.problem, setting.columns
    params, reduced = model.initial_params(config, problem, columns)
    field = make_field(config, columns)
    return Run(
        config,
        problem,
        setting.components,
        reduced,
        Flow(
            params=params,
            field=field,
            observe=make_observer(config, field, params, reduced, setting.components),
            times=setting.times,
            # arrays, since a Python float would compile anew for each value
            rtol=np.asarray(config.rtol),
            atol=np.asarray(config.absolute_tolerance),
            max_steps=np.asarray(config.max_steps),
            stop_margin=None if config.stop_margin is None else np.asarray(config.stop_margin),
        ),
        setting.predicted_learning_time,
    )


def make_field(config: Config, columns: Columns) -> Field:
    """The field that a Config asks for, on given columns."""
    return Field(
        columns,
        np.asarray(config.weight_decay) if config.decays else None,
        np.asarray(config.feature_decay) if config.decays else None,
        loss_clock=config.clock == "loss",
        classifier_is_held=config.depth == 1,
    )


def make_observer(
    config: Config,
    field: Field,
    params: Params,
    reduced: Reduced | None,
    components: spectral.LabelSpectrum,
) -> Observer:
    """The observer of one run, which remembers the conserved matrices of its start."""
    k = len(field.columns.counts)
    conserved = None
    if config.depth > 1 and config.weight_decay == config.feature_decay:
        left, right = model.conserved_terms(params, field.columns)
        conserved = left - right
    drawn = None
    if reduced is not None:
        drawn = (np.arange(reduced.basis.shape[1]) < reduced.drawn[:, None]).astype(float)
    return Observer(
        field=field,
        rows=np.hstack([components.left, np.full((k, 1), k**-0.5)]),
        targets=components.singular_values,
        block_weights=spectral.block_weights(components),
        conserved=conserved,
        basis=None if reduced is None else reduced.basis,
        drawn=drawn,
        width=config.feature_dim,
        keep_state=config.save_state,
        keep_margin=config.keeps_margin,
        keep_geometry=config.geometry,
    )


def save_times(config: Config, t1: float) -> Float[np.ndarray, " t"]:
    """The observed times, 0 to t1: evenly spaced, or 0 and then four decades up to t1."""
    if config.save_spacing == "linear":
        return np.linspace(0.0, t1, config.num_saves)
    return np.concatenate([[0.0], np.geomspace(t1 * 1e-4, t1, config.num_saves - 1)])


def run_arrays(run: Run, trajectory: Trajectory) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A followed run as the arrays of its Dataset, by name, and its facts, one of each of
    `results.FACTS`."""
    config, problem, components = run.config, run.problem, run.components
    observed = dict(trajectory.observations)
    if config.clock == "loss":
        observed["log_time"] = trajectory.log_times
    if config.save_state and config.columns == "samples":
        observed["H"] = observed["H"][:, :, : problem.counts.sum()]  # without padding
    if config.save_state and config.columns == "classes":
        observed["class_H"] = observed.pop("H")
    elif config.save_state and run.reduced is not None:
        rng = np.random.default_rng([config.seed, 1])  # apart from the draw of the start
        bases = reduction.full_basis(run.reduced, problem.counts, rng)
        observed["H"] = reduction.restore_features(observed["H"], bases)
    k = len(problem.counts)
    component, by_class, block = np.split(trajectory.crossings, [k - 1, 2 * k - 1])
    arrays = results.spectral_arrays(
        trajectory.times, observed, components, problem.counts, problem.class_groups
    ) | {
        "class_weight": problem.class_weights,
        "learning_time": component,
        "class_learning_time": by_class,
        "block_learning_time": block,
        "predicted_learning_time": run.predicted_learning_time,
    }
    return arrays, {
        "status": trajectory.status,
        "num_steps": trajectory.num_steps,
        "t1": float(trajectory.times[-1]),
        "mean_sample_weight": weights.mean_sample_weight(problem.counts, problem.class_weights),
        "can_interpolate": int(config.feature_dim >= k - 1),
    }


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
        `class_accuracy` (under the squared loss of 100 samples of a class of more than 100 +
        feature_dim + 1), `class_strength`; by component `strength`; by block `block_strength`; by
        mode `singular_value`; `W` and `H` when asked for. `learning_time`, `class_learning_time`,
        `block_learning_time` (when half of the target is reached, NaN where it is not) and
        `predicted_learning_time`. Coordinates hold each class's count, weight and group, and each
        component's and block's target. The attributes hold the Config as JSON, the `status`, and
        the origin. Each variable's own attributes say what it is.
    """
    run = prepare(config)
    with jax.enable_x64(config.dtype == "float64"):
        trajectory = dynamics.gradient_flow(
            run.flow, solver=config.chosen_solver, progress=progress
        )
    arrays, facts = run_arrays(run, trajectory)
    return results.dataset(config, arrays, {**facts, "device": jax.devices()[0].device_kind})
