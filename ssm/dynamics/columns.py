"""What the feature columns of a run stand for: samples, whole classes, or coordinates of classes.

    samples      one column a sample: the model as it is written
    classes      one column a class, exact where all features of a class are and stay equal: shared
                 features (coupling 1), and free or coupled ones from a start equal on each class
    coordinates  r columns a class in the basis of `ssm.dynamics.coordinates`, exact for the squared loss

All three follow the same flow, with their own constants. Where samples have inputs X the features are
H = A X, and what is followed is A (d x p), whose columns stand for inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ssm.problem import losses
from ssm.support.arrays import AnyArray

Sums = TypeVar("Sums")  # a pytree of arrays

BLOCK = 1024
"""The number of columns in a block, so small that their features and logits stay in the processor's cache."""
SMALL = 2**19
"""The transpose of inputs is kept too where they have at most this many entries, as measured for 400 inputs of 275, 1000
and 2530 samples."""
MANY = 8192
"""The number of columns from which on blocks are faster, as measured for 10 classes and 16 to 64 features."""


class GroupColumns(eqx.Module):
    """What columns that stand for samples need to know of the groups inside classes."""

    labels: Int[AnyArray, " m"]
    """The group of each column."""
    counts: Float[AnyArray, " g"]
    """The number of samples in each group."""
    members: Float[AnyArray, "m g"]
    """C: values of columns times C are their sums over the samples of each group."""
    kernel: Float[AnyArray, "g g"]
    """M of the kernel K = s I + C M C^T."""
    private: Float[AnyArray, ""]
    """s, the part of the coupling that a sample has with itself alone."""
    inverse: Float[AnyArray, "g g"]
    """(s I + M N)^-1 M with N the counts, so that s K^-1 = I - C inverse C^T (Woodbury)."""


