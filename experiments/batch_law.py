"""What do mini-batches make of class weights, and does normalising each class's gradient prevent the minority's
initial drop?

Claimed before the run. A weighted mean over batches of B trains with the effective ratio of
`weights.effective_ratio`, not the one asked for, and is therefore later with minorities than a mean over the same
batches: learning times of free features go as 1 / (w sqrt(n)), so that the ratio of learning times is R over the
effective ratio times as large. A bias of the logits follows the majority first: under gradient descent the minority's
loss rises before it falls (the initial drop of Francazi, Baity-Jesi, Lucchi 2023), and under per-class normalised
steps it does not, since the classes' pulls on the bias are then equal.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import xarray as xr

import ssm
from experiments import pages
from experiments.claims import Claim, Claims, Estimate
from experiments.readings import Report, ratio
from experiments.settings import BASE
from ssm import plotting, preparation, weights
from ssm.dynamics import descent

SIZES = 1, 2, 4, 8, 16, 32, 64, 128
RATIOS = 10.0, 100.0
LEARNED_AT = 8, 32, 128
SEEDS = 6
BATCHES = 4000
TIMES = 0.15  # of a ratio of learning times: at first order, and a draw of batches shifts it
RISE, FLAT = 1.1, 1.02  # of the minority's loss over that of the start
DROP = dataclasses.replace(BASE, bias="output", init_scale=0.3, num_saves=201)
OPTIMIZERS = {"gd": "gd", "class_normalised_gd": "PCNGD"}


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw effective ratios, learning times and the initial drop, and hold them against theory."""
    seeds = 2 if quick else SEEDS
    sizes = SIZES[::3] if quick else SIZES
    drawn = {
        R: [effective(R, size, BATCHES // (10 if quick else 1)) for size in sizes] for R in RATIOS
    }
    report(0.2)
    times = {size: learning(size, seeds) for size in (LEARNED_AT[:1] if quick else LEARNED_AT)}
    report(0.7)
    losses = {name: minority_loss(name, seeds) for name in OPTIMIZERS}
    draw(out / "batch_law.png", sizes, drawn, times, losses)
    report(1.0)
    claims = Claims()
    for R, found in drawn.items():
        for size, own in zip(sizes, found, strict=True):
            law = float(weights.effective_ratio(R, 1 / (1 + R), size))
            claims.at_most(
                f"R = w = {R:g}, B = {size}: drawn effective ratio from {law:.4g}, in standard errors",
                4.0,
                abs(own.mean - law) / max((own.high - own.low) / 2 / 1.96, 1e-9 * law),
            )
    for size, later in times.items():
        statement = f"free, g = 1, B = {size}: minority over majority learning time, weighted mean over mean"
        claims.close(statement, expected_delay(size), Estimate.over_seeds(later), TIMES)
    for name, bound in (("gd", RISE), ("class_normalised_gd", FLAT)):
        peak = (losses[name] / losses[name][:, :1]).max(1)
        statement = (
            f"bias, start {DROP.init_scale:g}, {name}: the minority's largest loss over its first"
        )
        judge = claims.at_least if name == "gd" else claims.at_most
        judge(statement, bound, Estimate.over_seeds(peak))
    return claims


def effective(R: float, size: int, number: int) -> Estimate:
    """The mean effective ratio of the model's own batches, its interval by the delta method."""
    config = dataclasses.replace(
        BASE,
        num_classes=2,
        imbalance_ratio=R,
        coupling=1.0,
        weight_exponent=1.0,
        optimizer="gd",
        batch_size=size,
        reduction="weighted_mean",
    )
    with jax.enable_x64(True):
        field = jax.tree.map(jax.numpy.asarray, preparation.prepare(config).flow.field)

        def of_step(step: jax.Array) -> jax.Array:
            batch = descent.mini_batch(field, jax.random.key(0), step, size)
            return jax.numpy.asarray(batch.risk_weights)

        each = np.asarray(jax.vmap(of_step)(jax.numpy.arange(number)))
    counts = np.array(config.class_counts)
    majority, minority = (each / (counts / counts.sum())).T
    found = minority.mean() / majority.mean()
    error = (minority - found * majority).std() / majority.mean() / np.sqrt(number)
    return Estimate(found, found - 1.96 * error, found + 1.96 * error)


def learning(size: int, seeds: int) -> np.ndarray:
    """Ratios of learning times under the weighted mean over those under the mean, one a seed."""
    found = []
    for reduction in ("weighted_mean", "mean"):
        config = dataclasses.replace(
            BASE, optimizer="gd", weight_exponent=1.0, batch_size=size, reduction=reduction
        )
        swept = ssm.sweep({"seed": list(range(seeds))}, config)
        found.append(ratio(swept["block_learning_time"]).values)
    return found[0] / found[1]


def expected_delay(size: int) -> float:
    """R over the effective ratio of the classes' weights."""
    counts = np.array(BASE.class_counts)
    w = weights.power_law(counts, 1.0)
    v = weights.effective_class_weights(counts, w, size)
    return float(w[-1] / w[0] / (v[-1] / v[0]))


def minority_loss(optimizer: str, seeds: int) -> np.ndarray:
    """Mean loss of the minority classes, (seed, time)."""
    config = dataclasses.replace(DROP, optimizer=optimizer)
    swept: xr.Dataset = ssm.sweep({"seed": list(range(seeds))}, config)
    losses = swept["class_loss"].transpose("seed", "time", "class").values
    return losses[..., swept["class_group"].values == "minority"].mean(-1)


def draw(
    path: Path,
    sizes: tuple[int, ...],
    drawn: dict[float, list[Estimate]],
    times: dict[int, np.ndarray],
    losses: dict[str, np.ndarray],
) -> None:
    """Effective ratios and delays over the batch size, and the minority's loss over its first."""
    colors = dict(zip(drawn, pages.shades(2), strict=True))
    with pages.page(path, 2.3) as figure:
        figure.set_layout_engine("constrained")
        law, delay, drop = figure.subplots(1, 3)
        grid = np.unique(np.geomspace(1, sizes[-1], 60).round().astype(int))
        for R, found in drawn.items():
            mean = np.array([own.mean for own in found])
            bars = [mean - [own.low for own in found], [own.high for own in found] - mean]
            law.errorbar(sizes, mean, bars, color=colors[R], lw=1, label=f"$w = R = {R:g}$")
            law.plot(grid, weights.effective_ratio(R, 1 / (1 + R), grid), **pages.THEORY)
        law.set(
            xscale="log", yscale="log", xlabel="batch size $B$", ylabel="effective weight ratio"
        )
        law.legend()
        each = np.array(list(times.values()))
        bars = np.array(
            [(own.mean - own.low, own.high - own.mean) for own in map(Estimate.over_seeds, each)]
        )
        delay.errorbar(
            list(times), each.mean(1), bars.T, fmt="o-", color=plotting.COLORS["minority"], ms=3
        )
        delay.plot(list(times), [expected_delay(size) for size in times], **pages.THEORY)
        delay.set(
            xscale="log",
            xlabel="batch size $B$",
            ylabel="delay of minorities by\nthe weighted mean",
        )
        for name, color in zip(OPTIMIZERS, pages.shades(2), strict=True):
            own = losses[name]
            share = np.linspace(0, 1, own.shape[1])
            drop.plot(share, (own / own[:, :1]).mean(0), color=color, label=OPTIMIZERS[name])
        drop.axhline(1, **pages.FAINT)
        drop.set(xlabel="share of the run's steps", ylabel="minority loss over its first")
        drop.legend(loc="upper right", handlelength=1)
