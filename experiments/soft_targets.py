"""In which order are the components of soft targets learned, and what do weights do to it?

Three supports of next tokens. *Halves*: 8 tokens, and for each contrast h of them (a column of a Hadamard matrix) m contexts
of p = (1 + a h) / 8 and m of (1 - a h) / 8, so that its singular value is a sqrt(m / 4); m and a are chosen such that the seven values fall by a
quarter each. *Tree*: 8 tokens are the leaves of a binary tree, and a context allows, evenly, all leaves under one node of level l, with m_l
contexts a node; the contrasts of scale j (0, 1, 2; 1, 2 and 4 of them) have the value sqrt(sum_{l > j} m_l 2^(l - 3)). *Bigrams*: 16 tokens that occur
by Zipf's law as contexts, each with four next tokens drawn by that law and
followed by its shares; another draw for each seed.

Claimed before any run, with s the singular values of the centred targets [p - 1/k], n contexts, rates r = s / n, and w the
weight of a component's contexts, free features:

- Squared loss: from a spectral start each component is a sigmoid of rate 2 w r, and from small Gaussian starts learning times are within 5 %
  of the closed form of modes that share directions (`overlapping_learning_times`). So large s are learned first.
- Cross-entropy: the same early rates, within 1 %. Halves do not mix at all: softmax of c h is (1 + tanh(c) h) / k, so that
  c' = 2 w r c (1 - tanh(c) / a), and half the target is c = a / (2 k): times within a thousandth. In the same order as under the squared loss
  in all three supports; in bigrams, where values crowd, by rank correlation of -0.95 at most.
- Weights multiply early rates: w ~ 1 / s, for contexts of equal sharpness a inverse square root of their number, teaches all
  components of the halves within 15 % of one time, and w ~ s^-2 reverses the order. Class weights of bigrams (inverse frequency of the
  likeliest next token) make components those of the weighted targets: singular values of the logits grow at their values within 1 %,
  and times of the unweighted components follow u^T T diag(w) v rather than s.
- End: under the squared loss logits are the centred targets, under cross-entropy with full supports softmax is p, whatever the weights
  (within a thousandth). With sparse supports logits diverge, and for the tree along the centred supports 1[allowed] - share, not along the
  targets, again whatever the weights: these have the least nuclear norm at margins of 1 (dual certificate U V^T; in kind Zhao et al. 2024).
  Their cosine is at least 0.99 at t = 10^6.

Three kinds of these fail. Under cross-entropy the order of bigrams is lost: on sparse supports the logits of large components go on far beyond their
targets and turn on the way, and pass half of the small targets of others before those have grown by themselves. It is the sharpness
that does it: with nine tenths of even shares mixed into the same bigrams all of it is in order again, which was claimed after looking. Class
weights mix the unweighted components, whose times then follow u^T T diag(w) v no better than s, also where targets are that soft. And logits of the
tree are still turning at t = 10^6, at margins of 13: logits of least loss plus nuclear norm at that margin (computed apart) have a cosine of 0.998, the
flow, which began along the components of the targets, is behind it. It takes half a minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import spearmanr

from experiments.claims import Claims, Estimate
from experiments.readings import Report, farthest
from experiments.soft_targets_figures import draw
from experiments.soft_targets_runs import (
    AT_NODES,
    END,
    LOSSES,
    SEEDS,
    SOFT,
    SPREAD,
    VALUES,
    WEIGHTINGS,
    bigrams,
    closed_form,
    context_weights,
    cosines,
    early_rates,
    halves,
    halves_times,
    logits,
    long_enough,
    tree,
    tree_values,
)
from ssm import spectral


def run(out: Path, quick: bool, report: Report) -> Claims:
    """Draw `soft_targets.png`, and make the claims."""
    seeds = range(2 if quick else SEEDS)
    claims = Claims()
    pictures: dict[tuple[str, str], Any] = {}
    _claim_closed_forms(claims, pictures)
    report(0.2)
    _claim_orders(claims, seeds, pictures)
    report(0.5)
    # Each seed has supports of another size, which are compiled anew.
    _claim_bigrams(claims, seeds[:1] if quick else seeds, pictures)
    report(0.7)
    _claim_ends(claims, 1e4 if quick else END, pictures)
    report(0.9)
    draw(out / "soft_targets.png", pictures)
    return claims


def _claim_closed_forms(claims: Claims, pictures: dict[tuple[str, str], Any]) -> None:
    """What is known of each support, and the halves alone."""
    half, leaves = halves(), tree()
    for name, support, wanted in (
        ("halves", half, VALUES),
        ("tree", leaves, np.repeat(tree_values(), (1, 2, 4))),
    ):
        claims.scenario = name
        values = spectral.target_spectrum(support.targets.T).singular_values
        statement = "singular values of the support against those derived, farthest"
        claims.at_most(statement, 1e-12, farthest(values, wanted))
    for loss, words in LOSSES.items():
        claims.scenario = f"{words}, from along the components"
        for name, support in (("halves", half), ("tree", leaves), ("bigrams", bigrams(0))):
            measured, rates = early_rates(support, np.ones(len(support.targets)), loss)
            statement = f"{name}: early growth against singular values over n, farthest"
            claims.at_most(statement, 0.01, farthest(measured, rates))
        for name, exponent in WEIGHTINGS.items():
            weights = context_weights(exponent)
            start = {"loss": loss, "init": "spectral", "init_scale": SPREAD}
            wanted = halves_times(loss, weights)
            length = {"t1": 1.3 * wanted.max(), "rtol": 1e-9, "atol": 1e-12}
            found = half.follow(weights[half.component], **start, **length)
            times = found["learning_time"].values
            pictures[loss, name] = found, wanted
            said = name.replace("$", "").replace("\\sim", "~")
            statement = f"halves, {said}: learning times against the closed form, farthest"
            claims.at_most(statement, 1e-3, farthest(times, wanted))
            if exponent == 1:
                statement = f"halves, {said}: largest over smallest learning time"
                claims.at_most(statement, 1.15, times.max() / times.min())


def _claim_orders(claims: Claims, seeds: range, pictures: dict[tuple[str, str], Any]) -> None:
    """Halves and the tree, from Gaussian starts."""
    names = [f"s = {value:.2f}" for value in VALUES]
    half, leaves = halves(), tree()
    scale = np.repeat(np.arange(3), (1, 2, 4))
    for loss, words in LOSSES.items():
        claims.scenario = f"{words}, Gaussian starts"
        runs = [half.follow(loss=loss, seed=seed) for seed in seeds]
        times = np.array([one["learning_time"].values for one in runs])
        pictures["halves", loss] = VALUES / len(half.targets), times
        claims.ascending("halves: learning times in the order of the values", names, list(times.T))
        if loss == "squared":
            errors = [
                farthest(t, closed_form(half, one)) for t, one in zip(times, runs, strict=True)
            ]
            statement = "halves: learning times against the closed form of the start, farthest"
            claims.at_most(statement, 0.05, Estimate.over_seeds(errors))
        weights = context_weights(2.0)[half.component]
        reverse = [
            half.follow(weights, loss=loss, seed=seed)["learning_time"].values for seed in seeds
        ]
        statement = "halves under w ~ s^-2: in the reverse order"
        claims.ascending(statement, names[::-1], list(np.array(reverse).T[::-1]))
        found = [leaves.follow(loss=loss, seed=seed)["learning_time"].values for seed in seeds]
        means = np.array([[one[scale == j].mean() for j in range(3)] for one in found])
        pictures["tree", loss] = tree_values() / len(leaves.targets), means
        coarse = [f"s = {value:.2f}" for value in tree_values()]
        claims.ascending(
            "tree: mean learning times of scales, coarse to fine", coarse, list(means.T)
        )


def _claim_bigrams(claims: Claims, seeds: range, pictures: dict[tuple[str, str], Any]) -> None:
    """Random supports, by rank correlations in which what is never learned comes last."""
    each = [_of_bigrams(seed, 1.0) for seed in seeds]
    soft = [_of_bigrams(seed, SOFT) for seed in seeds]
    support, times = bigrams(0), each[0]["times"]
    rates = spectral.target_spectrum(support.targets.T).singular_values / len(support.targets)
    for loss in LOSSES:
        pictures["bigrams", loss] = rates, times[loss][None]

    def over(found: list[dict[str, Any]], name: str) -> Estimate:
        return Estimate.over_seeds([one[name] for one in found])

    claims.scenario = "bigrams"
    statement = "squared loss: learning times against the closed form of the start, farthest"
    claims.at_most(statement, 0.05, over(each, "squared"))
    statement = (
        "class weights: early growth of the logits' singular values against the weighted targets'"
    )
    claims.at_most(f"{statement}, farthest", 0.01, over(each, "rates"))
    for found, which in (
        (each, ""),
        (soft, f", {1 - SOFT:g} of even shares mixed in (claimed after looking)"),
    ):
        for loss, words in LOSSES.items():
            statement = f"{words}{which}: rank correlation of learning times with the values"
            claims.at_most(statement, -0.95, over(found, f"rank {loss}"))
        statement = f"class weights{which}: rank correlation of learning times with u^T T diag(w) v"
        claims.at_most(statement, -0.9, over(found, "weighted"))
        statement = f"class weights{which}: that less the correlation with the unweighted values"
        claims.at_most(statement, 0.0, over(found, "nearer"))


def _of_bigrams(seed: int, sharpness: float) -> dict[str, Any]:
    """What is read off the runs of one draw."""
    support = bigrams(seed, sharpness)
    spectrum = spectral.target_spectrum(support.targets.T)
    values, left = spectrum.singular_values, spectrum.left
    found: dict[str, Any] = {"times": {}}
    for loss in LOSSES:
        one = support.follow(loss=loss, seed=seed, t1=long_enough(support))
        found["times"][loss] = times = one["learning_time"].values
        found[f"rank {loss}"] = _rank(times, values)
        if loss == "squared":
            found[loss] = farthest(times, closed_form(support, one))
    tokens, counts = np.unique(support.targets.argmax(axis=1), return_counts=True)
    weights = (1 / counts)[np.searchsorted(tokens, support.targets.argmax(axis=1))]
    weights = weights / weights.mean()
    found["rates"] = farthest(*early_rates(support, weights, "cross_entropy"))
    times = support.follow(weights, t1=long_enough(support, weights))["learning_time"].values
    right = left.T @ support.centred / values[:, None]
    first_order = ((left.T @ (support.centred * weights)) * right).sum(axis=1)
    found["weighted"] = _rank(times, first_order)
    found["nearer"] = found["weighted"] - _rank(times, values)
    return found


def _rank(times: np.ndarray, values: np.ndarray) -> float:
    known = np.where(np.isnan(times), np.inf, times)
    found: Any = spearmanr(known, values)
    return float(found.statistic)


def _claim_ends(claims: Claims, end: float, pictures: dict[tuple[str, str], Any]) -> None:
    """Where runs end, under ERM and under weights."""
    claims.scenario = "end"
    half, leaves = halves(), tree()
    allowed = leaves.targets > 0
    outline = (allowed - allowed.mean(axis=1, keepdims=True)).T
    long = {"save_spacing": "log", "t1": end}
    of_level = 1 / np.array(AT_NODES)[leaves.component - 1]
    for name, weights, by_level in (
        ("ERM", None, None),
        ("weights", context_weights(2.0)[half.component], of_level / of_level.mean()),
    ):
        squared = half.follow(weights, loss="squared", init_scale=1e-2, **long)
        off = np.linalg.norm(logits(squared)[-1] - half.centred) / np.linalg.norm(half.centred)
        statement = f"halves, squared loss, {name}: distance of logits from the targets, relative"
        claims.at_most(statement, 1e-3, float(off))
        full = half.follow(weights, init_scale=1e-2, **long)
        off = np.abs(softmax(logits(full)[-1], axis=0) - half.targets.T).max()
        statement = f"halves, cross-entropy, {name}: largest distance of softmax from p"
        claims.at_most(statement, 1e-3, off)
        sparse = leaves.follow(by_level, init_scale=1e-2, **long)
        Z = logits(sparse)
        angles = {
            key: cosines(Z, matrix)
            for key, matrix in (("support", outline), ("targets", leaves.centred))
        }
        pictures["end", name] = sparse["time"].values, angles
        least = (
            np.where(allowed.T, Z[-1], np.inf).min(axis=0)
            - np.where(allowed.T, -np.inf, Z[-1]).max(axis=0)
        ).min()
        statement = f"tree, cross-entropy, {name}: cosine of logits with the centred supports"
        note = f"{angles['targets'][-1]:.4f} with the targets; least margin {least:.3g}"
        claims.at_least(statement, 0.99, angles["support"][-1], note)
        before = np.interp(
            np.log(end / 1000), np.log(sparse["time"].values[1:]), angles["support"][1:]
        )
        statement = f"tree, cross-entropy, {name}: 1 - cosine over what it was at a thousandth of the time (claimed after looking)"
        claims.at_most(statement, 0.8, (1 - angles["support"][-1]) / (1 - before))
