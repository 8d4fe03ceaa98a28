"""What a network that was trained says of samples: logits, probabilities for any class shares, and
decisions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from scipy import special
from sklearn.utils.validation import check_is_fitted, validate_data

from ssm.practice.network import networks, objective, parameters
from ssm.practice.network.networks import Params
from ssm.support import checks
from ssm.support.errors import invalid

PREDICTED_AT_ONCE = 4096  # samples: bounds the memory, and shares what is compiled


class Predictor:
    """The part of a fitted classifier that predicts."""

    classes_: np.ndarray
    class_counts_: Float[np.ndarray, " k"]
    class_shares_: Float[np.ndarray, " k"]
    class_weights_: Float[np.ndarray, " k"]
    params_: Params
    loss_: objective.Loss
    temperature_: float
    own_temperature_: float
    decision: Any
    dtype: Any
    _no_posterior: str
    """Why the posterior cannot be read off the logits; empty where it can be."""

    def logits(self, X: Any) -> Float[np.ndarray, "m k"]:
        """The network's logits as they are, shape (m, k)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._forward(networks.logits, X)

    def features(self, X: Any) -> Float[np.ndarray, "m d"]:
        """What the last layer is given, shape (m, d): `kernels.measured_coupling` says what these
        features balance at."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._forward(networks.last_features, X)

    def predict_proba(self, X: Any) -> Float[np.ndarray, "m k"]:
        """Probabilities of the classes, in the order of `classes_`, for the class shares that
        `shares` names: shape (m, k)."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Float[np.ndarray, "m k"]:
        """Logarithms of `predict_proba`, without its rounding to 0 and 1: shape (m, k)."""
        logits, shares = self.logits(X), parameters.wanted_shares(self)
        temperature = self.own_temperature_ if shares == "none" else self.temperature_
        return self.log_posterior(logits, shares, temperature)

    def posterior(
        self,
        logits: Float[np.ndarray, "m k"],
        shares: str | Mapping[Any, float],
        temperature: float = 1.0,
    ) -> Float[np.ndarray, "m k"]:
        """Probabilities that logits of this network stand for where classes have these shares, given
        as the parameter `shares` is: shape (m, k).

        Raises ssm.InputError for unknown shares, and for all but `none` where the posterior cannot
        be read off the logits.
        """
        return np.exp(self.log_posterior(logits, shares, temperature))

    def log_posterior(
        self,
        logits: Float[np.ndarray, "m k"],
        shares: str | Mapping[Any, float],
        temperature: float = 1.0,
    ) -> Float[np.ndarray, "m k"]:
        """Logarithms of `posterior`."""
        corrected = self._corrected(logits, shares) / temperature
        if shares not in ("none", "training"):
            wanted = parameters.shares_of_classes("shares", shares, self.classes_)
            corrected = corrected + np.log(wanted / self.class_shares_)
        return special.log_softmax(corrected, axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The class of each sample that `decision` asks for, shape (m,). A temperature is for
        probabilities, and has no part in it."""
        scores, decision = self.logits(X), parameters.wanted_decision(self)
        if decision != "trained":
            self._check_posterior("decision", decision, "trained")
            scores = self.log_posterior(scores, decision)
        return self.classes_[scores.argmax(axis=1)]

    def _precision(self) -> Any:
        """float64 in this thread, where asked for."""
        return jax.enable_x64(checks.choice("dtype", self.dtype, parameters.DTYPES) == "float64")

    def _check_posterior(self, name: str, value: Any, without: str) -> None:
        """Refuse a setting that needs the posterior where logits do not say it."""
        if value != without and self._no_posterior:
            raise invalid(name, value, f"{without!r} here: {self._no_posterior}")

    def _forward(self, function: Any, X: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "m d"]:
        """A function of `networks` of the network kept."""
        with self._precision():
            architecture = parameters.architecture(self, X.shape[1])
            rows = min(PREDICTED_AT_ONCE, max(1 << (len(X) - 1).bit_length(), 512))
            found = []
            for start in range(0, len(X), rows):
                part = X[start : start + rows]
                padded = networks.padded_features(part, rows, architecture, self.dtype)
                values = _forward(function, self.params_, padded, architecture.image_shape)
                found.append(np.asarray(values, float)[: len(part)])
        return np.concatenate(found)

    def _corrected(
        self, logits: Float[np.ndarray, "m k"], shares: str | Mapping[Any, float]
    ) -> Float[np.ndarray, "m k"]:
        """Logits whose softmax is the posterior under the class shares of all samples given to `fit`,
        or the network's own where `shares` is `none`."""
        if isinstance(shares, str):
            checks.choice("shares", shares, parameters.SHARES)
        if shares == "none":
            if self.loss_ is None:
                return np.log(objective.probabilities(logits, None))
            return self.loss_.factors.max() * logits
        self._check_posterior("shares", shares, "none")
        trained = self.class_counts_ / self.class_counts_.sum()  # without those that were held out
        log_posterior = objective.log_posterior(logits, self.loss_, self.class_weights_)
        return log_posterior + np.log(self.class_shares_ / trained)


@functools.partial(jax.jit, static_argnames=("function", "image_shape"))
def _forward(function: Any, params: Any, X: Any, image_shape: tuple[int, int] | None) -> Any:
    return function(params, X, image_shape)
