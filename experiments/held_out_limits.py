"""Where training on inputs ends under cross-entropy, as convex programs: without decay, whatever the class
weights, at the classifier of inputs of least nuclear norm among those with margins of 1; with decay at the
least weighted risk plus that norm, where weights do count.

With features H = A X both factors grow, and the direction of V = W A tends to the least |V|_* for which all
margins on X are 1: twice it is the least |W|^2 + |A|^2 (Srebro, Rennie, Jaakkola 2004), which gradient flow of
homogeneous models tends to in kind (Lyu, Li 2020; Ji, Telgarsky 2020). For two classes V = [w; -w] / 2 with w
of the hard-margin support vector machine without intercept.
"""

from __future__ import annotations

import cvxpy as cp
import numpy as np
from jaxtyping import Float, Int

SOLVER = {"solver": cp.SCS, "eps_abs": 1e-8, "eps_rel": 1e-8, "max_iters": 100_000}


def least_nuclear_norm(
    inputs: Float[np.ndarray, "p n"], labels: Int[np.ndarray, " n"], num_classes: int
) -> Float[np.ndarray, "k p"]:
    """The V of least nuclear norm with (v_{y_i} - v_c)^T x_i >= 1 for all samples i and classes c != y_i.

    Its rows lie in the span of the inputs, so that the program is one over k x min(n, p) numbers, in the
    coordinates of an orthonormal basis of it. It takes two seconds for 220 samples of 4 classes, twelve for 420.

    Raises:
        ValueError: no V has these margins, as samples cannot be told apart.
    """
    basis, coordinates = np.linalg.qr(inputs)
    V = cp.Variable((num_classes, len(coordinates)))
    program = cp.Problem(cp.Minimize(cp.normNuc(V)), [_margins(V, coordinates, labels) >= 1])
    return _solution(program, V, SOLVER) @ basis.T


def hard_margin(
    inputs: Float[np.ndarray, "p n"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " p"]:
    """The shortest w with w^T x_i >= 1 in class 0 and <= -1 in class 1.

    Raises:
        ValueError: there is none.
    """
    basis, coordinates = np.linalg.qr(inputs)
    w = cp.Variable((1, len(coordinates)))
    signs = 1 - 2 * labels[None]
    program = cp.Problem(cp.Minimize(cp.sum_squares(w)), [w @ (coordinates * signs) >= 1])
    return basis @ _solution(program, w, {"solver": cp.CLARABEL})[0]


def decayed(
    inputs: Float[np.ndarray, "p n"],
    labels: Int[np.ndarray, " n"],
    class_weights: Float[np.ndarray, " k"],
    decay: float,
) -> Float[np.ndarray, "k p"]:
    """The V of least (1/n) sum_i w_{y_i} l(V x_i, y_i) + decay |V|_*, l cross-entropy: W A at the end of
    training with the penalty (decay / 2) (|W|^2 + |A|^2). It takes some seconds for 220 samples.

    Raises:
        ValueError: the solver did not reach it.
    """
    basis, coordinates = np.linalg.qr(inputs)
    V = cp.Variable((len(class_weights), len(coordinates)))
    logits = V @ coordinates
    losses = cp.log_sum_exp(logits, axis=0) - logits[labels, np.arange(len(labels))]
    risk = class_weights[labels] @ losses / len(labels)
    program = cp.Problem(cp.Minimize(risk + decay * cp.normNuc(V)))
    return _solution(program, V, SOLVER) @ basis.T


def _margins(V: cp.Variable, inputs: np.ndarray, labels: np.ndarray) -> cp.Expression:
    """z_{y_i} - z_c of all samples and other classes, one after another."""
    sample, other = np.nonzero(labels[:, None] != np.arange(V.shape[0]))
    logits = V @ inputs
    return logits[labels[sample], sample] - logits[other, sample]


def _solution(program: cp.Problem, variable: cp.Variable, options: dict) -> np.ndarray:
    program.solve(**options)
    if program.status != cp.OPTIMAL or variable.value is None:
        raise ValueError(f"no solution: {program.status}")
    return variable.value
