"""What is observed of held-out data while a run is followed.

Fresh samples of a class of the mixture (`ssm.problem.inputs`) have logits of a normal distribution, whose mean and
covariance are observed; samples of one's own are classified at every observed time.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ssm.config import Config
from ssm.dynamics.columns import Columns
from ssm.dynamics.parameters import Params, classifier
from ssm.dynamics.starts import Start
from ssm.measures import held_out, metrics, spectral
from ssm.problem import Problem, membership
from ssm.problem.inputs import Inputs, mean_inputs, noise_rows
from ssm.problem.problem import Groups
from ssm.support.arrays import AnyArray


class EndlessNoise(eqx.Module):
    """Fresh samples whose noise is orthogonal to that of all samples of training. Where classes have groups, groups take
    the place of classes below, M of `Problem.group_kernel` that of C, and s / n_g I + M that of T.

    The features of their noise stay as they start, and those of their class part F follow the class means M of the
    training features. With Sigma_y = -W^T G 1_y, summed over the samples of class y,

        dM/dt = Sigma T,  T = diag(kappa_c / n_c) + beta 11^T      dF/dt = Sigma C,  C = (c - c_b) I + beta 11^T

    so that F(t) = M(t) T^-1 C + F(0) - M(0) T^-1 C exactly. Where features decay, the constant part of that and the
    noise fade.
    """

    onto: Float[AnyArray, "q q"]
    """T^-1 C."""
    rest: Float[AnyArray, "d q"]
    """F(0) - M(0) T^-1 C."""
    noise: Float[AnyArray, ""]
    """The standard deviation of the noise's features at the start, in each of d directions."""
    feature_decay: Float[AnyArray, ""] | None
    """lam_H; None where nothing decays."""

    def features(
        self, params: Params, columns: Columns, time: ArrayLike
    ) -> tuple[Float[AnyArray, "d q"], Float[AnyArray, "d r"]]:
        """The mean feature of the fresh samples of each class (d x k), and a factor of the covariance of their features
        (d x r)."""
        left = 1.0 if self.feature_decay is None else jnp.exp(-self.feature_decay * time)
        means = columns.group_means(params.H) @ self.onto + left * self.rest
        return means, self.noise * left * jnp.eye(len(params.H), dtype=means.dtype)


class DrawnNoise(eqx.Module):
    """Fresh samples of a run with inputs, whose noise has as many dimensions as that of the inputs."""

    mean_inputs: Float[AnyArray, "p q"]
    """The mean input of each class, or of each group where classes have groups."""
    scale: Float[AnyArray, ""]
    """The standard deviation of each input of noise, sqrt((1 - c) / q) with q their number."""
    noise: tuple[int, int] = eqx.field(static=True)
    """The number of the first input of noise, and of the first one after them."""

    def features(
        self, params: Params, columns: Columns, time: ArrayLike
    ) -> tuple[Float[AnyArray, "d q"], Float[AnyArray, "d r"]]:
        """The mean features and the factor of their covariance, as `EndlessNoise` has them."""
        first, last = self.noise
        return params.H @ self.mean_inputs, self.scale * params.H[:, first:last]