class Columns(eqx.Module):
    """The constants of m feature columns, as host arrays. A column with multiplicity 0 is padding: it
    weighs nothing and stays where it is.

    Column h_j contributes r_j l(z_j) to the risk, moves by the coupling kernel K = D + e e^T, with D as
    `kernel` or `coupling` says, and adds to sums over the samples of its class.
    """

    labels: Int[Any, " m"]
    """The class of each column, which losses read within a compiled run, where it is an array of JAX."""
    counts: Float[AnyArray, " k"]
    """The number of samples n_c of each class."""
    multiplicity: Float[AnyArray, " m"]
    """How many samples a column stands for in sums of squares: 1 (samples, coordinates), n_c (classes)."""
    constant: Float[AnyArray, " m"]
    """The column where all features of its class are 1: 1 (samples, classes), sqrt(n_c) for the
    first coordinate, 0 for the others."""
    risk_weights: Float[AnyArray, " m"]
    """r_j = multiplicity x w_c / n, the factor of the column's loss in L."""
    kernel: Float[AnyArray, " m"] | None
    """D where it is diagonal: kappa_c / n_c (classes); kappa_c for the first coordinate of a class and 1 - c for
    the others (coordinates). None where D is the identity, or is not diagonal."""
    coupling: Float[AnyArray, ""] | None
    """The coupling c where D is not diagonal, as it is for coupled samples; else None."""
    between_coupling: Float[AnyArray, ""] | None
    """The part c_b of the coupling that classes share with each other, which is in e; None where `coupling` is None."""
    common: Float[AnyArray, " m"] | None
    """e, by which all columns move together: sqrt(c_b), or with a bias of the features sqrt(c_b + 1),
    times `constant`. None where nothing moves all columns together."""
    inputs: Float[AnyArray, "p m"] | None
    """The inputs X of the samples, where they have any; K is then the identity on the columns of A. None where the
    features themselves are followed."""
    transposed_inputs: Float[AnyArray, "m p"] | None
    """X^T where X is so small that both stay in the processor's cache, since a product with it then saves a fifth of
    an evaluation; else None."""
    input_sums: Float[AnyArray, "p q"] | None
    """The `sums` of X, which every step needs; None where `inputs` is None."""
    sum_columns: Float[AnyArray, "m k"]
    """Z times this matrix are the sums of the logits Z over the samples of each class."""
    member_columns: Float[AnyArray, "m k"]
    """Values of columns times this matrix are their sums over the samples of each class."""
    target_columns: Float[AnyArray, "m k"] | None
    """T^T, with T the centred targets of samples that are taught distributions; else None."""
    sample_weights: Float[AnyArray, " m"] | None
    """The factor of the loss of each column beside the weight of its class; None where it is 1."""
    groups: GroupColumns | None
    """The groups inside classes, whose kernel then takes the place of that of classes; None without groups."""
    conserved_factor: Float[AnyArray, ""]
    """1 - c for coordinates, the factor that keeps K^-1 finite as c tends to 1; else 1."""
    loss: losses.Loss
    """The loss of a column. For coordinates it is the squared loss, and only the first coordinate has a label."""
    weighted_mean: bool = eqx.field(static=True)
    """Whether losses are averaged over the sum of their weights, not over their number. The two differ
    on mini-batches only, since over all samples the given weights have unit mean."""
    coordinates: bool = eqx.field(static=True)
    """Whether the columns are coordinates of classes."""

    @property
    def many(self) -> bool:
        """Whether columns are worked through block by block, so that each block stays in the cache.
        That takes many samples, in whole blocks, that do not move each other."""
        number = len(self.labels)
        ties = (self.kernel, self.coupling, self.common, self.inputs, self.target_columns)
        ties = (*ties, self.groups)
        alone = all(tie is None for tie in ties)
        return alone and number >= MANY and number % BLOCK == 0

    def block(self, i: int | Array, H: Float[Array, "d m"]) -> tuple[Columns, Float[Array, "d b"]]:
        """The i-th block of the columns and of their features."""

        def part(x: AnyArray, axis: int = 0) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, i * BLOCK, BLOCK, axis)

        names = ("labels", "multiplicity", "constant", "risk_weights", "sum_columns")
        parts = {name: part(getattr(self, name)) for name in (*names, "member_columns")}
        return dataclasses.replace(self, **parts), part(H, 1)

    def total(self, summed: Callable[[Columns, Array], Sums], H: Float[Array, "d m"]) -> Sums:
        """`summed(columns, H)`, a pytree of sums over columns, made block by block where columns are many."""
        if not self.many:
            return summed(self, H)

        def add(i: Array, so_far: Sums) -> Sums:
            return jax.tree.map(jnp.add, so_far, summed(*self.block(i, H)))

        return jax.lax.fori_loop(1, len(self.labels) // BLOCK, add, summed(*self.block(0, H)))

    @property
    def kernel_eigenvalues(self) -> Float[AnyArray, " k"]:
        """kappa_c, the eigenvalue of D on the constant vector of each class, for coupled samples."""
        assert self.coupling is not None
        assert self.between_coupling is not None
        return 1 + self.coupling * (self.counts - 1) - self.between_coupling * self.counts

    @property
    def constant_eigenvalues(self) -> Float[AnyArray, " m"]:
        """The factor by which D stretches the entries of e, which differs between classes only."""
        if self.kernel is not None:
            return self.kernel
        if self.coupling is not None:
            return self.kernel_eigenvalues[self.labels]
        return self.multiplicity * 0 + 1

    @property
    def followed(self) -> Float[AnyArray, " columns"]:
        """1 for each column, of the features or of A, that is followed, and 0 for each one of padding."""
        if self.inputs is not None:
            return jnp.ones(len(self.inputs), self.inputs.dtype)
        return (self.multiplicity > 0).astype(self.multiplicity.dtype)

    def features(self, H: Float[AnyArray, "d columns"]) -> Float[AnyArray, "d m"]:
        """The features H, or A X."""
        return H if self.inputs is None else H @ self.inputs

    def logits(
        self,
        head: Float[Array, "k d"],
        H: Float[Array, "d columns"],
        bias: Float[Array, "k 1"] | None = None,
    ) -> Float[Array, "k m"]:
        """Z = `head` H, or (`head` A) X, plus the bias of the logits, (k, 1), where there is one."""
        logits = head @ H if self.inputs is None else (head @ H) @ self.inputs
        return logits if bias is None else logits + bias * self.constant[None]

    def onto_inputs(self, gradient: Float[AnyArray, "k m"]) -> Float[AnyArray, "k columns"]:
        """G X^T of samples that have inputs, else G."""
        if self.inputs is None:
            return gradient
        transposed = self.transposed_inputs
        return gradient @ (self.inputs.T if transposed is None else transposed)

    def class_sums(self, H: Float[Array, "d columns"]) -> Float[AnyArray, "d q"]:
        """The sums of the features over the samples of each class, q = k; where samples have targets T, H T^T stands beside
        them, q = 2 k."""
        if self.input_sums is not None:
            return H @ self.input_sums
        return self.total(lambda part, features: part.sums(features), H)

    def sums(self, X: Float[AnyArray, "rows m"]) -> Float[AnyArray, "rows q"]:
        """The sums that `class_sums` makes of features, of any rows with a number for each column."""
        sums = X @ self.sum_columns
        if self.target_columns is None:
            return sums
        return jnp.concatenate([sums, X @ self.target_columns], axis=1)

    @property
    def sums_of_ones(self) -> Float[AnyArray, " q"]:
        """The `sums` of a row of ones."""
        if self.target_columns is None:
            return self.counts
        return jnp.concatenate([self.counts, self.target_columns.sum(0)])

    @property
    def log_loss(self) -> losses.LogLoss:
        """The loss, for cross-entropy, whose logarithm is known as well."""
        assert isinstance(self.loss, losses.LogLoss)
        return self.loss

    def losses(self, logits: Float[Array, "k m"]) -> Float[Array, " m"]:
        """The loss l(z_j) of each column; of coordinates, the losses of a class add up to the total over its samples."""
        return self.loss.value(logits, self.labels)

    def logit_gradient(self, logits: Float[Array, "k m"]) -> Float[Array, "k m"]:
        """The gradient dl/dz_j of each column."""
        return self.loss.logit_gradient(logits, self.labels)

    def log_losses(self, logits: Float[Array, "k m"]) -> Float[Array, " m"]:
        """The logarithm of the loss l(z_j) of each column, for cross-entropy."""
        return self.log_loss.log_value(logits, self.labels)

    def log_risk(self, logits: Float[Array, "k m"]) -> Float[Array, ""]:
        """log L, for cross-entropy, which is finite even where L itself underflows to 0."""
        return jax.nn.logsumexp(self.log_losses(logits) + jnp.log(self.risk_weights))

    def log_risk_gradient(
        self, logits: Float[Array, "k m"], log_risk: Float[Array, ""] | None = None
    ) -> Float[Array, "k m"]:
        """d log L/dz_j = r_j dl/dz_j / L of each column, for cross-entropy, equally exact at any
        margin. log L has to be given where these columns are only a block of all columns."""
        log_gradient = self.log_loss.log_logit_gradient(logits, self.labels)
        log_risk = self.log_risk(logits) if log_risk is None else log_risk
        scale = jnp.log(self.risk_weights) - log_risk
        at_label = losses.is_label(logits, self.labels)
        return jnp.where(at_label, -1.0, 1.0) * jnp.exp(log_gradient + scale[None])

    def margin(self, logits: Float[Array, "k m"]) -> Float[Array, ""]:
        """The least margin z_y - max_{c != y} z_c of all columns but padding, in the logits as the loss
        adjusts them."""
        margins = losses.margins(self.log_loss.seen_logits(logits, self.labels), self.labels)
        return jnp.where(self.multiplicity > 0, margins, jnp.inf).min()

    def squared_gradients(self, gradient: Float[Array, "k m"]) -> Float[Array, " k"]:
        """Squared norms of the classes' parts of dL/dZ, over samples, from dL/dz_j of each column."""
        each = (gradient**2).sum(0) / jnp.maximum(self.multiplicity, 1) ** 2
        return each @ self.member_columns

    @property
    def class_weights(self) -> Float[AnyArray, " k"]:
        """The class weights w_c that the risk weights imply."""
        each = self.risk_weights / jnp.maximum(self.multiplicity, 1)
        number = self.member_columns.sum(0)
        if self.target_columns is not None:
            number = jnp.maximum(number, 1)
        return self.counts.sum() * (each @ self.member_columns) / number

    @property
    def some_of_each(self) -> Float[AnyArray, " k"]:
        """The number of samples of each class, or 1 where it has none, so that means of such a class are 0."""
        return self.counts if self.target_columns is None else jnp.maximum(self.counts, 1)

    def sampled(self, drawn: Float[Array, " m"]) -> Columns:
        """The columns as a mini-batch weighs them, where each column stands for `drawn` samples of it."""
        weights = self.risk_weights * drawn / jnp.maximum(self.multiplicity, 1)
        scale = 1 / weights.sum() if self.weighted_mean else self.counts.sum() / drawn.sum()
        return dataclasses.replace(self, risk_weights=weights * scale)

    def weighted(self, class_weights: Float[AnyArray, " k"]) -> Columns:
        """The columns under other class weights, or under weights of groups where classes have groups."""
        if self.groups is not None:
            weights = self.multiplicity * class_weights[self.groups.labels]
            total = weights.sum() if self.weighted_mean else self.counts.sum()
            return dataclasses.replace(self, risk_weights=weights / total)
        weights = self.multiplicity * class_weights[self.labels]
        if self.sample_weights is not None:
            weights = weights * self.sample_weights
            total = weights.sum() if self.weighted_mean else self.counts.sum()
            return dataclasses.replace(self, risk_weights=weights / total)
        total = (self.counts * class_weights).sum() if self.weighted_mean else self.counts.sum()
        return dataclasses.replace(self, risk_weights=weights / total)

    def class_means(self, H: Float[AnyArray, "d columns"]) -> Float[Any, "d k"]:
        """The mean feature of each class's samples."""
        if self.input_sums is not None:
            return H @ self.input_sums[:, : len(self.counts)] / self.some_of_each[None]
        return H @ self.sum_columns / self.some_of_each[None]

    def spread(self, M: Float[AnyArray, "d k"]) -> Float[AnyArray, "d m"]:
        """The columns of samples that all have the feature of their class, M the features of the classes."""
        return M[:, self.labels] * self.constant[None]

    def spread_in_groups(self, M: Float[AnyArray, "d g"]) -> Float[AnyArray, "d m"]:
        """The columns of samples that all have the feature of their group, M the features of the groups; without groups
        inside classes, of their class."""
        if self.groups is None:
            return self.spread(M)
        return M[:, self.groups.labels] * self.multiplicity[None]

    @property
    def parts(self) -> tuple[Float[AnyArray, " parts"], Float[AnyArray, "m parts"]]:
        """The counts and members of the groups, or of the classes where these have no groups, which a schedule weighs."""
        if self.groups is not None:
            return self.groups.counts, self.groups.members
        return self.counts, self.member_columns

    def group_means(self, H: Float[AnyArray, "d columns"]) -> Float[AnyArray, "d g"]:
        """The mean feature of each group's samples; of each class's, where classes have no groups."""
        if self.groups is None:
            return self.class_means(H)
        return self.features(H) @ self.groups.members / self.groups.counts[None]
