"""A scikit-learn meta-estimator: class weights, probabilities and decisions of any classifier that takes sample
weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import _safe_indexing, check_random_state, get_tags, indexable
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_method_params,
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
)

from ssm.practice.decisions import calibrators, costs, folds, rounds, routing, shares, weighting
from ssm.practice.decisions.factors import Tuned, class_factors
from ssm.practice.decisions.shares import Shares
from ssm.support import checks
from ssm.support.errors import invalid


def _has_probabilities(classifier: Any) -> bool:
    """True; raises AttributeError where the wrapped estimator has no probabilities."""
    return bool(classifier.estimator.predict_proba)


class Reweighted(ClassifierMixin, MetaEstimatorMixin, weighting.WithSchedule, BaseEstimator):
    """Any classifier, trained on weighted classes, with probabilities and decisions set apart from the weights.

    The estimator is fitted with sample weights s_i w_{y_i}: those of the samples, s, times those of the classes, w.
    What it then reports is a posterior q of class shares proportional to pi_c w_c, with pi those of the training
    samples. For probabilities the weights are taken back, p_c ~ q_c / w_c, and other shares rho put in,
    p_c ~ q_c rho_c / (w_c pi_c). For decisions they need not be: `decision` says which class shares, or which costs,
    `predict` decides for. `shares` and `decision` are those of `ssm.ReweightedClassifier`.

    Example:
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.ensemble import HistGradientBoostingClassifier
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
        >>> model = Reweighted(trees, class_weight="balanced", shares="training", decision="uniform")
        >>> model.fit(X[:400], y[:400]).predict_proba(X[400:]).shape
        (169, 2)

    Args:
        estimator: a classifier whose `fit` takes `sample_weight`, or a pipeline that ends in one, whose other steps
            get no weights. Without any weights every classifier will do. One that weighs classes itself (`class_weight`, `scale_pos_weight`,
            `is_unbalance`) is refused, since its own weights could not be taken back.
        class_weight: None (ones), `balanced`, `sqrt`, `effective`, a dict {label: weight}, a weight for each of the
            sorted labels, a function of the class sizes, or a `ssm.practice.costs.CostMatrix`, whose
            `class_weights` are taken.
        schedule: a transformation of `ssm.schedules` that changes these weights from round to round, which are
            its steps. One that asks for performance is given each class's recall by out-of-fold predictions of
            the wrapped classifier, fitted with the weights of the round before, and one that asks for uncertainty each class's mean
            predictive entropy by such probabilities, of the training shares.
        rounds: how often the schedule is asked; where it needs either, each round fits `cv` times.
        shares: the class shares that probabilities are for: `none` (the estimator's own, whatever weights made of
            them: pi_c w_c), `training` (pi_c), `uniform`, or a dict {label: share} of sum 1. Unknown ones of
            a batch are found by `estimate_shares`.
        decision: `trained` (what the estimator itself predicts, as weights made it), `uniform` (for balanced
            accuracy), a dict {label: share}, or costs: a `ssm.practice.costs.CostMatrix`, or an array C[true, decided]
            in the order of the sorted labels. By costs the least expected one is decided for the shares of the
            parameter `shares`, or for those of training where it is `none`. All but `trained` use the calibrated
            probabilities. `ssm.practice.factors.Tuned` of any of these but `trained` multiplies them by factors of the
            classes first, which are chosen on out-of-fold predictions.
        calibration: None, `temperature` or `isotonic`: how the probabilities of the training shares are calibrated
            on out-of-fold predictions, each sample counting s_i. With `shares="none"` the weights are put
            back on what was calibrated.
        cv: the folds: a number of stratified and shuffled ones, or what scikit-learn takes, each sample held out
            once. Where samples belong together, take a splitter of groups, such as `GroupKFold`.
        random_state: seed or generator of the folds.

    Attributes:
        estimator_: the estimator, fitted on all samples with the last weights.
        classes_: the sorted labels, shape (k,).
        class_shares_: the shares of the classes among the samples given to `fit`, shape (k,).
        class_weights_: the last class weights, shape (k,).
        round_weights_, round_recalls_: the class weights after each round, shape (r, k), and the out-of-fold recalls
            that they were made of, NaN where none are needed; r = 0 without a schedule.
        calibrator_: the map of the calibration; None without.
        class_factors_: the factors of a tuned decision, shape (k,); None of any other.
        n_features_in_, feature_names_in_: where the fitted estimator has them.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        class_weight: Any = None,
        schedule: Any = None,
        rounds: int = 3,
        shares: Shares = "none",
        decision: Any = "trained",
        calibration: str | None = None,
        cv: Any = 5,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.class_weight = class_weight
        self.schedule = schedule
        self.rounds = rounds
        self.shares = shares
        self.decision = decision
        self.calibration = calibration
        self.cv = cv
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any) -> Reweighted:
        """Fit the estimator, and what turns its word into probabilities.

        Args:
            X: samples, as the estimator takes them.
            y: labels, shape (n,).
            sample_weight: how often each sample counts, (n,); samples of weight 0 are left out.
            fit_params: handed to the estimator's `fit`, and under metadata routing to the splitter too, by
                request.

        Raises:
            ssm.InputError (a ValueError): parameters or data that cannot be used.
        """
        self._check_parameters()
        check_classification_targets(y)
        X, y = indexable(X, y)
        routed = self._routed(fit_params)
        y = column_or_1d(y, warn=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        used = np.flatnonzero(weights > 0)
        self.classes_ = np.unique(y[used])
        k, parts = len(self.classes_), []
        if k < 2:
            raise invalid("y", f"{k} class", "labels of at least two classes")
        if self._needs_folds():
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            parts = folds.folds_of(self.cv, X, y, used, seed, routed["splitter"])
        params = routed["estimator"]
        if len(used) < len(weights):
            params = _check_method_params(X, params, used)
            X, y, weights = _safe_indexing(X, used), y[used], weights[used]
        labels = np.searchsorted(self.classes_, y)
        counts = np.bincount(labels, weights, k)
        self.class_shares_ = counts / counts.sum()
        self.class_factors_ = None
        self._check_classes()
        fits = rounds.Fits(
            self.estimator, X, y, labels, self.classes_, weights, sample_weight is not None, params
        )
        fixed = self._fixed_weights(counts)
        history = rounds.weights_of_rounds(fits, parts, fixed, self.schedule, self.rounds)
        self.round_weights_, self.round_recalls_ = history
        self.class_weights_ = history[0][-1] if len(history[0]) else fixed
        self.calibrator_ = None
        is_tuned = isinstance(self.decision, Tuned)
        if self.calibration is not None or is_tuned:
            found = fits.out_of_fold(parts, self.class_weights_)
            if self.calibration is not None:
                self.calibrator_ = calibrators.fitted(self.calibration, found, labels, weights)
                found = self.calibrator_(found)
            if is_tuned:
                self._tune(found, labels, weights)
        self.estimator_ = fits.fitted(self.class_weights_)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Float[np.ndarray, "m k"]:
        """Probabilities of the classes in the order of `classes_`, for the class shares of the parameter `shares`:
        shape (m, k)."""
        check_is_fitted(self)
        return self.posterior(X, self.shares)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Float[np.ndarray, "m k"]:
        """Logarithms of the probabilities, shape (m, k); -inf where one is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @available_if(_has_probabilities)
    def posterior(self, X: Any, shares_of: Shares) -> Float[np.ndarray, "m k"]:
        """Probabilities for any class shares, given as the parameter `shares` is, calibrated where `calibration` asks
        for it: shape (m, k).

        Raises:
            ssm.InputError: unknown shares.
        """
        check_is_fitted(self)
        factors = self._factors(shares_of)
        reported = rounds.probabilities(self.estimator_, X, self.classes_)
        if shares_of == "none" and self.calibrator_ is None:
            return reported
        trained = shares.shifted(reported, 1 / self.class_weights_)
        if self.calibrator_ is not None:
            trained = self.calibrator_(trained)
        return shares.shifted(trained, factors)

    def predict(self, X: Any) -> np.ndarray:
        """The class of each sample, by the parameter `decision`, shape (m,)."""
        check_is_fitted(self)
        aim = self._aim()
        if isinstance(aim, str) and aim == "trained":
            return self.estimator_.predict(X)
        if isinstance(self.decision, Tuned):
            self._check_tuned()
        matrix = self._costs()
        if matrix is None:
            shares.checked("decision", aim, shares.DECISIONS)
            wanted = dict(zip(self.classes_.tolist(), self._wanted().tolist(), strict=True))
            decided_for = aim if self._decided_factors() is None else wanted
            return self.classes_[self.posterior(X, decided_for).argmax(axis=1)]
        of = "training" if self.shares == "none" else self.shares
        return self.classes_[costs.cheapest(self.posterior(X, of), matrix)]

    @available_if(_has_probabilities)
    def estimate_shares(
        self,
        X: Any,
        *,
        level: float = 0.95,
        num_resamples: int = 499,
        seed: int | np.random.Generator = 0,
    ) -> shares.ShareEstimate:
        """The class shares of a batch of samples without labels, with bootstrap intervals (`shares.estimate`).

        They are for `set_params(shares=estimate.by_label)`. They are not estimated by `predict_proba` itself, since
        the probabilities of a sample should not depend on which others it is asked about with.

        Raises:
            ssm.InputError: numbers that are not allowed.

        Source: Saerens, Latinne and Decaestecker 2002.
        """
        options = {"level": level, "num_resamples": num_resamples, "seed": seed}
        posterior = self.posterior(X, "training")
        return shares.estimate(posterior, self.class_shares_, self.classes_, **options)

    def get_metadata_routing(self) -> MetadataRouter:
        """How scikit-learn routes metadata: sample weights are this estimator's own, other arguments of `fit` go to the
        estimator and to the splitter."""
        to_fit, to_split = (
            MethodMapping().add(caller="fit", callee=callee) for callee in ("fit", "split")
        )
        router = MetadataRouter(owner=self).add_self_request(self)
        router = router.add(estimator=self.estimator, method_mapping=to_fit)
        return router.add(splitter=self.cv, method_mapping=to_split)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def _routed(self, fit_params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The arguments of `fit` for the estimator and for the splitter. Sample weights are not routed: what the
        estimator gets is their product with those of the classes."""
        if not routing.is_enabled():
            return {"estimator": dict(fit_params), "splitter": {}}
        if not fit_params:
            return {"estimator": {}, "splitter": {}}
        routed = process_routing(self, "fit", **fit_params)
        return {"estimator": routed.estimator.fit, "splitter": routed.splitter.split}

    def _check_parameters(self) -> None:
        """Refuse bad parameters as far as they can be told without data."""
        if isinstance(self.estimator, type) or not hasattr(self.estimator, "fit"):
            raise invalid("estimator", self.estimator, "a classifier of scikit-learn's kind")
        routing.refuse_own_weights(self.estimator)
        if self.schedule is not None:
            allowed = "a transformation of ssm.schedules, or None"
            weighting.check_schedule("schedule", self.schedule, allowed)
        checks.integer("rounds", self.rounds, 1, 1000)
        if self.calibration is not None:
            checks.choice("calibration", self.calibration, calibrators.NAMES)
        shares.checked("shares", self.shares, shares.NAMES)
        aim = self._aim()
        decides_itself = isinstance(aim, str) and aim == "trained"
        if decides_itself and isinstance(self.decision, Tuned):
            raise invalid("decision", self.decision, "Tuned of `uniform`, shares or costs")
        if isinstance(aim, str | Mapping):
            shares.checked("decision", aim, shares.DECISIONS)
        needs = not decides_itself or self.shares != "none" or self.calibration is not None
        needs = needs or self._follows_uncertainty()
        if needs and not hasattr(self.estimator, "predict_proba"):
            allowed = (
                "one with predict_proba, where shares, decision, calibration or a schedule need "
                "probabilities"
            )
            raise invalid("estimator", self.estimator, allowed)

    def _needs_folds(self) -> bool:
        is_adaptive = self.schedule is not None and self.schedule.needs_performance
        is_tuned = self.calibration is not None or isinstance(self.decision, Tuned)
        return is_adaptive or self._follows_uncertainty() or is_tuned

    def _follows_uncertainty(self) -> bool:
        return self.schedule is not None and self.schedule.needs_uncertainty

    def _check_classes(self) -> None:
        """Refuse shares and costs that are not those of the classes."""
        for name, value in (("shares", self.shares), ("decision", self._aim())):
            if isinstance(value, Mapping):
                shares.of_classes(name, value, self.classes_)
        self._costs()

    def _costs(self) -> Float[np.ndarray, "k k"] | None:
        """The costs that are decided by, times the factors of a tuned decision; None where shares are."""
        given, factors = self._given_costs(), self._decided_factors()
        return given if given is None or factors is None else given * factors[:, None]

    def _given_costs(self) -> Float[np.ndarray, "k k"] | None:
        """The costs that were given to decide by, in the order of the classes; None where shares were."""
        aim = self._aim()
        if isinstance(aim, str | Mapping):
            return None
        if isinstance(aim, costs.CostMatrix):
            return aim.of(self.classes_)
        return costs.CostMatrix(self.classes_, aim).costs

    def _wanted(self) -> Float[np.ndarray, " k"]:
        """The shares that are decided for, times the factors of a tuned decision, of sum 1."""
        wanted = shares.of_classes("decision", self._aim(), self.classes_)
        factors = self._decided_factors()
        if factors is not None:
            wanted = wanted * factors
        return wanted / wanted.sum()

    def _decided_factors(self) -> Float[np.ndarray, " k"] | None:
        """The factors of a tuned decision; None of another, as it may have been set after `fit`."""
        return self.class_factors_ if isinstance(self.decision, Tuned) else None

    def _aim(self) -> Any:
        """The decision, tuned or not."""
        return self.decision.decision if isinstance(self.decision, Tuned) else self.decision

    def _tune(
        self,
        found: Float[np.ndarray, "n k"],
        labels: Int[np.ndarray, " n"],
        weights: Float[np.ndarray, " n"],
    ) -> None:
        """Choose the factors by which decisions cost least on out-of-fold predictions for the shares of training."""
        self._tuned_prices, to_shares = self._prices(), np.ones(len(self.classes_))
        if not isinstance(self._aim(), str | Mapping):
            # Cases have the shares that are decided for, so that samples stand for more or fewer of them.
            to_shares = self._factors("training" if self.shares == "none" else self.shares)
        posterior, counted = shares.shifted(found, to_shares), weights * to_shares[labels]
        options = {"sample_weight": counted}
        self.class_factors_ = class_factors(posterior, labels, self._tuned_prices, **options)

    def _prices(self) -> Float[np.ndarray, "k k"]:
        """What a tuned decision counts: its costs, or those of errors about classes as frequent as its shares say; without
        factors that were chosen before."""
        if (matrix := self._given_costs()) is not None:
            return matrix
        price = shares.of_classes("decision", self._aim(), self.classes_) / self.class_shares_
        return price[:, None] * (1 - np.eye(len(price)))

    def _check_tuned(self) -> None:
        """Refuse a tuned decision that was set after `fit`, which chooses factors for one."""
        if self.class_factors_ is None or not np.array_equal(self._prices(), self._tuned_prices):
            raise invalid("decision", self.decision, "that of `fit`, which chose its factors")

    def _fixed_weights(self, counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """The class weights that the schedule begins with."""
        spec = self.class_weight
        if isinstance(spec, costs.CostMatrix):
            spec = costs.CostMatrix(self.classes_, spec.of(self.classes_)).class_weights()
        return weighting.by_label(spec, counts, self.classes_)

    def _factors(self, shares_of: Shares) -> Float[np.ndarray, " k"]:
        """What takes a posterior of the training shares to the wanted ones."""
        shares.checked("shares", shares_of, shares.NAMES)
        if shares_of == "none":
            return self.class_weights_
        if shares_of == "training":
            return np.ones(len(self.classes_))
        return shares.of_classes("shares", shares_of, self.classes_) / self.class_shares_
