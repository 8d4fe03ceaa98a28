"""What is observed of a run: sums over samples inside the solve, of which the host makes variables."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ssm.config import Config
from ssm.dynamics import parameters
from ssm.dynamics.columns import Columns
from ssm.dynamics.held_out import Mixture, Samples
from ssm.dynamics.observables import OWN, Observable
from ssm.dynamics.parameters import Params
from ssm.dynamics.starts import Start
from ssm.dynamics.vector_field import Field
from ssm.measures import geometry, groups, spectral
from ssm.problem import Problem, samples
from ssm.support.arrays import AnyArray


class Observer(eqx.Module):
    """What is observed of a run, as a `trajectories.Observe`."""

    rows: Float[Any, "k k"]
    """A basis, as columns, in which logits are followed: the left vectors of the label matrix, and further ones, such as
    the constant vector, that make them complete."""
    targets: Float[Any, " r"]
    """The target of each component."""
    mean_targets: Float[AnyArray, "k k"] | None
    """The mean centred target of the samples of each class; None where it is their centred label."""
    block_weights: Float[AnyArray, "blocks r"]
    """The weights of the strengths of components in the share that a block has reached of its target."""
    field: Field
    conserved: Float[AnyArray, "pairs q q"] | None
    """The conserved matrices at the start, which fade by e^(-2 lam t) where all layers decay alike. None
    where nothing is conserved."""
    frame: Float[AnyArray, "d q"] | None
    """Orthonormal directions of feature space that span the whole run, in which conserved matrices are
    compared; None for all d directions."""
    basis: Float[AnyArray, "k p width"] | None
    """The coordinates of the samples on which accuracy is measured, where columns are coordinates; else None."""
    drawn: Float[AnyArray, "k p"] | None
    """1 for each of those samples that its class has, and 0 for padding; None where `basis` is None."""
    held_out: Mixture | Samples | None
    """What is asked of data that is held out; None where nothing is held out."""
    own: dict[str, Observable]
    """Observables of one's own by name."""
    begun: Float[AnyArray, ""]
    """The flow time, or for an optimiser the sum of the learning rates so far, at which the run begins."""
    width: int = eqx.field(static=True)
    """The number d of features."""
    keep_state: bool = eqx.field(static=True)
    keep_margin: bool = eqx.field(static=True)
    keep_geometry: bool = eqx.field(static=True)
    keep_weights: bool = eqx.field(static=True)

    @property
    def columns(self) -> Columns:
        """The columns of the field."""
        return self.field.columns

    def __call__(self, params: Params, time: ArrayLike) -> dict[str, AnyArray]:
        """Sums over samples, from which `summarise` makes the variables of a Dataset."""
        if self.field.deferral is not None:
            return dataclasses.replace(self, field=self.field.at(time, time))(params, time)
        columns, H, W = self.columns, params.H, parameters.classifier(params)
        # Logits are divided by an upper bound of their norm, since the squares of small logits would round to 0.
        unit = self._size(params, W)
        safe = unit + (unit == 0)
        turning = (self.rows.T @ W) / safe
        turned_bias = None if params.bias is None else (self.rows.T @ params.bias) / safe
        log_risk = self.field.log_risk(params) if self.field.loss_clock else None

        def sums(part: Columns, features: Array) -> dict[str, Array]:
            logits = part.logits(W, features, params.bias)
            turned = part.logits(turning, features, turned_bias)
            return self._sums(part, logits, turned, features, log_risk)

        totals = columns.total(sums, H)
        observed: dict[str, AnyArray] = {
            "loss": totals["loss"],
            "class_loss": totals["values"][0] / columns.some_of_each,
            "class_sums": totals["class_sums"],
            "squared_gradients": totals["squared_gradients"],
            "unit": unit,
            "gram": totals["gram"],
        }
        if columns.groups is not None:
            sizes = columns.groups.counts
            observed |= {name: totals[name] / sizes for name in ("group_loss", "group_accuracy")}
            observed["group_logits"] = totals["group_logits"] / sizes[None]
        if self.conserved is not None:
            scatter = None if params.hidden else totals.get("scatter")
            observed["drift"] = self._drift(params, time, scatter)
        if self.keep_margin:
            logits = self.field.logits(params)
            observed |= {"log_loss": columns.log_risk(logits), "margin": columns.margin(logits)}
        if self.field.weight_decay is not None:
            observed["objective"] = observed["loss"] + self.field.penalty(params)
        if self.keep_geometry:
            observed |= self._geometry(params, W)
        if self.basis is None or self.drawn is None:
            observed["class_accuracy"] = totals["values"][1] / columns.some_of_each
        else:
            logits = self.field.logits(params)
            observed["class_accuracy"] = _coordinate_accuracy(logits, self.basis, self.drawn)
        if self.held_out is not None:
            observed |= self.held_out(params, columns, time)
        # The barrier keeps the compiler from merging own observables with the rest, whose rounding they would change.
        apart = jax.lax.optimization_barrier(params) if self.own else params
        for name, own in self.own.items():
            observed[OWN + name] = jnp.asarray(own(apart, columns, time), H.dtype)
        if self.keep_weights:
            observed["weight"] = columns.class_weights
        if self.keep_state:
            observed |= {"W": params.W, "H" if columns.inputs is None else "A": H}
            observed |= {} if params.bias is None else {"bias": params.bias[:, 0]}
            observed |= {"hidden": jnp.stack(params.hidden)} if params.hidden else {}
        return observed

    def _drift(
        self, params: Params, time: ArrayLike, scatter: Float[Array, "d d"] | None
    ) -> Float[Array, ""]:
        """How far the conserved matrices have changed, over the size of their terms. `scatter` is H H^T where it is
        known and enough."""
        if self.frame is not None:
            params = params._replace(W=params.W @ self.frame, H=self.frame.T @ params.H)
        if scatter is None:
            left, right = parameters.conserved_terms(params, self.columns)
        else:
            left, right = (params.W.T @ params.W)[None], scatter[None]
        kept = self.conserved
        assert kept is not None
        if self.field.weight_decay is not None:
            kept = kept * jnp.exp(-2 * self.field.weight_decay * (time - self.begun))
        scale = jnp.linalg.norm(left) + jnp.linalg.norm(right)
        return jnp.linalg.norm(left - right - kept) / (scale + (scale == 0))

    def _size(self, params: Params, W: Float[Array, "k d"]) -> Float[Array, ""]:
        """An upper bound on the norm of the logits, of about its size."""
        columns, features = self.columns, params.H
        size = jnp.linalg.norm(W) * jnp.linalg.norm(features)
        if columns.inputs is not None:
            size = size * jnp.linalg.norm(columns.inputs)
        if params.bias is not None:
            size = size + jnp.linalg.norm(params.bias) * jnp.sqrt(columns.counts.sum())
        return size

    def _geometry(self, params: Params, W: Float[Array, "k d"]) -> dict[str, AnyArray]:
        """Classifier, class means and the scatter of samples around them."""
        columns, H = self.columns, self.columns.features(params.H)
        means = H @ columns.sum_columns / columns.counts[None]
        deviations = H - columns.spread(means)
        weighted = deviations * columns.multiplicity[None]
        balanced = weighted / (columns.counts[columns.labels] * len(columns.counts))[None]
        logits, features, members = self.field.logits(params), H, columns.member_columns
        if self.basis is not None and self.drawn is not None:
            features, members = _drawn_samples(H, self.basis, self.drawn)
            logits = W @ features
            logits = logits if params.bias is None else logits + params.bias
        return {
            "classifier": W,
            "means": means,
            "scatter": weighted @ deviations.T,
            "within": balanced @ deviations.T,
            "nc4": geometry.nearest_mean_mismatch(logits, features, means, members),
        }

    def _sums(
        self,
        columns: Columns,
        logits: Float[Array, "k m"],
        turned: Float[Array, "k m"],
        H: Float[Array, "d columns"],
        log_risk: Float[Array, ""] | None,
    ) -> dict[str, Array]:
        """The observations that are sums over columns, given their logits and these in the basis `rows`."""
        if self.field.loss_clock:  # the loss itself would round to 0 there
            values = [jnp.exp(columns.log_losses(logits))]
            gradient = columns.log_risk_gradient(logits, log_risk)
        else:
            values = [columns.losses(logits)]
            gradient = columns.logit_gradient(logits) * columns.risk_weights[None]
        if self.basis is None:
            values.append((logits.argmax(0) == columns.labels).astype(logits.dtype))
        sums = {
            "loss": jnp.dot(columns.risk_weights, values[0]),
            "values": jnp.stack(values) @ columns.member_columns,
            "class_sums": columns.sums(logits),
            "squared_gradients": columns.squared_gradients(gradient),
            "gram": (turned * columns.multiplicity[None]) @ turned.T,
        }
        if columns.groups is not None:
            members = columns.groups.members
            sums["group_loss"], sums["group_accuracy"] = jnp.stack(values) @ members
            sums["group_logits"] = logits @ members
        return sums | ({"scatter": H @ H.T} if self.columns.many else {})

    @property
    def _spectrum(self) -> spectral.LabelSpectrum:
        """The spectrum of the label matrix without the names of blocks, since a compiled program holds no words."""
        return spectral.LabelSpectrum(self.rows[:, : len(self.targets)], self.targets, np.array(()))

    def _strengths(
        self, sums: Float[AnyArray, "*batch k q"]
    ) -> tuple[Float[AnyArray, "*batch r"], Float[AnyArray, "*batch k"]]:
        """The strengths of components and of classes, from the `Columns.sums` of the logits."""
        k, counts = len(self.rows), self.columns.counts
        if self.mean_targets is None:
            by_class = spectral.class_strengths(sums, counts)
            return spectral.strengths(sums, self._spectrum), by_class
        # With v_j = T^T u_j / s_j the product Z T^T takes the place of class sums.
        by_class = spectral.mean_target_strengths(sums[..., :k], self.mean_targets, counts)
        return spectral.strengths(sums[..., k:], self._spectrum), by_class

    def watch(self, class_sums: Float[AnyArray, "k q"]) -> Float[Array, " s"]:
        """The series that learning times are read from, given the `Columns.sums` of the logits: the shares of their
        targets that components, classes and blocks have reached, s = r + k + 3 numbers."""
        strength, by_class = self._strengths(class_sums)
        return jnp.concatenate([strength / self.targets, by_class, self.block_weights @ strength])

    def summarise(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every time-dependent variable of the Dataset but the block means, on the host."""
        observed |= {name: observed.pop(OWN + name) for name in self.own}
        sums, gram, unit = (observed.pop(name) for name in ("class_sums", "gram", "unit"))
        norms = np.sqrt(observed.pop("squared_gradients"))
        total = norms.sum(axis=1, keepdims=True)
        observed["gradient_share"] = norms / np.where(total > 0, total, np.nan)
        k, dim = len(self.rows), self.width
        observed |= self._shapes(observed)
        observed |= {} if self.held_out is None else self.held_out.summarise(observed)
        observed |= self._of_groups(observed)
        if self.conserved is None:
            observed["drift"] = np.full(unit.shape, np.nan, unit.dtype)
        strength, by_class = (x.astype(sums.dtype) for x in self._strengths(sums))
        unit = (unit + (unit == 0))[:, None]
        energy = np.trace(gram, axis1=1, axis2=2)
        return observed | {
            "strength": strength,
            "class_strength": by_class,
            "singular_value": (spectral.singular_values(gram) * unit)[:, : min(k, dim)],
            "residual": spectral.residual(strength / unit, energy),
        }

    def _of_groups(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The strengths of what class and attribute say in the logits, where classes have groups."""
        if self.columns.groups is None:
            return {}
        means = observed.pop("group_logits")
        counts = np.asarray(self.columns.groups.counts).reshape(len(self.rows), -1)
        spurious = groups.spurious_strength(means, counts).astype(means.dtype)
        return {
            "core_strength": groups.core_strength(means).astype(means.dtype),
            "spurious_strength": spurious,
        }

    def _shapes(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The measures of neural collapse and the distances to the geometries SELI and ETF, where these are observed."""
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


def _coordinate_accuracy(
    logits: Float[Array, "k columns"],
    basis: Float[AnyArray, "k p r"],
    drawn: Float[AnyArray, "k p"],
) -> Float[Array, " k"]:
    """The share of right decisions among the samples of each class that were drawn one by one."""
    correct = _of_samples(logits, basis).argmax(0) == jnp.arange(len(logits))[:, None]
    return (correct * drawn).sum(1) / drawn.sum(1)


def _of_samples(
    X: Float[AnyArray, "rows columns"], basis: Float[AnyArray, "k p r"]
) -> Float[Array, "rows k p"]:
    """The samples that were drawn one by one, from their coordinates (rows x k r)."""
    k, _, width = basis.shape
    return jnp.einsum("lcr,cpr->lcp", X.reshape(len(X), k, width), basis)


def _drawn_samples(
    H: Float[AnyArray, "d columns"],
    basis: Float[AnyArray, "k p r"],
    drawn: Float[AnyArray, "k p"],
) -> tuple[Float[Array, "d kp"], Float[AnyArray, "kp k"]]:
    """The features of the samples that were drawn one by one, and a matrix with a 1 at the class of each."""
    k, size, _ = basis.shape
    features = _of_samples(H, basis)
    members = drawn[:, :, None] * jnp.eye(k, dtype=H.dtype)[:, None]
    return features.reshape(len(H), k * size), members.reshape(k * size, k)


def make_observer(
    config: Config,
    problem: Problem,
    field: Field,
    start: Start,
    components: spectral.LabelSpectrum,
    held_out: Mixture | Samples | None = None,
    own: dict[str, Observable] | None = None,
    begun: float = 0.0,
    keep_weights: bool = False,
) -> Observer:
    """The observer of one run, which remembers the conserved matrices of its start and the time at which it has `begun`.
    Class weights are observed where deferral or a schedule changes them, or where `keep_weights` asks for them."""
    params, reduced, _ = start
    k = len(field.columns.counts)
    conserved, frame = None, None
    if config.depth > 1 and config.weight_decay == config.feature_decay:
        W, H, hidden, _ = params
        if field.columns.coordinates and not hidden and config.feature_dim > k + H.shape[1]:
            # The rows of W and the columns of H stay in the span of their start.
            frame = np.linalg.qr(np.hstack([W.T, H]))[0]
            params = Params(W @ frame, frame.T @ H)
        left, right = parameters.conserved_terms(params, field.columns)
        conserved = left - right
    drawn = None
    if reduced is not None:
        drawn = (np.arange(reduced.basis.shape[1]) < reduced.drawn[:, None]).astype(float)
    rows, mean_targets = np.hstack([components.left, np.full((k, 1), k**-0.5)]), None
    if not samples.are_alike(problem):
        rows = np.hstack([components.left, spectral.complement(components.left)])
        centred = samples.centred_targets(problem)
        mean_targets = spectral.mean_targets(centred, problem.labels, problem.counts)
    return Observer(
        field=field,
        rows=rows,
        targets=components.singular_values,
        mean_targets=mean_targets,
        block_weights=spectral.block_weights(components),
        conserved=conserved,
        frame=frame,
        basis=None if reduced is None else reduced.basis,
        drawn=drawn,
        held_out=held_out,
        own=own or {},
        begun=np.asarray(begun),
        width=config.feature_dim,
        keep_state=config.save_state,
        keep_margin=config.observes_margin,
        keep_geometry=config.geometry,
        keep_weights=field.deferral is not None or keep_weights,
    )
