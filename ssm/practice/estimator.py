"""A scikit-learn classifier for imbalanced data: a small network trained under any loss and class
weights of the project."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Float
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ssm import checks, posthoc, schedules
from ssm.checks import InputError, refuse
from ssm.practice import alarms, monitors, networks, objective, parameters, tasks, training

log = logging.getLogger("ssm")
PREDICTED_AT_ONCE = 4096  # samples: bounds the memory, and shares what is compiled


class ReweightedClassifier(ClassifierMixin, BaseEstimator):
    """A multilayer perceptron, or a small convolutional network, trained on a weighted loss.

    It minimises sum_i a_i l(z_i, y_i), where a_i is proportional to s_i w_{y_i}: sample weights s_i
    and class weights w_c, which may change from step to step. A weight of s counts as s samples, in
    the class sizes too. Times are in steps, one update on one mini-batch each. Alarms and
    evaluations are told to the logger "ssm", alarms as warnings and evaluations at level INFO.

    Args:
        loss: `cross_entropy`, `squared`, `logit_adjustment`, `cdt`, `vs`, `ldam` or `focal`, as in
            `ssm.Config`, and its numbers `additive_adjustment`, `multiplicative_adjustment`,
            `largest_margin`, `logit_scale`, `focusing`, `label_smoothing`; None: as published for
            the loss.
        class_weight: None (ones), `balanced`, `sqrt`, `effective`, a dict {label: weight}, a weight
            for each of the sorted labels, or a function of the class sizes.
        schedule: a transformation of `ssm.schedules` that changes these weights from step to step;
            where it asks for performance it is given each class's recall at the last evaluation.
        reduction: `mean` (a_i = s_i w_{y_i} / sum_j s_j) or `weighted_mean` (... / sum_j s_j w_{y_j}),
            over each mini-batch.
        hidden_layer_sizes: widths of the hidden layers.
        channels: of 3 x 3 convolutions of stride 2 before them, for images whose (height, width) is
            `image_shape`. Convolutions are fast in float32 only.
        optimizer: `gd`, `momentum`, `nesterov`, `adam`, or a transformation of optax made for a
            learning rate of 1.
        learning_rate: a number, or a schedule of the step, of optax say.
        momentum: of `momentum` and `nesterov`.
        weight_decay: share of the kernels lost a step, times the learning rate (decoupled).
        batch_size: samples of a mini-batch; all of them where it is as large as the data.
        num_steps: steps of training, at most.
        evaluate_every: steps between two evaluations.
        early_stopping: False, or the performance by which evaluations on held-out samples are
            compared: `balanced_accuracy` (also True) or `worst_class`, the least recall. The network
            of the best evaluation is kept.
        validation_fraction: share of the samples held out, stratified by class, where early stopping,
            the schedule or temperature scaling asks for them; otherwise none are, and evaluations
            are of the training samples.
        patience: steps without a better evaluation, or since the last roll-back, after which early
            stopping ends training.
        alarm_thresholds: `ssm.practice.alarms.Thresholds`; None: as they are by default.
        alarm_action: `warn`, `stop`, or `roll_back`: parameters, optimiser and weights return to
            the best evaluation, and training goes on at half the learning rate.
        max_rollbacks: how often, before an alarm stops training.
        prior_correction: class shares that probabilities are for: `none` (the network's own),
            `training` (the training samples': what weights and adjustments of the loss did is taken
            back), or `uniform` (equal ones).
        temperature_scaling: whether logits are divided by the temperature that is best on held-out
            samples, each counted once.
        checkpoint_dir: a folder in which each evaluation's state is kept; `fit` with the same data
            and parameters goes on from it, to the same bits. One fit a folder, so none in searches,
            and `random_state` has to be an integer.
        dtype: `float64` or `float32`.
        random_state: seed or generator of the network's start, the held-out split and the
            mini-batches.

    Attributes:
        classes_, n_features_in_: as in scikit-learn.
        class_counts_: samples of each class that it trained on, held-out ones left out, shape (k,).
        class_weights_: the weights that the network kept was last trained with, shape (k,).
        params_: its layers.
        temperature_: 1 without scaling.
        history_: an xarray.Dataset of the evaluations over `evaluation`, `class` and `block`.
        alarms_: (alarm, action) pairs; an alarm's `class_index` counts in `classes_`.
        status_: `finished`, `stopped early`, `stopped by an alarm` or `not finite`; of the last
            two, too, the network kept is that of the best evaluation.
        best_step_, n_steps_: of the best evaluation, and of training in all.
    """

    def __init__(
        self,
        loss: str = "cross_entropy",
        *,
        class_weight: Any = None,
        schedule: schedules.Transformation | None = None,
        reduction: str = "mean",
        additive_adjustment: float | None = None,
        multiplicative_adjustment: float | None = None,
        largest_margin: float | None = None,
        logit_scale: float | None = None,
        focusing: float | None = None,
        label_smoothing: float | None = None,
        hidden_layer_sizes: Sequence[int] = (64,),
        channels: Sequence[int] = (),
        image_shape: tuple[int, int] | None = None,
        optimizer: str | optax.GradientTransformation = "adam",
        learning_rate: float | Callable[[int], float] = 0.003,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        batch_size: int = 128,
        num_steps: int = 1000,
        evaluate_every: int = 50,
        early_stopping: bool | str = False,
        validation_fraction: float = 0.2,
        patience: int = 300,
        alarm_thresholds: alarms.Thresholds | None = None,
        alarm_action: str = "warn",
        max_rollbacks: int = 3,
        prior_correction: str = "none",
        temperature_scaling: bool = False,
        checkpoint_dir: str | Path | None = None,
        dtype: str = "float64",
        random_state: Any = None,
    ):
        self.loss = loss
        self.class_weight = class_weight
        self.schedule = schedule
        self.reduction = reduction
        self.additive_adjustment = additive_adjustment
        self.multiplicative_adjustment = multiplicative_adjustment
        self.largest_margin = largest_margin
        self.logit_scale = logit_scale
        self.focusing = focusing
        self.label_smoothing = label_smoothing
        self.hidden_layer_sizes = hidden_layer_sizes
        self.channels = channels
        self.image_shape = image_shape
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.evaluate_every = evaluate_every
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.alarm_thresholds = alarm_thresholds
        self.alarm_action = alarm_action
        self.max_rollbacks = max_rollbacks
        self.prior_correction = prior_correction
        self.temperature_scaling = temperature_scaling
        self.checkpoint_dir = checkpoint_dir
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ReweightedClassifier:
        """Train on features X, (n, d), and labels y, (n,).

        Raises ssm.InputError (a ValueError) for parameters or data that cannot be used.
        """
        parameters.check(self)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        counted = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = counted > 0  # a weight of 0 is no sample
        X, y, counted = X[kept], y[kept], counted[kept]
        self.classes_, labels = np.unique(y, return_inverse=True)
        k = len(self.classes_)
        if k < 2:
            raise refuse("y", f"{k} class", "labels of at least two classes")
        self.class_counts_ = np.bincount(labels, counted, k)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        train, evaluated = tasks.Samples(X, labels, counted), None
        if parameters.holds_out(self):
            fraction = float(self.validation_fraction)
            train, evaluated = tasks.held_out(train, fraction, self.classes_, seed)
        counts = np.bincount(train.labels, train.sample_weights, k)
        loss = parameters.loss(self, counts)
        options, architecture = (
            parameters.training_options(self, loss, seed),
            parameters.architecture(self, X.shape[1]),
        )
        with self._precision():
            class_weights = parameters.class_weights(self, counts)
            task = tasks.make_task(train, evaluated, class_weights, architecture, self.dtype, seed)
            rng = np.random.default_rng(seed)
            params = networks.init_params(architecture, X.shape[1], k, rng, self.dtype)
            run = self._train(task, options, params)
        self._keep(run, task, loss)
        self.temperature_ = 1.0
        if self.temperature_scaling:
            assert evaluated is not None
            logits = self._corrected(
                self._forward(networks.logits, evaluated.X), self.prior_correction
            )
            try:
                self.temperature_ = posthoc.fit_temperature(logits.T, evaluated.labels)
            except InputError as error:
                log.info("no temperature is best on the held-out samples, so it is 1: %s", error)
        return self

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
        `prior_correction` names: shape (m, k)."""
        return self.posterior(self.logits(X), self.prior_correction, self.temperature_)

    def posterior(
        self, logits: Float[np.ndarray, "m k"], prior_correction: str, temperature: float = 1.0
    ) -> Float[np.ndarray, "m k"]:
        """Probabilities that logits of this network stand for, shape (m, k).

        Raises ssm.InputError for an unknown correction.
        """
        corrected = self._corrected(logits, prior_correction) / temperature
        if prior_correction == "uniform":
            corrected = posthoc.balanced(corrected.T, self.class_counts_).T
        return special.softmax(corrected, axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample, shape (m,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy.

        Raises ssm.InputError where y has labels that training had none of.
        """
        check_is_fitted(self)
        unseen = np.setdiff1d(np.asarray(y), self.classes_)
        if len(unseen):
            allowed = f"labels seen in training, {self.classes_.tolist()}"
            raise refuse("y", unseen.tolist(), allowed)
        return super().score(X, y, sample_weight)

    def _precision(self) -> Any:
        """float64 in this thread, where asked for."""
        return jax.enable_x64(checks.choice("dtype", self.dtype, parameters.DTYPES) == "float64")

    def _train(self, task: training.Task, options: training.Options, params: Any) -> training.Run:
        run = training.begin(task, options, params)
        if self.checkpoint_dir is None:
            return training.train(task, options, run, self._tell)
        from ssm.practice.checkpoints import Checkpoints, fingerprint

        told = {name: x for name, x in self.get_params().items() if name != "checkpoint_dir"}
        if callable(options.learning_rate):
            rates = map(options.learning_rate, range(options.num_steps))
            told["learning_rate"] = np.array([float(rate) for rate in rates])
        kept = Checkpoints(Path(self.checkpoint_dir), fingerprint(task, params, told))

        def after_interval(run: training.Run) -> None:
            kept.save(run)
            self._tell(run)

        try:
            return training.train(task, options, kept.latest(run) or run, after_interval)
        finally:
            kept.close()

    def _tell(self, run: training.Run) -> None:
        """Tell the log of an evaluation, and of the alarms that it raised."""
        row = run.rows[-1]
        for alarm, action in run.alarms:
            if alarm.step == row["step"]:
                log.warning("%s", alarms.sentence(alarm, action, self.classes_.tolist()))
        worst = int(np.argmin(row["class_recall"]))
        log.info(
            "step %d: loss %.4g, balanced accuracy %.3f, worst class %s %.3f",
            row["step"],
            row["loss"],
            monitors.balanced_accuracy(row),
            self.classes_[worst],
            row["class_recall"][worst],
        )

    def _keep(self, run: training.Run, task: training.Task, loss: objective.Loss) -> None:
        """Take from a run what predictions and its record need."""
        broken = run.status in ("stopped by an alarm", "not finite")
        state = run.best if broken or parameters.score_name(self) else run.state
        self.params_ = jax.tree.map(np.asarray, state.params)
        self.class_weights_ = np.asarray(state.class_weights, float)
        self.class_counts_ = task.class_counts
        self.loss_ = loss
        self.history_ = monitors.history(run.rows, [str(label) for label in self.classes_])
        self.alarms_ = list(run.alarms)
        self.status_ = run.status
        self.best_step_ = int(run.rows[run.best_row]["step"])
        self.n_steps_ = run.step

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
        self, logits: Float[np.ndarray, "m k"], prior_correction: str
    ) -> Float[np.ndarray, "m k"]:
        """Logits whose softmax is the posterior under the training samples' class shares, or the
        network's own where no correction is asked for.

        The loss's minimiser has softmax(z')_c ~ w_c P(c | x), with z' the logits as the loss saw
        them, so log w comes off z'. Of a label's own margin (LDAM) and of a focal loss's power this
        takes nothing back.
        """
        correction = checks.choice("prior_correction", prior_correction, parameters.CORRECTIONS)
        if self.loss_ is None:
            seen = own = np.log(objective.probabilities(logits, None))
        else:
            scale = self.loss_.factors.max()
            own, seen = scale * logits, self.loss_.factors * logits + self.loss_.offsets
        return own if correction == "none" else posthoc.unweighted(seen.T, self.class_weights_).T


@functools.partial(jax.jit, static_argnames=("function", "image_shape"))
def _forward(function: Any, params: Any, X: Any, image_shape: tuple[int, int] | None) -> Any:
    return function(params, X, image_shape)
