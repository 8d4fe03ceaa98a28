"""Inputs and labels of one's own, checked, and the Config and the kernel that go with them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from ssm.config import Config
from ssm.config.optimizer import GRADIENT_SIZED
from ssm.problem.inputs import HeldOutSamples, Inputs
from ssm.problem.own_targets import class_labels, of_counts
from ssm.problem.problem import MeasuredKernel, Problem
from ssm.support import checks, errors

LARGEST_INPUT = 1e100  # The sum of squares of larger inputs may not be finite.
ITERATIONS = 30  # of the power method of `_largest_eigenvalue`
OF_THE_MIXTURE = ("coupling", "between_coupling", "noise_dim", "held_out")
"""Fields that describe inputs to be drawn, and that inputs of one's own make meaningless."""
FEATURES = "real finite numbers, a row a sample and a column a feature"


def own_inputs(
    config: Config,
    inputs: object,
    labels: object,
    held_out_data: object = None,
    are_labels_of_targets: bool = False,
) -> tuple[Config, Inputs | None]:
    """The Config of a run on samples of one's own, which is `config` with the counts of the labels, and these samples
    sorted by class. Where no data is given at all these are `config` and None.

    Args:
        config: the run. Its fields that determine the counts are left out, or agree with the labels.
        inputs: a row a sample, shape (n, p).
        labels: an integer 0 ... k - 1 a row, each of them at least once.
        held_out_data: a pair of inputs and labels of samples that are not trained on; None for no such samples.
        are_labels_of_targets: whether the labels go with targets, which need no inputs.

    Raises:
        ssm.InputError: anything else, in one line that names the argument.
    """
    if inputs is None and held_out_data is None and (labels is None or are_labels_of_targets):
        return config, None
    if inputs is None or labels is None:
        given = [name for name, x in (("inputs", inputs), ("labels", labels)) if x is not None]
        missing = "labels" if given == ["inputs"] else "inputs"
        with_what = given[0] if given else "held_out_data"
        raise errors.invalid(missing, None, f"given, since {with_what} is")
    X = _checked_inputs("inputs", inputs)
    y = _checked_labels("labels", labels, len(X))
    counts = np.bincount(y)
    if len(counts) < 2:
        raise errors.invalid("labels", "one class only", "of at least two classes")
    _check_classes("labels", counts, len(counts))
    _check_left_out(config)
    config = of_counts(config, tuple(counts.tolist()), config.targets)
    bias = int(config.has_hidden_bias)
    num_inputs = X.shape[1] + bias
    if config.init == "collapsed":
        allowed = (
            "another start for inputs of one's own, of which it is not known what a class shares"
        )
        raise errors.invalid("init", config.init, allowed)
    if config.init == "balanced" and num_inputs < len(counts):
        allowed = f"another start with {num_inputs} inputs, fewer than the {len(counts)} classes"
        raise errors.invalid("init", config.init, allowed)
    held_out = None
    if held_out_data is not None:
        rows, its_labels = _checked_held_out(held_out_data, X.shape[1], len(counts))
        held_out = HeldOutSamples(_columns(rows, bias), its_labels)
    order = np.argsort(y, kind="stable")
    return config, Inputs(_columns(X[order], bias), held_out)


def measured(config: Config, problem: Problem, inputs: Inputs) -> Problem:
    """The problem with its kernel as measured on the inputs of its samples: kappa_c = n_c |xbar_c - xbar|^2
    k / (k - 1), with xbar_c the class means and xbar their mean, and the size of X Omega X^T.

    Where the Gram matrix of the class means is a I + b 11^T, kappa_c is n_c a for any b, as it is for couplings.
    Theory needs these numbers to choose a length and a learning rate.

    Raises:
        ssm.InputError: the mean input of a class equals that of all classes, and a length or a learning rate is
            left to theory.

    Source: derived for this project.
    """
    X, k = inputs.training, len(problem.counts)
    means = np.stack([X[:, problem.labels == c].mean(axis=1) for c in range(k)])
    squares = ((means - means.mean(axis=0)) ** 2).sum(axis=1)
    if (squares <= 1e-12 * (X**2).sum(axis=0).mean()).any():
        _check_nothing_is_chosen(config)
    weights = problem.class_weights
    weights = np.maximum(weights, 1) if config.has_deferral else weights
    size = _largest_eigenvalue(X * np.sqrt(weights[problem.labels]))
    kernel = MeasuredKernel(problem.counts * squares * k / (k - 1), size)
    return problem._replace(measured=kernel)