class Mixture(eqx.Module):
    """All fresh samples of the mixture of a run."""

    samples: EndlessNoise | DrawnNoise
    groups: Groups | None
    """The groups of classes, where they have any; the numbers of a class are then means over its groups, weighted as in
    training. Else None."""
    loss: str = eqx.field(static=True)
    """The loss that is observed: `squared`, or `cross_entropy` for every other loss of training, without adjustments."""

    def __call__(self, params: Params, columns: Columns, time: ArrayLike) -> dict[str, Array]:
        """Mean and covariance of their logits: `held_out_mean`, (k, k) with a column for each class, or (k, g) for
        each group, and `held_out_covariance`, (k, k)."""
        head = classifier(params)
        means, factor = self.samples.features(params, columns, time)
        logits, spread = head @ means, head @ factor
        logits = logits if params.bias is None else logits + params.bias
        return {"held_out_mean": logits, "held_out_covariance": spread @ spread.T}

    def summarise(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The variables of a Dataset, made of the mean and covariance of the logits."""
        means, covariance = observed.pop("held_out_mean"), observed.pop("held_out_covariance")
        if self.groups is not None:
            return _of_groups(self.groups, means, covariance, self.loss)
        measured = {
            "held_out_accuracy": held_out.accuracy(means, covariance),
            "held_out_loss": held_out.loss(means, covariance, self.loss),
            "held_out_strength": spectral.class_strengths(means, np.ones(means.shape[-1])),
        }
        return {name: values.astype(means.dtype) for name, values in measured.items()}


def _of_groups(
    groups: Groups,
    means: Float[np.ndarray, "*time k g"],
    covariance: Float[np.ndarray, "*time k k"],
    loss: str,
) -> dict[str, np.ndarray]:
    """The variables where classes have groups. They are measured for one value of the attribute after the other, for
    which there is one group in each class."""
    width = groups.counts.shape[1]
    by_attribute = [means[..., b::width] for b in range(width)]

    def joined(each: list[np.ndarray]) -> np.ndarray:
        """Arrays (..., k), one for each value of the attribute, as one array (..., g), class by class."""
        return np.stack(each, axis=-1).reshape(*means.shape[:-2], groups.counts.size)

    k = len(groups.counts)
    measured = {
        "accuracy": joined([held_out.accuracy(each, covariance) for each in by_attribute]),
        "loss": joined([held_out.loss(each, covariance, loss) for each in by_attribute]),
        "strength": joined([spectral.class_strengths(each, np.ones(k)) for each in by_attribute]),
    }
    shares = groups.counts / groups.counts.sum(axis=1, keepdims=True)
    variables = {}
    for name, values in measured.items():
        by_class = (values.reshape(*values.shape[:-1], k, width) * shares).sum(-1)
        variables[f"held_out_{name}"] = by_class.astype(means.dtype)
    variables["held_out_group_accuracy"] = measured["accuracy"].astype(means.dtype)
    return variables


class Samples(eqx.Module):
    """Samples of one's own that are not trained on."""

    inputs: Float[AnyArray, "p m"]
    labels: Int[AnyArray, " m"]
    members: Float[AnyArray, "m k"]
    loss: str = eqx.field(static=True)
    """The loss that is observed, as in `Mixture`."""

    def __call__(self, params: Params, columns: Columns, time: ArrayLike) -> dict[str, Array]:
        """Accuracy, loss and strength of each class."""
        logits = (classifier(params) @ params.H) @ self.inputs
        logits = logits if params.bias is None else logits + params.bias
        counts = self.members.sum(0)
        if self.loss == "squared":
            targets = self.members.T - 1 / len(logits)
            losses = ((logits - targets) ** 2).sum(0) / 2
        else:
            own = jnp.take_along_axis(logits, self.labels[None], 0)
            others = jnp.where(self.members.T == 1, -jnp.inf, logits - own)
            losses = jnp.logaddexp(
                0, jax.nn.logsumexp(others, axis=0)
            )  # exact for small losses too
        return {
            "held_out_accuracy": metrics.class_accuracy(logits, self.labels, self.members),
            "held_out_loss": losses @ self.members / counts,
            "held_out_strength": spectral.class_strengths(logits @ self.members, counts),
        }

    def summarise(self, observed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """No further variables, since the observed ones are those of a Dataset already."""
        return {}


def make_held_out(
    config: Config, problem: Problem, columns: Columns, start: Start, inputs: Inputs | None
) -> Mixture | Samples | None:
    """The data that is held out of a run; None where none is."""
    loss = "squared" if config.loss == "squared" else "cross_entropy"
    if inputs is not None and inputs.held_out is not None:
        data = inputs.held_out
        members = membership(data.labels, len(problem.counts))
        return Samples(data.inputs, data.labels, members, loss)
    if not config.held_out:
        return None
    groups = problem.groups
    if config.has_inputs:
        rows = noise_rows(config)
        scale = np.sqrt(problem.private_coupling / (rows.stop - rows.start))
        drawn = DrawnNoise(mean_inputs(config, problem), scale, (rows.start, rows.stop))
        return Mixture(drawn, groups, loss)
    if problem.groups is None:
        beta = problem.common_coupling
        C = (problem.coupling - problem.between_coupling) * np.eye(len(problem.counts)) + beta
        T = problem.class_kernel
    else:
        C = problem.group_kernel
        T = np.diag(problem.private_coupling / problem.groups.counts.ravel()) + C
    onto = np.linalg.solve(T, C)
    rest, noise = np.zeros((config.feature_dim, len(C))), 0.0
    if start.class_part is not None:
        rest = start.class_part - columns.group_means(start.params.H) @ onto
        noise = config.init_scale * np.sqrt(problem.private_coupling) * (config.init == "gaussian")
    decay = np.asarray(config.feature_decay) if config.has_decay else None
    return Mixture(EndlessNoise(onto, rest, np.asarray(noise), decay), groups, loss)
