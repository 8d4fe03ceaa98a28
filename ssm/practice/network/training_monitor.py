"""The alarms, the early stopping and the roll-backs of this project's networks for a training loop of one's own,
in any framework."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import special

from ssm.practice.network import alarms, decisions, monitors
from ssm.practice.network.alarms import Alarm
from ssm.practice.network.monitors import Gradients, Probabilities
from ssm.practice.options import ACTIONS, SCORES, Action, Score
from ssm.practice.statistics import calibration
from ssm.problem import posthoc
from ssm.support import checks, errors

LAST_STEP = 2**53
ALLOWED_LOGITS = "real numbers of shape ({n}, {k}), a row for each label"


class Decision(NamedTuple):
    """What to do after an evaluation."""

    step: int
    go_on: bool
    """Whether to train on; False means to stop."""
    roll_back_to: int | None
    """The step to whose network, optimiser and state of the weights to return before training goes on at
    `learning_rate_factor`; 0 stands for the start, and None for no roll-back."""
    is_best: bool
    """Whether this evaluation is the best so far, to which a roll-back would return, so that its network has to be saved."""
    is_kept: bool
    """Whether this evaluation is the best so far or within noise of it, the network that training would end with."""
    best_step: int
    final_step: int
    """The step of the network to use if training ends here: the latest within noise of the best, and where an
    alarm has ended training the best."""
    learning_rate_factor: float
    """The factor on the initial learning rate: one half for each roll-back so far."""
    alarms: tuple[Alarm, ...]
    """The alarms of this evaluation."""
    sentences: tuple[str, ...]
    """Sentences for a log: the alarms, what is done about them, and why training ends."""
    status: str
    """`running`, `stopped early`, `stopped by an alarm` or `not finite`."""
    score: float
    """The performance by which evaluations are compared; larger is better."""
    class_recall: Float[np.ndarray, " k"]
    """The recall of each class, by which adaptive weights go."""

    @property
    def stop(self) -> bool:
        """Whether to end training."""
        return not self.go_on


class TrainingMonitor:
    """Judges each evaluation of a network that is trained elsewhere, on held-out samples, by the rules of
    `ReweightedClassifier`. It holds no network: save yours where a decision says that it is the best.

    Nothing here needs JAX. A monitor can be pickled beside a checkpoint, to go on after a kill; after a roll-back the
    same monitor goes on.

    Example:
        >>> monitor = TrainingMonitor(labels=[0, 0, 1, 1], class_counts=[90, 10], patience=20)
        >>> for step, size in [(0, 0.0), (10, 1.0), (20, 3.0), (30, 1.0), (40, 1.0)]:
        ...     decision = monitor.observe(step, size * np.array([[1, 0], [1, 0], [0, 1], [0, 1]]))
        >>> decision.stop, decision.best_step, decision.final_step
        (True, 20, 20)
        >>> decision.sentences
        ('step 40: stopped early: no better evaluation after step 20',)

    Args:
        labels: classes 0 .. k - 1 of the held-out samples, shape (e,); each class occurs.
        class_counts: training samples of each class, shape (k,).
        score: the performance by which evaluations are compared: `balanced_log_loss` and
            `macro_average_precision`, of the posterior of equally frequent classes that the logits stand for under
            weighted cross-entropy, `balanced_accuracy`, or `worst_class`, the least recall. For another loss
            take one of the last two.
        patience: steps without a better evaluation, counted anew from a roll-back, after which training stops; six
            evaluations are usual. None trains to the end.
        alarm_thresholds: `ssm.practice.alarms.Thresholds`; None: the default ones.
        alarm_action: `warn`, `stop` or `roll_back`. Numbers that are not finite stop training where others warn.
        max_rollbacks: after so many roll-backs the next alarm stops training.
        weight_bounds: the lowest and the highest class weight that there can be, as `schedule.bounds` of
            `ssm.schedules`, of which an alarm tells when one is reached.
        class_names: how sentences call the classes; None: their numbers.

    Raises:
        ssm.InputError (a ValueError): anything else.
    """

    def __init__(
        self,
        labels: ArrayLike,
        class_counts: ArrayLike,
        *,
        score: Score = "balanced_log_loss",
        patience: int | None = None,
        alarm_thresholds: alarms.Thresholds | None = None,
        alarm_action: Action = "warn",
        max_rollbacks: int = 3,
        weight_bounds: tuple[float, float] = (0.0, math.inf),
        class_names: Sequence[object] | None = None,
    ):
        self._counts = checks.positive("class_counts", class_counts)
        k = len(self._counts)
        if k < 2:
            raise errors.invalid("class_counts", class_counts, "of at least two classes")
        thresholds = alarms.Thresholds() if alarm_thresholds is None else alarm_thresholds
        if not isinstance(thresholds, alarms.Thresholds):
            raise errors.invalid("alarm_thresholds", thresholds, "Thresholds, or None")
        if patience is not None:
            patience = checks.integer("patience", patience, 1, LAST_STEP)
        bounds = checks.array("weight_bounds", weight_bounds, "two numbers").tolist()
        if np.shape(bounds) != (2,):
            raise errors.invalid("weight_bounds", weight_bounds, "two numbers")
        self._names = list(range(k)) if class_names is None else list(class_names)
        if len(self._names) != k:
            raise errors.invalid("class_names", class_names, f"{k} names, one a class")
        of_samples = _labels(labels, k)
        self._rules = decisions.Rules(
            evaluated=monitors.Evaluated(of_samples, np.ones(len(of_samples))),
            score=cast(Score, checks.choice("score", score, SCORES)),
            num_steps=None,
            patience=patience,
            thresholds=thresholds,
            action=cast(Action, checks.choice("alarm_action", alarm_action, ACTIONS)),
            max_rollbacks=checks.integer("max_rollbacks", max_rollbacks, 0, 10**6),
            bounds=(bounds[0], bounds[1]),
        )
        self._course: decisions.Course | None = None
        self._gradients: list[Gradients | None] = []

    def observe(
        self,
        step: int,
        logits: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        gradient_norm: float | None = None,
        *,
        probabilities: ArrayLike | None = None,
        gradient_products: ArrayLike | None = None,
    ) -> Decision:
        """Judge one evaluation.

        Evaluate the untrained network too, at step 0: it is no reference for any alarm, and the network to return
        to while there is no better one.

        Args:
            step: how many steps were trained for, more at each evaluation; those before a roll-back count.
            logits: those of the held-out samples as the loss sees them, shape (e, k), in the order of the labels.
            class_weights: the weights in force, shape (k,), None: ones.
            gradient_norm: the norm of the gradient of the risk, of a mini-batch or of all samples. It is held
                against those before it per mean weight of a sample; None: no alarm about it.
            probabilities: in place of logits, shape (e, k).
            gradient_products: in place of `gradient_norm`, inner products <g_c, g_d> of the gradients of each
                class's mean loss, shape (k, k). Norms before are then as they would have been under the
                weights of now, so that weights that change make no alarm.

        Raises:
            ssm.InputError (a ValueError): anything else, and an evaluation after training was to stop.
        """
        self._check_step(step)
        seen = self._logits(logits, probabilities)
        weights = np.ones(len(self._counts))
        if class_weights is not None:
            weights = checks.positive("class_weights", class_weights)
            if weights.shape != self._counts.shape:
                allowed = f"{len(self._counts)} positive finite numbers, one a class"
                raise errors.invalid("class_weights", class_weights, allowed)
        norm = self._add_gradient(weights, gradient_norm, gradient_products)
        shown, rules = _probabilities(seen, weights * self._counts), self._rules
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # An alarm reports numbers that are not finite.
            of_label = np.take_along_axis(seen, rules.evaluated.labels[:, None], 1)[:, 0]
            losses = special.logsumexp(seen, axis=1) - of_label
        values = monitors.sample_values(seen, rules.evaluated, shown, rules.score)
        row = monitors.judged(
            seen, losses, rules.evaluated, self._counts, weights, shown, norm, int(step)
        )
        if self._course is None:
            # Where the start was not evaluated, the first evaluation stands in for that of the start, which is never the best.
            self._course = decisions.begun({**row, "step": 0}, values)
            if step == 0:
                return self._decision(self._course, self._course)
            self._gradients.insert(0, None)
        before = self._course
        gradients, shares = self._known_gradients()
        self._course = decisions.judge(rules, before, row, values, gradients, shares)
        return self._decision(before, self._course)

    def _check_step(self, step: int) -> None:
        """Refuse a step that is not later than the one before, and any step after training was to stop."""
        checks.integer("step", step, 0, LAST_STEP)
        if self._course is None:
            return
        last = self._course.rows[-1]["step"]
        if self._course.status != "running":
            raise errors.invalid("step", step, f"none: training was to stop at step {last}")
        if step <= last:
            raise errors.invalid("step", step, f"above {last}, the step of the evaluation before")

    def _logits(
        self, logits: ArrayLike | None, probabilities: ArrayLike | None
    ) -> Float[np.ndarray, "e k"]:
        """The logits, or logarithms of the probabilities, in float64."""
        labels, k = self._rules.evaluated.labels, len(self._counts)
        if (logits is None) == (probabilities is None):
            raise errors.invalid("logits", logits, "given, or else probabilities, not both")
        allowed = ALLOWED_LOGITS.format(n=len(labels), k=k)
        name, given = (
            ("logits", logits) if probabilities is None else ("probabilities", probabilities)
        )
        rows = checks.array(name, given, allowed)
        if rows.shape != (len(labels), k):
            raise errors.invalid(name, f"of shape {rows.shape}", allowed)
        if probabilities is None or not np.isfinite(rows).all():
            return rows
        return np.log(np.maximum(calibration.probability_rows(rows, labels)[0], monitors.LEAST))

    def _add_gradient(
        self, weights: Float[np.ndarray, " k"], norm: float | None, products: ArrayLike | None
    ) -> float:
        """Keep a gradient, and return its norm; 0, which never counts as a jump, where none is known."""
        shares = self._counts / self._counts.sum()
        if norm is not None and products is not None:
            raise errors.invalid("gradient_norm", norm, "None where gradient_products are given")
        by_class: Gradients | None = None
        if products is not None:
            k, allowed = len(weights), f"numbers of shape {(len(weights),) * 2}"
            gram = checks.array("gradient_products", products, allowed)
            if gram.shape != (k, k):
                raise errors.invalid("gradient_products", f"of shape {gram.shape}", allowed)
            by_class = monitors.gradients(gram, weights)
            norm = monitors.risk_gradient_norm(gram, shares * weights)
        elif norm is not None:
            mean = float(shares @ weights)
            norm = float(checks.array("gradient_norm", norm, "a number"))
            by_class = {
                "class_weight": [mean],
                "class_gradient_norm": [norm / mean],
                "cosine": [[1.0]],
            }
        if by_class and self._width not in (None, len(by_class["class_gradient_norm"])):
            what = "given in the same way at each evaluation"
            raise errors.invalid("gradient_norm, gradient_products", "mixed", what)
        self._gradients.append(by_class)
        return 0.0 if norm is None else norm

    @property
    def _width(self) -> int | None:
        """How many classes gradients tell apart, 1 where only those of all are known; None before any is."""
        known = (g for g in self._gradients if g is not None)
        return next((len(g["class_gradient_norm"]) for g in known), None)

    def _known_gradients(self) -> tuple[list[Gradients], Float[np.ndarray, " g"]]:
        """The gradients of all evaluations, NaN where none was known, and the share of each class of them."""
        width = self._width or 1
        unknown: Gradients = {
            "class_weight": [1.0] * width,
            "class_gradient_norm": [math.nan] * width,
            "cosine": np.eye(width).tolist(),
        }
        shares = np.ones(1) if width == 1 else self._counts / self._counts.sum()
        return [unknown if g is None else g for g in self._gradients], shares

    def _decision(self, before: decisions.Course, now: decisions.Course) -> Decision:
        """What a course asks for that was another one before its last evaluation."""
        row, newest = now.rows[-1], len(now.rows) - 1
        best_step, is_rolled_back = now.rows[now.best_row]["step"], now.rollbacks > before.rollbacks
        final = now.best_row if now.status in decisions.ENDED_BY_ALARM else now.kept_row
        raised = now.alarms[len(before.alarms) :]
        sentences = [alarms.sentence(*each, self._names) for each in raised]
        if now.status == "stopped early":
            since = now.rows[max(now.best_row, now.since - 1)]["step"]
            sentences.append(
                f"step {row['step']}: stopped early: no better evaluation after step {since}"
            )
        return Decision(
            step=row["step"],
            go_on=now.status == "running",
            roll_back_to=best_step if is_rolled_back else None,
            is_best=now.best_row == newest,
            is_kept=now.kept_row == newest,
            best_step=best_step,
            final_step=now.rows[final]["step"],
            learning_rate_factor=0.5**now.rollbacks,
            alarms=tuple(alarm for alarm, _ in raised),
            sentences=tuple(sentences),
            status=now.status,
            score=monitors.merit(row, self._rules.score),
            class_recall=np.array(row["class_recall"]),
        )


def _labels(labels: ArrayLike, k: int) -> np.ndarray:
    """Labels of which each of k classes has one; raises ssm.InputError for anything else."""
    given = np.asarray(labels)
    allowed = f"integers in [0, {k - 1}], each of them at least once"
    if given.ndim != 1 or given.dtype.kind not in "iu" or len(given) < k:
        raise errors.invalid("labels", labels, allowed)
    if given.min() < 0 or given.max() >= k or not np.bincount(given, minlength=k).all():
        raise errors.invalid("labels", labels, allowed)
    return given.astype(np.int64)


@np.errstate(over="ignore", invalid="ignore")
def _probabilities(
    logits: Float[np.ndarray, "e k"], pull: Float[np.ndarray, " k"]
) -> Probabilities:
    """The probabilities that logits of weighted cross-entropy stand for, with the weight of each class times
    its size; all NaN where logits are not finite."""
    as_trained = special.softmax(logits, axis=1)
    if not (np.isfinite(as_trained).all() and (np.abs(logits) < monitors.LARGEST).all()):
        return Probabilities(as_trained, np.full_like(logits, np.nan))
    balanced = posthoc.unweighted(posthoc.minimised(logits.T), pull).T
    return Probabilities(as_trained, special.softmax(balanced, axis=1))
