"""A scikit-learn classifier for imbalanced data: a small network trained under any loss and class
weights of the project."""

from __future__ import annotations

import dataclasses
import functools
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from ssm.practice.network import alarms, monitors, networks, parameters, tasks, training
from ssm.practice.network.prediction import Predictor
from ssm.problem import posthoc, schedules
from ssm.support.errors import InputError, invalid

AFTERWARDS = (
    "checkpoint_dir",
    "verbose",
    "shares",
    "decision",
    "prior_correction",
    "temperature_scaling",
)
"""Parameters that change nothing in a run of training, which may go on under others."""
log = logging.getLogger("ssm.training")
alarm_log = logging.getLogger("ssm.alarms")


class ReweightedClassifier(ClassifierMixin, Predictor, BaseEstimator):
    """A multilayer perceptron, or a small convolutional network, trained on a weighted loss.

    It minimises sum_i a_i l(z_i, y_i), where a_i is proportional to s_i w_{y_i}: sample weights s_i
    and class weights w_c, which may change from step to step. A weight of s counts as s samples, in
    the class sizes too. Times are in steps, one update on one mini-batch each. What is amiss in
    training is said once a fit, as an `alarms.TrainingWarning`; evaluations are told to the logger
    "ssm.training" and alarms to "ssm.alarms" as they come, both at level INFO.

    Probabilities and decisions are two settings. `shares` says what class shares `predict_proba` is
    for; `decision` what `predict` decides for, which by default is what the network was trained for,
    so that weights are not undone.

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
        num_steps: steps of training, at most; None: 1000, or 20 passes over the data if that is more.
        evaluate_every: steps between two evaluations; None: a twentieth of `num_steps`.
        early_stopping: False, or the performance by which evaluations on held-out samples are
            compared: `balanced_log_loss` (also True), `macro_average_precision`, `balanced_accuracy`,
            or `worst_class`, the least recall. Log loss and average precision are those of the
            posterior of equally frequent classes and know no threshold. The network of the best
            evaluation is kept, of those after the first step: the latest that is not worse than the
            best by more than one standard error of the difference, so that a few held-out samples do
            not end training by chance (average precision, which is no mean over samples, has none).
        refit: whether, after early stopping, a network is trained anew on all samples, held-out ones
            too, for as many steps (and under the same weights, where they follow a schedule). It is
            not where alarms took training back.
        validation_fraction: share of the samples held out, stratified by class, where early stopping,
            the schedule or temperature scaling asks for them; otherwise none are, and evaluations
            are of the training samples.
        patience: steps without a better evaluation, or since the last roll-back, after which early
            stopping ends training; None: six evaluations.
        alarm_thresholds: `ssm.practice.alarms.Thresholds`; None: as they are by default.
        alarm_action: `warn`, `stop`, or `roll_back`: parameters, optimiser and weights return to
            the best evaluation, and training goes on at half the learning rate.
        max_rollbacks: how often, before an alarm stops training.
        shares: class shares that probabilities are for: `none` (the network's own word, whatever
            weights and loss made of it), `training` (those of the samples given to `fit`: what
            weights and the loss did is taken back), `uniform` (equal ones), or a dict {label: share}.
            All but the first are exact where the loss is at its minimum under the last weights.
        decision: class shares that `predict` decides for: `trained` (the largest logit, as weights
            and loss made it), `uniform` (for balanced accuracy), or a dict {label: share}.
        prior_correction: alias of `shares`.
        temperature_scaling: whether logits are divided by the temperature that is best on held-out
            samples, each counted once.
        checkpoint_dir: a folder in which each evaluation's state is kept; `fit` with the same data
            and parameters goes on from it, to the same bits; what is damaged there is computed again. One
            fit at a time has the folder, so none in searches, and `random_state` has to be an
            integer.
        dtype: `float64` or `float32`.
        random_state: seed or generator of the network's start, the held-out split and the
            mini-batches.
        verbose: whether evaluations and alarms are printed as they come.

    Attributes:
        classes_, n_features_in_: as in scikit-learn.
        class_counts_: samples of each class that the network kept was trained on, shape (k,).
        class_shares_: of the classes among all samples given to `fit`, shape (k,).
        class_weights_: the weights that the network kept was last trained with, shape (k,).
        params_: its layers.
        temperature_, own_temperature_: of the posterior, and of probabilities for `shares="none"`; 1
            without scaling. They are those of the network that the samples were held out from.
        history_: an xarray.Dataset of the evaluations over `evaluation`, `class` and `block`.
        alarms_: (alarm, action) pairs; an alarm's `class_index` counts in `classes_`.
        status_: `finished`, `stopped early`, `stopped by an alarm` or `not finite`; of the last
            two, too, the network kept is that of the best evaluation.
        best_step_, n_steps_: of the network that is kept, and of training in all.
        refitted_: whether the network kept was trained anew on all samples.
        n_epochs_: passes over the training samples in these steps.
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
        num_steps: int | None = None,
        evaluate_every: int | None = None,
        early_stopping: bool | str = False,
        refit: bool = True,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        alarm_thresholds: alarms.Thresholds | None = None,
        alarm_action: str = "warn",
        max_rollbacks: int = 3,
        shares: str | Mapping[Any, float] = "none",
        decision: str | Mapping[Any, float] = "trained",
        prior_correction: str | Mapping[Any, float] | None = None,
        temperature_scaling: bool = False,
        checkpoint_dir: str | Path | None = None,
        dtype: str = "float64",
        random_state: Any = None,
        verbose: bool | int = False,
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
        self.refit = refit
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.alarm_thresholds = alarm_thresholds
        self.alarm_action = alarm_action
        self.max_rollbacks = max_rollbacks
        self.shares = shares
        self.decision = decision
        self.prior_correction = prior_correction
        self.temperature_scaling = temperature_scaling
        self.checkpoint_dir = checkpoint_dir
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def set_params(self, **params: Any) -> ReweightedClassifier:
        """As in scikit-learn; `schedule__NAME` replaces the schedule, which does not change, by one
        with another number."""
        prefix = "schedule__"
        inner = {
            name.removeprefix(prefix): x for name, x in params.items() if name.startswith(prefix)
        }
        super().set_params(**{name: x for name, x in params.items() if not name.startswith(prefix)})
        if inner:
            if not isinstance(self.schedule, schedules.Transformation):
                raise invalid(
                    f"{prefix}{next(iter(inner))}", self.schedule, "of a schedule that is set"
                )
            self.schedule = self.schedule.set_params(**inner)
        return self

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
            raise invalid("y", f"{k} class", "labels of at least two classes")
        self.class_shares_ = np.bincount(labels, counted, k) / counted.sum()
        for name, value in (
            ("shares", parameters.wanted_shares(self)),
            ("decision", self.decision),
        ):
            if isinstance(value, Mapping):
                parameters.shares_of_classes(name, value, self.classes_)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        train, evaluated = tasks.Samples(X, labels, counted), None
        if parameters.holds_out(self):
            fraction = float(self.validation_fraction)
            train, evaluated = tasks.held_out(train, fraction, self.classes_, seed)
        counts = np.bincount(train.labels, train.sample_weights, k)
        loss = parameters.loss(self, counts)
        options = parameters.training_options(self, loss, seed, len(train.labels))
        architecture = parameters.architecture(self, X.shape[1])
        self._no_posterior = parameters.why_no_posterior(self, loss, counted)
        self._check_posterior("shares", parameters.wanted_shares(self), "none")
        self._check_posterior("decision", self.decision, "trained")
        with self._precision():
            class_weights = parameters.class_weights(self, counts)
            task = tasks.make_task(
                train, evaluated, class_weights, architecture, self.dtype, seed, len(labels)
            )
            rng = np.random.default_rng(seed)
            params = networks.init_params(architecture, X.shape[1], k, rng, self.dtype)
            run = self._train(task, options, params)
        self._keep(run, task, options)
        self.temperature_ = self.own_temperature_ = 1.0
        if self.temperature_scaling:
            assert evaluated is not None
            self._fit_temperature(evaluated)
        if self._refits(run):
            assert evaluated is not None
            whole = tasks.Samples(X, labels, counted)
            self._train_anew(whole, task, options, run, params)
        return self

    def _refits(self, run: training.TrainingRun) -> bool:
        """Whether what early stopping chose is trained anew on all samples: not where alarms have
        taken the run back or ended it."""
        stopped = run.status in ("finished", "stopped early") and run.rollbacks == 0
        asked = self.refit and parameters.score_name(self) is not None
        return asked and stopped and run.kept_row > 0

    def _train_anew(
        self,
        samples: tasks.Samples,
        task: training.Task,
        options: training.TrainingOptions,
        run: training.TrainingRun,
        params: networks.Params,
    ) -> None:
        """Take the network trained on all samples for as many steps as the evaluation kept, and under
        the same weights from step to step where they followed a schedule."""
        counts = np.bincount(samples.labels, samples.sample_weights)
        options = dataclasses.replace(options, loss=parameters.loss(self, counts))
        architecture = parameters.architecture(self, samples.X.shape[1])
        with self._precision():
            weights = np.tile(parameters.class_weights(self, counts), (self.best_step_, 1))
            if self.schedule is not None:
                weights = training.weights_of_run(task, options, run)
            anew = tasks.make_task(
                samples, None, weights[-1], architecture, self.dtype, options.seed
            )
            state = training.train_anew(anew, options, params, weights)
            found = jax.tree.map(np.asarray, state.params)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(found)):
            log.info("training anew on all samples did not stay finite, so it is left out")
            return
        self.params_, self.class_weights_ = found, np.asarray(state.class_weights, float)
        self.class_counts_, self.loss_, self.refitted_ = counts, options.loss, True

    def _fit_temperature(self, evaluated: tasks.Samples) -> None:
        """Of the posterior, which holds for the class shares of the held-out samples, and of the
        network's own word."""
        logits = self._forward(networks.logits, evaluated.X)

        def best(shares: str) -> float:
            try:
                corrected = self._corrected(logits, shares)
                return posthoc.fit_temperature(corrected.T, evaluated.labels)
            except InputError as error:
                log.info("no temperature is best on the held-out samples, so it is 1: %s", error)
                return 1.0

        self.own_temperature_ = best("none")
        if not self._no_posterior:
            self.temperature_ = best("training")

    def _train(
        self, task: training.Task, options: training.TrainingOptions, params: Any
    ) -> training.TrainingRun:
        run = training.begin(task, options, params)
        tell = functools.partial(self._tell, training.steps_per_pass(options, task))
        if self.checkpoint_dir is None:
            return training.train(task, options, run, tell)
        from ssm.practice.network.checkpoints import Checkpoints, fingerprint

        told = {name: x for name, x in self.get_params().items() if name not in AFTERWARDS}
        if callable(options.learning_rate):
            rates = map(options.learning_rate, range(options.num_steps))
            told["learning_rate"] = np.array([float(rate) for rate in rates])
        kept = Checkpoints(Path(self.checkpoint_dir), fingerprint(task, params, told))

        def after_interval(run: training.TrainingRun) -> None:
            kept.save(run)
            tell(run)

        try:
            return training.train(task, options, kept.latest(run) or run, after_interval)
        finally:
            kept.close()

    def _tell(self, steps_per_pass: int, run: training.TrainingRun) -> None:
        """Tell the log of an evaluation, and of the alarms that it raised."""
        row = run.rows[-1]
        said = [
            (alarm_log, alarms.sentence(alarm, action, self.classes_.tolist()))
            for alarm, action in run.alarms
            if alarm.step == row["step"]
        ]
        worst = int(np.argmin(row["class_recall"]))
        evaluation = (
            f"step {row['step']} ({row['step'] / steps_per_pass:.3g} passes): loss {row['loss']:.4g}, balanced accuracy "
            f"{monitors.balanced_accuracy(row):.3f}, worst class {self.classes_[worst]} "
            f"{row['class_recall'][worst]:.3f}"
        )
        for logger, sentence in [*said, (log, evaluation)]:
            logger.info("%s", sentence)
            if self.verbose:
                print(sentence)

    def _keep(
        self, run: training.TrainingRun, task: training.Task, options: training.TrainingOptions
    ) -> None:
        """Take from a run what predictions and its record need."""
        # Alarms that end a run leave its best evaluation; early stopping the latest one within noise of
        # it; without either the last step is kept.
        row, state = len(run.rows) - 1, run.state
        if run.status in ("stopped by an alarm", "not finite"):
            row, state = run.best_row, run.best
        elif parameters.score_name(self):
            row, state = run.kept_row, run.kept
        self.params_ = jax.tree.map(np.asarray, state.params)
        self.class_weights_ = np.asarray(state.class_weights, float)
        self.class_counts_ = task.class_counts
        self.loss_ = options.loss
        per_pass = training.steps_per_pass(options, task)
        history = monitors.history(run.rows, [str(label) for label in self.classes_])
        self.history_ = history.assign(epoch=history["step"] / per_pass)
        self.n_epochs_ = run.step / per_pass
        self.refitted_ = False
        self.alarms_ = list(run.alarms)
        self.status_ = run.status
        self.best_step_ = int(run.rows[row]["step"])
        self.n_steps_ = run.step
        classes, passes = self.classes_.tolist(), options.num_steps / per_pass
        about = row, len(run.rows), passes, run.status
        for said in alarms.remarks(run.alarms, classes, *about):
            warnings.warn(said, alarms.TrainingWarning, stacklevel=3)
