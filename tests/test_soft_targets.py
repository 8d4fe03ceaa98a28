"""Laws of supports of next tokens that the experiment `soft_targets` states, by independent computations."""

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import softmax

from experiments import soft_targets_runs as soft


def test_halves_follow_their_own_equation():
    """One contrast's contexts, all logits of factors W and H followed, against c' = 2 r c (1 - tanh(c) / a)."""
    half, n = soft.halves(), 2 * soft.NUMBERS.sum()
    j, size = 3, 1e-2
    own = half.component == j
    P = half.targets[own].T
    u, s, v = np.linalg.svd(P - 1 / 8)
    np.testing.assert_allclose(s[0], soft.VALUES[j], rtol=1e-12)  # of these contexts alone
    first = np.concatenate([size * u[:, 0], size * v[0]])  # one direction of features is enough

    def slopes(_, state):
        w, h = state[:8], state[8:]
        G = (softmax(np.outer(w, h), axis=0) - P) / n
        return -np.concatenate([G @ h, w @ G])

    def slope(_, c):
        return 2 * soft.VALUES[j] / n * c * (1 - np.tanh(c) / soft.SHARPNESS[j])

    times = np.linspace(0, 3000, 9)
    exact = {"t_eval": times, "rtol": 1e-11, "atol": 1e-14, "method": "DOP853"}
    states = solve_ivp(slopes, (0, 3000), first, **exact).y
    scale = np.sqrt(2 * soft.NUMBERS[j] * 8)
    c = solve_ivp(slope, (0, 3000), [size**2 / scale], **exact).y[0]
    strengths = (u[:, 0] @ states[:8]) * (v[0] @ states[8:])
    np.testing.assert_allclose(strengths / scale, c, rtol=1e-7)
    assert c[-1] > 0.9 * np.arctanh(soft.SHARPNESS[j])  # it has come to its end


def test_centred_supports_of_the_tree_have_the_least_nuclear_norm():
    """The dual certificate: U V^T of the centred supports is even on each support and negative off it, so that no other logits
    of margin 1 have a smaller nuclear norm. Any others, made at random, do not."""
    tree = soft.tree()
    allowed = (tree.targets > 0).T
    outline = allowed - allowed.mean(axis=0)
    u, s, v = np.linalg.svd(outline, full_matrices=False)
    rank = int((s > 1e-10).sum())
    dual = u[:, :rank] @ v[:rank]
    assert rank == 7 and dual[~allowed].max() < -1e-3
    for column, own in zip(dual.T, allowed.T, strict=True):
        assert np.ptp(column[own]) < 1e-12
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = outline - ~allowed * rng.exponential(0.3, outline.shape)
        assert np.linalg.norm(other, "nuc") > s.sum()
