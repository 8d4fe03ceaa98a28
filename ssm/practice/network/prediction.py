"""The predictions of a trained network: logits, probabilities for any class shares, and decisions."""

from __future__ import annotations

import functools
import logging
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy import special
from sklearn.utils.validation import check_is_fitted, validate_data

from ssm.practice.data.classifiers import Rows
from ssm.practice.decisions import shares as shares_of
from ssm.practice.decisions.shares import Shares
from ssm.practice.network import networks, objective, parameters, tasks
from ssm.practice.network.networks import Params
from ssm.problem import losses, posthoc
from ssm.support import checks, machine
from ssm.support.errors import InputError, invalid

# The number of samples that are predicted at once, which bounds the memory and lets calls share compiled code.
PREDICTED_AT_ONCE = 4096
log = logging.getLogger("ssm.training")


class Predictor(parameters.GivenParameters):
    """The part of a fitted classifier that predicts."""

    class_counts_: Float[np.ndarray, " k"]
    class_shares_: Float[np.ndarray, " k"]
    class_weights_: Float[np.ndarray, " k"]
    params_: Params
    loss_: objective.Loss
    temperature_: float
    own_temperature_: float
    _no_posterior: str
    """Why the posterior cannot be read off the logits; empty where it can be."""

    def logits(self, X: Rows) -> Float[np.ndarray, "m k"]:
        """The network's logits, without any correction, shape (m, k)."""
        return self._forward(networks.logits, self._samples(X))

    def features(self, X: Rows) -> Float[np.ndarray, "m d"]:
        """The features that the last layer is given, shape (m, d). `kernels.measured_coupling` tells from
        them which weights balance the classes."""
        return self._forward(networks.last_features, self._samples(X))

    def predict_proba(self, X: Rows) -> Float[np.ndarray, "m k"]:
        """Probabilities of the classes in the order of `classes_`, for the class shares of the parameter
        `shares`: shape (m, k)."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Rows) -> Float[np.ndarray, "m k"]:
        """Logarithms of the probabilities, which tell small ones apart that `predict_proba` rounds to 0:
        shape (m, k)."""
        logits, shares = self.logits(X), parameters.wanted_shares(self)
        temperature = self.own_temperature_ if shares == "none" else self.temperature_
        return self.log_posterior(logits, shares, temperature)

    def posterior(
        self,
        logits: Float[np.ndarray, "m k"],
        shares: Shares,
        temperature: float = 1.0,
    ) -> Float[np.ndarray, "m k"]:
        """Probabilities that logits of this network stand for: shape (m, k).

        Args:
            logits: from `logits`, shape (m, k).
            shares: the class shares that they are for, given as the parameter `shares` is.
            temperature: divides the corrected logits.

        Raises:
            ssm.InputError: unknown shares; any but `none` where the posterior cannot be read off the
                logits.
        """
        return np.exp(self.log_posterior(logits, shares, temperature))

    def log_posterior(
        self,
        logits: Float[np.ndarray, "m k"],
        shares: Shares,
        temperature: float = 1.0,
    ) -> Float[np.ndarray, "m k"]:
        """Logarithms of `posterior`."""
        corrected = self._corrected(logits, shares) / temperature
        if shares not in ("none", "training"):
            wanted = shares_of.of_classes("shares", shares, self.classes_)
            corrected = corrected + np.log(wanted / self.class_shares_)
        return special.log_softmax(corrected, axis=1)

    def predict(self, X: Rows) -> np.ndarray:
        """The class of each sample, by the parameter `decision`, shape (m,). Temperatures are for
        probabilities and do not change it."""
        scores, decision = self.logits(X), parameters.wanted_decision(self)
        if decision != "trained":
            self._check_posterior("decision", decision, "trained")
            scores = self.log_posterior(scores, decision)
        return self.classes_[scores.argmax(axis=1)]

    def _samples(self, X: Any) -> Float[np.ndarray, "m f"]:
        """The features of samples in float64; raises an error of scikit-learn's where they do not suit the fitted network."""
        check_is_fitted(self)
        samples: Any = validate_data(self, X, dtype=np.float64, reset=False)
        return samples

    def _precision(self) -> AbstractContextManager[object]:
        """A context in which this thread computes in the precision of the parameter `dtype`."""
        return jax.enable_x64(checks.choice("dtype", self.dtype, parameters.DTYPES) == "float64")

    def _check_posterior(self, name: str, value: Shares, without: str) -> None:
        """Refuse a value other than `without`, which alone needs no posterior, where the posterior cannot
        be read off the logits."""
        if value != without and self._no_posterior:
            raise invalid(name, value, f"{without!r} here: {self._no_posterior}")

    def _forward(
        self, function: networks.Forward, X: Float[np.ndarray, "m f"]
    ) -> Float[np.ndarray, "m d"]:
        """The values of a function of `networks` for the samples, under the network's parameters."""
        machine.use_compilation_cache()
        with self._precision():
            architecture = parameters.architecture(self, X.shape[1])
            rows = min(PREDICTED_AT_ONCE, max(1 << (len(X) - 1).bit_length(), 512))
            parts = []
            for start in range(0, len(X), rows):
                part = X[start : start + rows]
                padded = networks.padded_features(part, rows, architecture, self.dtype)
                values = _forward(function, self.params_, padded, architecture.image_shape)
                parts.append(np.asarray(values, float)[: len(part)])
        return np.concatenate(parts)

    def _fit_temperature(self, held_out: tasks.Samples) -> None:
        """Fit two temperatures to the held-out samples: that of the posterior, for their class shares,
        and that of the network's own probabilities."""
        logits = self._forward(networks.logits, held_out.X)

        def best(shares: str) -> float:
            try:
                corrected = self._corrected(logits, shares)
                return posthoc.fit_temperature(corrected.T, held_out.labels)
            except InputError as error:
                log.info("no temperature is best on the held-out samples, so it is 1: %s", error)
                return 1.0

        self.own_temperature_ = best("none")
        if not self._no_posterior:
            self.temperature_ = best("training")

    def _corrected(
        self, logits: Float[np.ndarray, "m k"], shares: Shares
    ) -> Float[np.ndarray, "m k"]:
        """Logits whose softmax is the posterior for the class shares of all samples given to `fit`, or
        the network's own probabilities where `shares` is `none`."""
        if isinstance(shares, str):
            checks.choice("shares", shares, shares_of.NAMES)
        if shares == "none":
            if isinstance(self.loss_, losses.Squared):
                return np.log(objective.probabilities(logits, self.loss_))
            return objective.common_scale(self.loss_) * logits
        self._check_posterior("shares", shares, "none")
        # The samples that the network was trained on lack the held-out ones, so their class shares differ a little.
        trained = self.class_counts_ / self.class_counts_.sum()
        pull, mixup = self.class_weights_, getattr(self, "mixup", None)
        if mixup is not None:
            pull = pull * mixup.class_factors(self.class_counts_)
        log_posterior = objective.log_posterior(logits, self.loss_, pull)
        return log_posterior + np.log(self.class_shares_ / trained)


@functools.partial(jax.jit, static_argnames=("function", "image_shape"))
def _forward(
    function: networks.Forward,
    params: Params,
    X: Float[Array, "m f"],
    image_shape: tuple[int, int] | None,
) -> Float[Array, "m d"]:
    return networks.in_blocks(function, params, X, image_shape)