def _check_nothing_is_chosen(config: Config) -> None:
    """Refuse a Config that leaves the length of its run, or its learning rate, to theory."""
    asked = ("learning_rate", "num_steps") if config.is_descent else ("t1",)
    if config.is_descent and config.optimizer not in GRADIENT_SIZED:
        return
    for name in asked:
        if getattr(config, name) is None:
            allowed = "given: a class's mean input is that of all, so that theory has no rate"
            raise errors.invalid(name, None, allowed)


def _largest_eigenvalue(X: Float[np.ndarray, "p n"]) -> float:
    """The largest eigenvalue of X X^T to a few per cent, by power iteration."""
    vector = np.random.default_rng(0).normal(size=len(X))
    size = 0.0
    for _ in range(ITERATIONS):
        vector = X @ ((vector / (np.linalg.norm(vector) or 1)) @ X)
        size = float(np.linalg.norm(vector))
    return size


def _columns(rows: Float[np.ndarray, "m q"], bias: int) -> Float[np.ndarray, "p m"]:
    """Samples as columns, with a constant input where the features have a bias."""
    return np.concatenate([rows.T, np.ones((bias, len(rows)))])


def _check_left_out(config: Config) -> None:
    """Refuse a Config with fields that describe inputs to be drawn."""
    for name in OF_THE_MIXTURE:
        if (value := getattr(config, name)) != getattr(Config, name):
            allowed = "left out with inputs of one's own, which have it in their values"
            raise errors.invalid(name, value, allowed)


def _checked_inputs(name: str, value: object) -> Float[np.ndarray, "m q"]:
    X = checks.array(name, value, FEATURES)
    if X.ndim != 2 or not X.size:
        raise errors.invalid(name, f"an array of shape {X.shape}", FEATURES)
    if not np.isfinite(X).all():
        row = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
        raise errors.invalid(name, f"not finite in row {row}", "finite everywhere")
    if (largest := float(np.abs(X).max())) > LARGEST_INPUT:
        raise errors.invalid(name, largest, f"at most {LARGEST_INPUT:g} in size")
    return X


def _checked_labels(name: str, value: object, number: int) -> Int[np.ndarray, " m"]:
    each = "0 ... k - 1, each of them at least once"
    words = f"{number} integers from 0 on, one a row of its inputs", each
    return class_labels(name, value, number, number, words)


def _check_classes(name: str, counts: Int[np.ndarray, " k"], num_classes: int) -> None:
    if not counts.all():
        absent = f"no sample of class {int(counts.argmin())}"
        raise errors.invalid(name, absent, f"of all {num_classes} classes")


def _checked_held_out(
    value: object, num_inputs: int, num_classes: int
) -> tuple[Float[np.ndarray, "m q"], Int[np.ndarray, " m"]]:
    """Rows and labels of samples that are not trained on."""
    pair = checks.items("held_out_data", value, "a pair of inputs and labels")
    if len(pair) != 2:
        raise errors.invalid("held_out_data", f"{len(pair)} items", "a pair of inputs and labels")
    X = _checked_inputs("held_out_data", pair[0])
    if X.shape[1] != num_inputs:
        found = f"inputs of shape {X.shape}"
        raise errors.invalid("held_out_data", found, f"{num_inputs} inputs wide, as the others")
    labels = _checked_labels("held_out_data", pair[1], len(X))
    if labels.max() >= num_classes:
        allowed = f"in [0, {num_classes - 1}], as the others"
        raise errors.invalid("held_out_data", f"label {int(labels.max())}", allowed)
    _check_classes("held_out_data", np.bincount(labels, minlength=num_classes), num_classes)
    return X, labels
