"""What is observed of data that is held out, while a run is followed.

Fresh samples of a class of the mixture (`ssm.problem.inputs`) have normal logits, whose mean and covariance are
observed; samples of one's own are classified at every observed time.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ssm.config import Config
from ssm.dynamics.columns import Columns
from ssm.dynamics.parameters import Params, classifier
from ssm.dynamics.starts import Start
from ssm.measures import held_out, metrics, spectral
from ssm.problem import Problem, membership
from ssm.problem.inputs import Inputs, class_inputs, noise_rows


class EndlessNoise(eqx.Module):
    """Fresh samples where the noise of each is orthogonal to all that was seen.

    Their noise stays where it starts, and their class part follows the class means M of the training
    features. With Sigma_y = -W^T G 1_y, of the samples of class y,

        dM/dt = Sigma T,  T = diag(kappa_c / n_c) + beta 11^T      dF/dt = Sigma C,  C = (c - c_b) I + beta 11^T

    so that F(t) = M(t) T^-1 C + F(0) - M(0) T^-1 C exactly, of which the part that is constant, and the noise,
    fade where features decay.
    """

    onto: Float[Any, "k k"]
    """T^-1 C."""
    rest: Float[Any, "d k"]
    """F(0) - M(0) T^-1 C."""
    noise: Any
    """The standard deviation of the noise's features at the start, in each of d directions."""
    feature_decay: Any
    """lam_H; None where nothing decays."""

    def features(self, params: Params, columns: Columns, time: Any) -> tuple[Any, Any]:
        """Of fresh samples: the mean feature of each class (d x k), and a factor of the features' covariance
        (d x r)."""
        left = 1.0 if self.feature_decay is None else jnp.exp(-self.feature_decay * time)
        means = columns.class_means(params.H) @ self.onto + left * self.rest
        return means, self.noise * left * jnp.eye(len(params.H), dtype=means.dtype)


class DrawnNoise(eqx.Module):
    """Fresh samples where the noise has as many dimensions as the inputs of the run have."""

    class_inputs: Float[Any, "p k"]
    scale: Any
    """sqrt((1 - c) / q)."""
    noise: tuple[int, int] = eqx.field(static=True)
    """The first input that is noise, and the first beyond."""

    def features(self, params: Params, columns: Columns, time: Any) -> tuple[Any, Any]:
        """As of `EndlessNoise`."""
        first, last = self.noise
        return params.H @ self.class_inputs, self.scale * params.H[:, first:last]


class Mixture(eqx.Module):
    """All fresh samples of the mixture of a run."""

    samples: EndlessNoise | DrawnNoise
    loss: str = eqx.field(static=True)
    """`squared`, or `cross_entropy` for all others: adjusted losses are for training."""

    def __call__(self, params: Params, columns: Columns, time: Any) -> dict[str, Any]:
        """Mean and covariance of their logits: `held_out_mean` with a column for each class, and
        `held_out_covariance`, (k, k) each."""
        head = classifier(params)
        means, factor = self.samples.features(params, columns, time)
        logits, spread = head @ means, head @ factor
        logits = logits if params.bias is None else logits + params.bias
        return {"held_out_mean": logits, "held_out_covariance": spread @ spread.T}

    def summarise(self, observed: dict[str, Any]) -> dict[str, Any]:
        """The variables of a Dataset."""
        means, covariance = observed.pop("held_out_mean"), observed.pop("held_out_covariance")
        found = {
            "held_out_accuracy": held_out.accuracy(means, covariance),
            "held_out_loss": held_out.loss(means, covariance, self.loss),
            "held_out_strength": spectral.class_strengths(means, np.ones(means.shape[-1])),
        }
        return {name: values.astype(means.dtype) for name, values in found.items()}


class Samples(eqx.Module):
    """Samples of one's own that are not trained on."""

    inputs: Float[Any, "p m"]
    labels: Int[Any, " m"]
    members: Float[Any, "m k"]
    loss: str = eqx.field(static=True)
    """As of `Mixture`."""

    def __call__(self, params: Params, columns: Columns, time: Any) -> dict[str, Any]:
        """The three variables."""
        logits = (classifier(params) @ params.H) @ self.inputs
        logits = logits if params.bias is None else logits + params.bias
        counts = self.members.sum(0)
        if self.loss == "squared":
            targets = self.members.T - 1 / len(logits)
            losses = ((logits - targets) ** 2).sum(0) / 2
        else:
            own = jnp.take_along_axis(logits, self.labels[None], 0)
            others = jnp.where(self.members.T == 1, -jnp.inf, logits - own)
            losses = jnp.logaddexp(0, jax.nn.logsumexp(others, axis=0))  # exact where it is small
        return {
            "held_out_accuracy": metrics.class_accuracy(logits, self.labels, self.members),
            "held_out_loss": losses @ self.members / counts,
            "held_out_strength": spectral.class_strengths(logits @ self.members, counts),
        }

    def summarise(self, observed: dict[str, Any]) -> dict[str, Any]:
        """Nothing more, as they were observed as they are."""
        return {}


def make_held_out(
    config: Config, problem: Problem, columns: Columns, start: Start, inputs: Inputs | None
) -> Mixture | Samples | None:
    """What is held out of a run; None where nothing is."""
    loss = "squared" if config.loss == "squared" else "cross_entropy"
    if inputs is not None and inputs.held_out is not None:
        data = inputs.held_out
        members = membership(data.labels, len(problem.counts))
        return Samples(data.inputs, data.labels, members, loss)
    if not config.held_out:
        return None
    if config.has_inputs:
        rows = noise_rows(config)
        scale = np.sqrt((1 - problem.coupling) / (rows.stop - rows.start))
        drawn = DrawnNoise(class_inputs(config, problem), scale, (rows.start, rows.stop))
        return Mixture(drawn, loss)
    k, beta = len(problem.counts), problem.common_coupling
    C = (problem.coupling - problem.between_coupling) * np.eye(k) + beta
    onto = np.linalg.solve(problem.class_kernel, C)
    rest, noise = np.zeros((config.feature_dim, k)), 0.0
    if start.class_part is not None:
        rest = start.class_part - columns.class_means(start.params.H) @ onto
        noise = config.init_scale * np.sqrt(1 - problem.coupling) * (config.init == "gaussian")
    decay = np.asarray(config.feature_decay) if config.has_decay else None
    return Mixture(EndlessNoise(onto, rest, np.asarray(noise), decay), loss)
