"""A scikit-learn classifier for imbalanced data: a small network, trained under any of the project's
losses and class weights."""

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
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from ssm.practice.decisions import shares as shares_of
from ssm.practice.decisions import weighting
from ssm.practice.decisions.shares import Shares
from ssm.practice.decisions.weighting import ClassWeight
from ssm.practice.network import alarms, decisions, monitors, networks, parameters, tasks, training
from ssm.practice.network.batches import Mixup
from ssm.practice.network.prediction import Predictor
from ssm.problem import schedules
from ssm.support import machine
from ssm.support.errors import invalid

UNRELATED_TO_TRAINING = (
    "checkpoint_dir",
    "verbose",
    "shares",
    "decision",
    "prior_correction",
    "temperature_scaling",
)
"""Parameters that do not affect training, so that a checkpoint can be used whatever they are."""
LATER = ("sampling", "mixup")  # Checkpoints of earlier versions do not have these parameters.
log = logging.getLogger("ssm.training")
alarm_log = logging.getLogger("ssm.alarms")


class ReweightedClassifier(ClassifierMixin, Predictor, weighting.WithSchedule, BaseEstimator):
    """A multilayer perceptron, or a small convolutional network, trained on a weighted loss.

    It minimises sum_i a_i l(z_i, y_i), where a_i is proportional to s_i w_{y_i}, with sample weights s_i
    and class weights w_c, which may change from step to step. A sample of weight s counts as s samples,
    in the class sizes too. Times are in steps, each one update on one mini-batch. A fit gives one
    `alarms.TrainingWarning` for each thing that is amiss in its training; it logs evaluations to
    "ssm.training" and alarms to "ssm.alarms" as they come, both at level INFO.

    Probabilities and decisions are set apart: `shares` says for which class shares the probabilities
    are, and `decision` for which class shares `predict` decides. By default these are the ones that the
    network was trained for, so that weights are not undone.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> classifier = ReweightedClassifier(class_weight="balanced", num_steps=200, random_state=0)
        >>> classifier.fit((X - X.mean(0)) / X.std(0), y).status_
        'finished'

    Args:
        loss: `cross_entropy`, `squared`, `logit_adjustment`, `cdt`, `vs`, `ldam` or `focal`, as in
            `ssm.Config`. Its numbers are `additive_adjustment`, `multiplicative_adjustment`,
            `largest_margin`, `logit_scale`, `focusing` and `label_smoothing`; None takes the number
            that was published for the loss.
        class_weight: None (ones), `balanced`, `sqrt`, `effective`, a dict {label: weight}, a weight
            for each of the sorted labels, or a function of the class sizes.
        schedule: a transformation of `ssm.schedules` that changes these weights from step to step;
            one that asks for performance is given each class's recall at the last evaluation.
        reduction: `mean` (a_i = s_i w_{y_i} / sum_j s_j) or `weighted_mean` (... / sum_j s_j w_{y_j}),
            over each mini-batch. The latter weakens class weights in small batches
            (`ssm.weights.effective_class_weights`), and a fit warns where it halves their ratio.
        hidden_layer_sizes: widths of the hidden layers.
        channels: output channels of 3 x 3 convolutions of stride 2 that precede the hidden layers, for
            images of (height, width) `image_shape`.
        optimizer: `gd`, `momentum`, `nesterov`, `adam`, or a transformation of optax that was made for
            a learning rate of 1.
        learning_rate: a number, or a function of the step, such as a schedule of optax.
        momentum: the momentum of `momentum` and `nesterov`.
        weight_decay: decoupled; each step takes learning_rate x weight_decay of the kernels off them.
        batch_size: samples of a mini-batch, which is all of the data where it is as large as they are.
        sampling: whether class weights act by how often samples are drawn into mini-batches, instead of in
            the loss. Probabilities are corrected for them all the same.
        mixup: `ssm.practice.batches.Mixup`, which mixes the samples of a mini-batch; None: they stay as they
            are. What mixing itself does to probabilities is not taken back.
        num_steps: the largest number of steps; None: 1000, or 20 passes over the data if that is more.
        evaluate_every: steps between two evaluations; None: a twentieth of `num_steps`.
        early_stopping: False, or the performance by which evaluations on held-out samples are
            compared: `balanced_log_loss` (also True), `macro_average_precision`, `balanced_accuracy`,
            or `worst_class`, the least recall. Log loss and average precision use the posterior of
            equally frequent classes and depend on no threshold. Of the evaluations after the first
            step, the latest is kept whose performance is at most one standard error of the difference
            below the best, so that a few held-out samples do not end training by chance. (Average
            precision is no mean over samples and has no such error: there the best one is kept.)
        refit: whether, after early stopping, a network is trained anew on all samples, held-out ones
            included, for as many steps, and under the same weights where they follow a schedule. This
            is left out where alarms have stopped training or rolled it back.
        validation_fraction: share of each class that is held out where early stopping, the schedule or
            temperature scaling needs it; otherwise evaluations are of the training samples, or of
            some 10,000 of them.
        patience: steps without a better evaluation, counted anew from a roll-back, after which early
            stopping ends training; None: six evaluations.
        alarm_thresholds: `ssm.practice.alarms.Thresholds`; None: the default ones.
        alarm_action: `warn`, `stop`, or `roll_back`: parameters, optimiser and weights return to
            the best evaluation, and training goes on at half the learning rate.
        max_rollbacks: after so many roll-backs the next alarm stops training.
        shares: the class shares that probabilities are for: `none` (the network's own probabilities,
            whatever weights and loss made of them), `training` (the shares among the samples given to
            `fit`, with the effect of weights and loss taken back), `uniform` (equal shares), or a dict
            {label: share}. All but the first are exact at the minimum of the loss under the last
            weights.
        decision: the class shares that `predict` decides for: `trained` (the largest logit, as weights
            and loss made it), `uniform` (for balanced accuracy), or a dict {label: share}.
        prior_correction: an alias of `shares`.
        temperature_scaling: whether logits are divided by the temperature that is best on held-out
            samples, each counted once.
        checkpoint_dir: a folder in which the state at each evaluation is kept. `fit` with the same data
            and parameters continues from there, to the same bits, and computes anew what is damaged.
            One fit at a time can use the folder, so it is not for searches; `random_state` has to be
            an integer.
        dtype: `float64` or `float32`.
        random_state: seed or generator of the initial network, the held-out split and the mini-batches.
        verbose: whether evaluations and alarms are printed as they come.

    Attributes:
        classes_, n_features_in_: as in scikit-learn.
        class_counts_: sizes of the classes that the kept network was trained on, shape (k,).
        class_shares_: shares of the classes among all samples given to `fit`, shape (k,).
        class_weights_: the weights that the kept network was last trained with, shape (k,).
        params_: the layers of the kept network.
        temperature_, own_temperature_: temperatures of the posterior, and of the probabilities for
            `shares="none"`; 1 without scaling. They are fitted to the network that the samples were
            held out from.
        history_: an xarray.Dataset of the evaluations over `evaluation`, `class` and `block`.
        alarms_: (alarm, action) pairs; an alarm's `class_index` is an index of `classes_`.
        status_: `finished`, `stopped early`, `stopped by an alarm` or `not finite`; after either of
            the last two, too, the kept network is that of the best evaluation.
        best_step_, n_steps_: steps of the kept network, and steps of training in all.
        refitted_: whether the kept network was trained anew on all samples.
        n_epochs_: passes over the training samples in `n_steps_`.
    """

    def __init__(
        self,
        loss: str = "cross_entropy",
        *,
        class_weight: ClassWeight = None,
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
        sampling: bool = False,
        mixup: Mixup | None = None,
        num_steps: int | None = None,
        evaluate_every: int | None = None,
        early_stopping: bool | str = False,
        refit: bool = True,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        alarm_thresholds: alarms.Thresholds | None = None,
        alarm_action: str = "warn",
        max_rollbacks: int = 3,
        shares: Shares = "none",
        decision: Shares = "trained",
        prior_correction: Shares | None = None,
        temperature_scaling: bool = False,
        checkpoint_dir: str | Path | None = None,
        dtype: str = "float64",
        random_state: int | np.random.RandomState | None = None,
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
        self.sampling = sampling
        self.mixup = mixup
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

    # X and y are `Any`, since the checks that turn them into arrays have no types.
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> ReweightedClassifier:
        """Train on features X, (n, d), and labels y, (n,).

        Args:
            sample_weight: how often each sample counts, (n,); samples of weight 0 are left out.

        Raises:
            ssm.InputError (a ValueError): parameters or data that cannot be used.
        """
        parameters.check(self)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        is_used = weights > 0
        X, y, weights = X[is_used], y[is_used], weights[is_used]
        self.classes_, labels = np.unique(y, return_inverse=True)
        k = len(self.classes_)
        if k < 2:
            raise invalid("y", f"{k} class", "labels of at least two classes")
        self.class_shares_ = np.bincount(labels, weights, k) / weights.sum()
        for name, value in (
            ("shares", parameters.wanted_shares(self)),
            ("decision", self.decision),
        ):
            if isinstance(value, Mapping):
                shares_of.of_classes(name, value, self.classes_)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        samples = tasks.Samples(X, labels, weights)
        train, evaluated = samples, None
        if parameters.holds_out(self):
            fraction = float(self.validation_fraction)
            train, evaluated = tasks.held_out(train, fraction, self.classes_, seed)
        loss = parameters.loss(self, np.bincount(train.labels, train.sample_weights))
        self._no_posterior = parameters.why_no_posterior(self, loss, weights)
        self._check_posterior("shares", parameters.wanted_shares(self), "none")
        self._check_posterior("decision", self.decision, "trained")
        machine.use_compilation_cache()
        with self._precision():
            task, options, params = parameters.prepared(self, train, evaluated, seed, len(labels))
            if remark := parameters.why_weights_are_weaker(self, train.labels, task.class_counts):
                warnings.warn(remark, alarms.TrainingWarning, stacklevel=2)
            run = self._train(task, options, params)
        self._keep(run, task, options)
        self.temperature_ = self.own_temperature_ = 1.0
        if self.temperature_scaling:
            assert evaluated is not None
            self._fit_temperature(evaluated)
        if self._refits(run):
            self._train_anew(samples, task, options, run, params)
        return self

    def _refits(self, run: training.TrainingRun) -> bool:
        """Whether a network is trained anew on all samples, for as many steps as early stopping chose.
        It is not where alarms have stopped the run or rolled it back."""
        is_undisturbed = run.status in ("finished", "stopped early") and run.rollbacks == 0
        is_wanted = self.refit and parameters.score_name(self) is not None
        return is_wanted and is_undisturbed and run.kept_row > 0

    def _train_anew(
        self,
        samples: tasks.Samples,
        task: training.Task,
        options: training.TrainingOptions,
        run: training.TrainingRun,
        params: networks.Params,
    ) -> None:
        """Keep a network that is trained on all samples for as many steps as the kept evaluation had
        been, under the same weights from step to step where they follow a schedule."""
        counts = np.bincount(samples.labels, samples.sample_weights)
        options = dataclasses.replace(options, loss=parameters.loss(self, counts))
        architecture = parameters.architecture(self, samples.X.shape[1])
        with self._precision():
            weights = np.tile(parameters.class_weights(self, counts), (self.best_step_, 1))
            if self.schedule is not None:
                weights = training.weights_of_run(task, options, run)
            task_of_all = tasks.make_task(
                samples, None, weights[-1], architecture, self.dtype, options.seed
            )
            state = training.untrained(task_of_all, options, params)
            state = training.advance(task_of_all, options, state, 0, weights)
            layers = jax.tree.map(np.asarray, state.params)
        if not all(np.isfinite(x).all() for x in jax.tree.leaves(layers)):
            log.info("training anew on all samples did not stay finite, so it is left out")
            return
        self.params_, self.class_weights_ = layers, np.asarray(state.class_weights, float)
        self.class_counts_, self.loss_, self.refitted_ = counts, options.loss, True

    def _train(
        self, task: training.Task, options: training.TrainingOptions, params: networks.Params
    ) -> training.TrainingRun:
        """Train until the run ends, from the newest checkpoint where there is one."""
        run = training.begin(task, options, params)
        log_evaluation = functools.partial(
            self._log_evaluation, training.steps_per_pass(options, task)
        )
        if self.checkpoint_dir is None:
            return training.train(task, options, run, log_evaluation)
        from ssm.practice.network.checkpoints import Checkpoints, fingerprint

        settings = self.get_params().items()
        left_out = {*UNRELATED_TO_TRAINING, *(name for name in LATER if not getattr(self, name))}
        decisive = {name: x for name, x in settings if name not in left_out}
        if callable(options.learning_rate):
            rates = map(options.learning_rate, range(options.num_steps))
            decisive["learning_rate"] = np.array([float(rate) for rate in rates])
        checkpoints = Checkpoints(Path(self.checkpoint_dir), fingerprint(task, params, decisive))

        def after_interval(run: training.TrainingRun) -> None:
            checkpoints.save(run)
            log_evaluation(run)

        try:
            return training.train(task, options, checkpoints.latest(run) or run, after_interval)
        finally:
            checkpoints.close()

    def _class_names(self) -> Sequence[object]:
        """The names of the classes in logs and warnings."""
        return self.classes_.tolist()

    def _log_evaluation(self, steps_per_pass: int, run: training.TrainingRun) -> None:
        """Write the newest evaluation to the log, and the alarms that it raised."""
        row, classes = run.rows[-1], self._class_names()
        lines = [
            (alarm_log, alarms.sentence(alarm, action, classes))
            for alarm, action in run.alarms
            if alarm.step == row["step"]
        ]
        worst = int(np.argmin(row["class_recall"]))
        evaluation = (
            f"step {row['step']} ({row['step'] / steps_per_pass:.3g} passes): loss {row['loss']:.4g}, balanced accuracy "
            f"{monitors.balanced_accuracy(row):.3f}, worst class {classes[worst]} "
            f"{row['class_recall'][worst]:.3f}"
        )
        for logger, sentence in [*lines, (log, evaluation)]:
            logger.info("%s", sentence)
            if self.verbose:
                print(sentence)

    def _keep(
        self, run: training.TrainingRun, task: training.Task, options: training.TrainingOptions
    ) -> None:
        """Set the attributes that describe a run and the network that is kept of it."""
        # Where an alarm has ended the run, the network of the best evaluation is kept. With early stopping it is
        # that of the latest evaluation within noise of the best, and otherwise that of the last step.
        row, state = len(run.rows) - 1, run.state
        if run.status in decisions.ENDED_BY_ALARM:
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
        classes, passes = self._class_names(), options.num_steps / per_pass
        remarks = alarms.remarks(run.alarms, classes, row, len(run.rows), passes, run.status)
        for remark in remarks:
            warnings.warn(remark, alarms.TrainingWarning, stacklevel=3)
