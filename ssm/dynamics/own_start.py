"""A start of one's own, checked against the run that it is for."""

from __future__ import annotations

import numpy as np

from ssm.config import Config
from ssm.dynamics.parameters import Params
from ssm.problem.inputs import Inputs
from ssm.support import checks, errors


def own_start(config: Config, start: object, data: Inputs | None = None) -> Params:
    """A start of one's own as float64 host arrays of the shapes that a Config asks for: W (k x d), features H
    one column a sample, sorted by class (d x n), or one a class where they are shared (coupling 1, d x k), or
    A (d x p) of inputs, depth - 2 hidden layers (d x d), and the bias of the logits, (k, 1) or (k,), where
    there is one, 0 if it is left out.

    Raises:
        ssm.InputError: the start is anything else, has entries that are not finite, or is 0 everywhere.
    """
    if not isinstance(start, Params):
        raise errors.invalid(
            "start", start, "ssm.Params(W, H), with hidden=(...) and bias if it has them"
        )
    inputs = config.has_inputs or data is not None
    if config.held_out and not inputs:
        allowed = "False with a start of one's own, unless noise_dim gives the features inputs"
        raise errors.invalid("held_out", config.held_out, allowed)
    k, d = config.num_classes, config.feature_dim
    W = _layer("W", start.W, (k, d))
    if config.depth == 1 and not (np.eye(k) == W).all():
        raise errors.invalid("start.W", "another matrix", "the identity at depth=1")
    hidden = tuple(checks.items("start.hidden", start.hidden, "a tuple of layers"))
    if len(hidden) != max(config.depth - 2, 0):
        allowed = f"{max(config.depth - 2, 0)} layers at depth={config.depth}"
        raise errors.invalid("start.hidden", f"{len(hidden)} layers", allowed)
    hidden = tuple(_layer(f"hidden[{i}]", layer, (d, d)) for i, layer in enumerate(hidden))
    if data is not None:
        columns = len(data.training)
    else:
        columns = config.num_inputs if config.has_inputs else config.num_columns
    H = _layer("H", start.H, (d, columns))
    bias = None
    if config.has_output_bias:
        given = np.zeros(k) if start.bias is None else start.bias
        bias = _layer("bias", np.reshape(given, (-1, 1)), (k, 1))
    elif start.bias is not None:
        raise errors.invalid("start.bias", "given", "left out unless bias is output or both")
    made = Params(W, H, hidden, bias)
    if not any(np.any(layer) for layer in (W, H, *hidden)):
        raise errors.invalid("start", "all 0", "not all 0, since nothing moves from there")
    return made


def _layer(name: str, value: object, shape: tuple[int, int]) -> np.ndarray:
    allowed = f"a matrix of real numbers of shape {shape}"
    layer = checks.array(f"start.{name}", value, allowed)
    if layer.shape != shape:
        raise errors.invalid(f"start.{name}", f"an array of shape {layer.shape}", allowed)
    if not np.isfinite(layer).all():
        where = np.argwhere(~np.isfinite(layer))[0].tolist()
        raise errors.invalid(f"start.{name}", f"not finite at {where}", "finite everywhere")
    return layer


def size_of(start: Params) -> float:
    """The root mean square of all entries of a start but those of its bias."""
    entries = np.concatenate([layer.ravel() for layer in (start.W, start.H, *start.hidden)])
    return float(np.sqrt(np.mean(np.square(entries))))
