"""A scikit-learn meta-estimator: class weights, probabilities and decisions of any classifier that takes sample weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import Tags, _safe_indexing, check_random_state, get_tags, indexable
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

from ssm.practice.data.classifiers import Classifier, Rows
from ssm.practice.decisions import calibrators, costs, folds, rounds, routing, shares, weighting
from ssm.practice.decisions.costs import CostMatrix
from ssm.practice.decisions.factors import Tuned, class_factors
from ssm.practice.decisions.folds import CrossValidation
from ssm.practice.decisions.shares import Shares
from ssm.practice.decisions.weighting import ClassWeight
from ssm.support import checks
from ssm.support.errors import invalid

if TYPE_CHECKING:
    from ssm.problem.schedules import Transformation


def _has_probabilities(classifier: Reweighted) -> bool:
    """True; raises AttributeError where the wrapped estimator has no probabilities."""
    return bool(classifier.estimator.predict_proba)


class Reweighted(ClassifierMixin, MetaEstimatorMixin, weighting.WithSchedule, BaseEstimator):
    """Any classifier, trained on weighted classes, with probabilities and decisions set apart from the weights.

    The estimator is fitted with sample weights s_i w_{y_i}: those of the samples, s, times those of the classes, w.
    It then reports a posterior q for class shares proportional to pi_c w_c, where pi are the shares of the training
    samples. `predict_proba` takes the weights back, p_c ~ q_c / w_c, and puts other shares rho in where `shares` asks for them,
    p_c ~ q_c rho_c / (w_c pi_c). `predict` decides for the class shares or the costs of `decision`, which may be others.
    `shares` and `decision` mean the same as in `ssm.ReweightedClassifier`.

    Example:
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.ensemble import HistGradientBoostingClassifier
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
        >>> model = Reweighted(trees, class_weight="balanced", shares="training", decision="uniform")
        >>> model.fit(X[:400], y[:400]).predict_proba(X[400:]).shape
        (169, 2)

    Args:
        estimator: a classifier whose `fit` takes `sample_weight`, or a pipeline that ends in one, whose other steps get no weights. Where
            there are no weights at all, every classifier will do. One that weighs classes itself (`class_weight`, `scale_pos_weight`,
            `is_unbalance`) is refused, since its own weights could not be taken back.
        class_weight: None (ones), `balanced`, `sqrt`, `effective`, a dict {label: weight}, a weight for each of the
            sorted labels, a function of the class sizes, or a `ssm.practice.costs.CostMatrix`, whose
            `class_weights` are taken.
        schedule: a transformation of `ssm.schedules` that changes these weights from round to round; each round is one of
            its steps. A schedule that asks for performance is given the recall of each class, by out-of-fold predictions of the
            wrapped classifier fitted with the weights of the round before. One that asks for uncertainty is given the mean
            predictive entropy of each class, by such probabilities for the training shares.
        rounds: the number of rounds. Where the schedule needs either of these, each round fits the estimator once a fold.
        shares: the class shares that probabilities are for: `none` (those of the estimator as weighted, proportional to
            pi_c w_c), `training` (pi_c), `uniform`, or a dict {label: share} of sum 1. `estimate_shares` finds unknown shares of
            a batch.
        decision: `trained` (what the estimator itself predicts, as its weights made it), `uniform` (for balanced
            accuracy), a dict {label: share}, or costs: a `ssm.practice.costs.CostMatrix`, or an array C[true, decided]
            in the order of the sorted labels. With costs, the decision of least expected cost is taken for the shares of the
            parameter `shares`, or for those of training where it is `none`. All but `trained` use the calibrated
            probabilities. `ssm.practice.factors.Tuned` of any of these but `trained` first multiplies probabilities by factors of
            the classes, which are chosen on out-of-fold predictions.
        calibration: None, `temperature` or `isotonic`: how the probabilities for the training shares are calibrated
            on out-of-fold predictions, in which each sample counts s_i. With `shares="none"` the weights are put
            back after the calibration.
        cv: the folds: a number of stratified and shuffled ones, or what scikit-learn takes; each sample has to be held out
            exactly once. Where samples belong together, take a splitter of groups, such as `GroupKFold`.
        random_state: seed or generator of the folds.

    Attributes:
        estimator_: the estimator, fitted on all samples with the last weights.
        classes_: the sorted labels, shape (k,).
        class_shares_: the shares of the classes among the samples given to `fit`, shape (k,).
        class_weights_: the last class weights, shape (k,).
        round_weights_, round_recalls_: the class weights after each of r rounds, and the out-of-fold recalls from which they were
            made, each of shape (r, k). Recalls are NaN where the schedule needs none; r = 0 without a schedule.
        calibrator_: the map from reported to calibrated probabilities; None without calibration.
        class_factors_: the factors of a tuned decision, shape (k,); None for any other decision.
        n_features_in_, feature_names_in_: the same as those of the fitted estimator, where it has them.
    """

    def __init__(
        self,
        estimator: Classifier,
        *,
        class_weight: ClassWeight | CostMatrix = None,
        schedule: Transformation | None = None,
        rounds: int = 3,
        shares: Shares = "none",
        decision: Shares | CostMatrix | ArrayLike | Tuned = "trained",
        calibration: str | None = None,
        cv: CrossValidation = 5,
        random_state: int | np.random.RandomState | None = None,
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

    # X and y are `Any`, since the checks that turn them into arrays have no types.
    def fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **fit_params: object
    ) -> Reweighted:
        """Fit the estimator, its calibration, and the factors of a tuned decision.

        Args:
            X: samples, as the estimator takes them.
            y: labels, shape (n,).
            sample_weight: how often each sample counts, (n,); samples of weight 0 are left out.
            fit_params: further arguments of the estimator's `fit`, and under metadata routing of the splitter, by request.

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
    def predict_proba(self, X: Rows) -> Float[np.ndarray, "m k"]:
        """Probabilities of the classes in the order of `classes_`, for the class shares of the parameter `shares`:
        shape (m, k)."""
        check_is_fitted(self)
        return self.posterior(X, self.shares)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Rows) -> Float[np.ndarray, "m k"]:
        """Logarithms of the probabilities, shape (m, k); -inf where one is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @available_if(_has_probabilities)
    def posterior(self, X: Rows, shares_of: Shares) -> Float[np.ndarray, "m k"]:
        """Probabilities for any class shares, given in any form that the parameter `shares` may have, calibrated where `calibration`
        asks for it: shape (m, k).

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

    def predict(self, X: Rows) -> np.ndarray:
        """The class of each sample, by the parameter `decision`, shape (m,)."""
        check_is_fitted(self)
        aim = self._aim()
        if isinstance(aim, str) and aim == "trained":
            return self.estimator_.predict(X)
        if isinstance(self.decision, Tuned):
            self._check_tuned()
        matrix = self._costs()
        if matrix is None:
            aim = shares.checked("decision", aim, shares.DECISIONS)
            wanted = dict(zip(self.classes_.tolist(), self._wanted().tolist(), strict=True))
            decided_for = aim if self._decided_factors() is None else wanted
            return self.classes_[self.posterior(X, decided_for).argmax(axis=1)]
        of = "training" if self.shares == "none" else self.shares
        return self.classes_[costs.cheapest(self.posterior(X, of), matrix)]

    @available_if(_has_probabilities)
    def estimate_shares(
        self,
        X: Rows,
        *,
        level: float = 0.95,
        num_resamples: int = 499,
        seed: int | np.random.Generator = 0,
    ) -> shares.ShareEstimate:
        """The class shares of a batch of samples without labels, with bootstrap intervals (`shares.estimate`).

        `set_params(shares=estimate.by_label)` then makes probabilities be for them. `predict_proba` does not estimate them itself,
        since the probabilities of a sample should not depend on the samples that it is given with.

        Raises:
            ssm.InputError: numbers that are not allowed.

        Source: Saerens, Latinne and Decaestecker 2002.
        """
        options = {"level": level, "num_resamples": num_resamples, "seed": seed}
        posterior = self.posterior(X, "training")
        return shares.estimate(posterior, self.class_shares_, self.classes_, **options)

    def get_metadata_routing(self) -> MetadataRouter:
        """How scikit-learn routes metadata: this estimator takes sample weights itself, and hands other arguments of `fit` to the
        wrapped estimator and to the splitter."""
        to_fit, to_split = (
            MethodMapping().add(caller="fit", callee=callee) for callee in ("fit", "split")
        )
        router = MetadataRouter(owner=self).add_self_request(self)
        router = router.add(estimator=self.estimator, method_mapping=to_fit)
        return router.add(splitter=self.cv, method_mapping=to_split)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def _routed(self, fit_params: Mapping[str, object]) -> dict[str, dict[str, object]]:
        """The arguments of `fit` for the estimator and for the splitter, without sample weights: the estimator is given the product
        of these with the class weights."""
        if not routing.is_enabled():
            return {"estimator": dict(fit_params), "splitter": {}}
        if not fit_params:
            return {"estimator": {}, "splitter": {}}
        routed = process_routing(self, "fit", **fit_params)
        return {"estimator": routed.estimator.fit, "splitter": routed.splitter.split}

    def _check_parameters(self) -> None:
        """Refuse parameters that are bad whatever the data."""
        if isinstance(self.estimator, type) or not hasattr(self.estimator, "fit"):
            raise invalid("estimator", self.estimator, "a classifier of scikit-learn's kind")
        routing.refuse_own_weights(self.estimator)
        if self.schedule is not None:
            allowed = "a transformation of ssm.schedules, or None"
            weighting.checked_schedule("schedule", self.schedule, allowed)
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
        """The costs by which `predict` decides, times the factors of a tuned decision; None where it decides for shares."""
        given, factors = self._given_costs(), self._decided_factors()
        return given if given is None or factors is None else given * factors[:, None]

    def _given_costs(self) -> Float[np.ndarray, "k k"] | None:
        """The costs of the parameter `decision`, in the order of the classes; None where it holds shares."""
        aim = self._aim()
        if isinstance(aim, str | Mapping):
            return None
        if isinstance(aim, costs.CostMatrix):
            return aim.of(self.classes_)
        return costs.CostMatrix(self.classes_, aim).costs

    def _wanted(self) -> Float[np.ndarray, " k"]:
        """The shares for which `predict` decides, times the factors of a tuned decision, divided by their sum."""
        wanted = shares.of_classes("decision", self._aim(), self.classes_)
        factors = self._decided_factors()
        if factors is not None:
            wanted = wanted * factors
        return wanted / wanted.sum()

    def _decided_factors(self) -> Float[np.ndarray, " k"] | None:
        """The factors of a tuned decision; None for any other decision, which may have been set after `fit`."""
        return self.class_factors_ if isinstance(self.decision, Tuned) else None

    def _aim(self) -> Shares | CostMatrix | ArrayLike:
        """The parameter `decision`, without the mark that it is tuned."""
        return self.decision.decision if isinstance(self.decision, Tuned) else self.decision

    def _tune(
        self,
        found: Float[np.ndarray, "n k"],
        labels: Int[np.ndarray, " n"],
        weights: Float[np.ndarray, " n"],
    ) -> None:
        """Choose the factors by which decisions cost least on out-of-fold predictions, which are for the shares of training."""
        self._tuned_prices, to_shares = self._prices(), np.ones(len(self.classes_))
        if not isinstance(self._aim(), str | Mapping):
            # Cases have the shares for which is decided, so each sample counts as often as those say.
            to_shares = self._factors("training" if self.shares == "none" else self.shares)
        posterior, counted = shares.shifted(found, to_shares), weights * to_shares[labels]
        options = {"sample_weight": counted}
        self.class_factors_ = class_factors(posterior, labels, self._tuned_prices, **options)

    def _prices(self) -> Float[np.ndarray, "k k"]:
        """The costs that the factors of a tuned decision are to make small: its own costs, or, for a decision for shares, the
        class's share over its share in training for each error about a class. Earlier factors play no part."""
        if (matrix := self._given_costs()) is not None:
            return matrix
        price = shares.of_classes("decision", self._aim(), self.classes_) / self.class_shares_
        return price[:, None] * (1 - np.eye(len(price)))

    def _check_tuned(self) -> None:
        """Refuse a tuned decision that was set after `fit`, for which no factors were chosen."""
        if self.class_factors_ is None or not np.array_equal(self._prices(), self._tuned_prices):
            raise invalid("decision", self.decision, "that of `fit`, which chose its factors")

    def _fixed_weights(self, counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """The class weights of the parameter `class_weight`, which a schedule changes."""
        spec = self.class_weight
        if isinstance(spec, costs.CostMatrix):
            spec = costs.CostMatrix(self.classes_, spec.of(self.classes_)).class_weights()
        return weighting.by_label(spec, counts, self.classes_)

    def _factors(self, shares_of: Shares) -> Float[np.ndarray, " k"]:
        """The factors of the classes that take a posterior for the training shares to the wanted shares, shape (k,)."""
        shares.checked("shares", shares_of, shares.NAMES)
        if shares_of == "none":
            return self.class_weights_
        if shares_of == "training":
            return np.ones(len(self.classes_))
        return shares.of_classes("shares", shares_of, self.classes_) / self.class_shares_
