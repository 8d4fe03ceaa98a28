"""Does stopping early pay on wrong labels and on real pixels, as it does inside the model?

Wrong labels: settings A (R = 10, q = 4 n, signal 2.5) and N (q = n, signal 2) of `held_out_maps`, in which some of
the training labels are replaced by another class's at random. Claimed before the run, after trial runs of other code and
draws, and of a few of these: what stopping early pays follows from what is to be fitted late. With a tenth of the labels wrong g = 1 falls
in N by more than 0.03 from its best at margins below 5 to a margin of 100, where without wrong labels it does not fall at
all; and weights lead early, in both settings, with wrong labels too.

Pixels: the same model, W A x, on scikit-learn's digits, 8 x 8 pixels, less their mean and scaled to a mean squared
length of 1. Five classes at random keep 80 training images and five 8, and about 90 of each are held out; five such draws, by the clock
of the loss to a margin of 30. Claimed before the run: when g = 1 is within 0.01 of its best, ERM's balanced accuracy is 0.1 lower at least; the
gap is smaller at the end; and g = 1 falls again, by 0.005 at least, which may fail. The same again with biases of the
features. It takes a minute.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.axes import Axes

import ssm
from experiments import data, pages
from experiments.claims import Claims, Estimate
from experiments.held_out import SHADES, WEIGHTINGS
from experiments.held_out_maps import SETTING_A, SETTING_N, compared
from experiments.held_out_setting import Curves, mean_over_log_time, side_by_side
from experiments.readings import Report, part
from ssm import plotting
from ssm.config import profiles

FLIPS = (0.0, 0.05, 0.1, 0.2)
SETTINGS = {"A": SETTING_A, "N": SETTING_N}
DESCRIBED = {"A": "A: $q = 4 n$, $s = 2.5$", "N": "N: $q = n$, $s = 2$"}
NOISE_COLORS = {"A": "black", "N": "#009E73"}
FIRST_SEED, SEEDS = 200, 8
OF_THE_RUN = ("feature_dim", "init_scale", "clock", "stop_margin", "num_saves")
FRESH = 1000  # samples of each class
FALL = 0.03  # by how much weighted accuracy should fall with a tenth of the labels wrong
DRAWS = 5
MAJORITY, MINORITY, POOL = (
    80,
    8,
    89,
)  # images of a class to train on, and those that they are drawn of
MARGIN = 30.0
PIXELS = ssm.Config(
    feature_dim=16, init_scale=0.01, clock="loss", stop_margin=MARGIN, num_saves=300
)
BIASES = {"none": "digits", "hidden": "digits, features with biases"}
LAST = 13.5  # decade of flow time up to which curves are drawn
LAG, DIGITS_FALL = 0.1, 0.005


class Samples(NamedTuple):
    """What a run is trained on and held against."""

    inputs: Float[np.ndarray, "n p"]
    labels: Int[np.ndarray, " n"]
    held_out: tuple[Float[np.ndarray, "m p"], Int[np.ndarray, " m"]]

    def follow(self, config: ssm.Config) -> xr.Dataset:
        """A run of them."""
        return ssm.simulate(
            config, inputs=self.inputs, labels=self.labels, held_out_data=self.held_out
        )


def mixture(config: ssm.Config, seed: int, flips: float) -> Samples:
    """Training samples of which a share has wrong labels, and fresh ones; the same but for labels at any share."""
    inputs, labels = ssm.mixture_inputs(dataclasses.replace(config, seed=seed))
    fresh = dataclasses.replace(
        config, imbalance_ratio=1.0, minority_count=FRESH, seed=10_000 + seed
    )
    rng = np.random.default_rng([seed, 3])
    wrong = rng.random(len(labels)) < flips
    moved = labels + rng.integers(1, config.num_classes, len(labels))
    labels = np.where(wrong, moved % config.num_classes, labels)
    return Samples(inputs, labels, ssm.mixture_inputs(fresh))


def digits(seed: int) -> Samples:
    """Digits, imbalanced by a draw of classes and images."""
    images, labels = data.load_digits()
    rng = np.random.default_rng(seed)
    counts = np.full(data.NUM_CLASSES, MINORITY)
    counts[rng.choice(data.NUM_CLASSES, data.NUM_CLASSES // 2, replace=False)] = MAJORITY
    train, held_out = [], []
    for c, count in enumerate(counts):
        own = rng.permutation(np.flatnonzero(labels == c))
        train.append(own[:count])
        held_out.append(own[POOL:])
    chosen, others = np.concatenate(train), np.concatenate(held_out)
    X = images.reshape(len(images), -1).astype(float)
    X = X - X[chosen].mean(axis=0)
    X = X / np.sqrt((X[chosen] ** 2).sum(axis=1).mean())
    return Samples(X[chosen], labels[chosen], (X[others], labels[others]))


def run(out: Path, quick: bool, report: Report) -> Claims:
    """Draw `held_out_data.png` and make the claims."""
    seeds = range(FIRST_SEED, FIRST_SEED + (3 if quick else SEEDS))
    flips = (0.0, 0.1) if quick else FLIPS
    names = ("N",) if quick else tuple(SETTINGS)
    cases = [(name, share, seed) for name in names for share in flips for seed in seeds]
    found = side_by_side(lambda case: _noisy(*case), cases, part(report, 0.0, 0.6))
    shape = (len(names), len(flips), len(seeds))
    lead, fall = (np.reshape(values, shape) for values in zip(*found, strict=True))
    draws = range(FIRST_SEED, FIRST_SEED + (2 if quick else DRAWS))
    kinds = list(BIASES)[: 1 if quick else None]
    drawn = [(bias, g, seed) for bias in kinds for g in WEIGHTINGS.values() for seed in draws]
    runs = side_by_side(lambda case: _of_pixels(*case), drawn, part(report, 0.6, 1.0))
    by_case = dict(zip(drawn, runs, strict=True))
    pixels = {
        bias: {
            name: Curves.of_runs([by_case[bias, g, seed] for seed in draws])
            for name, g in WEIGHTINGS.items()
        }
        for bias in kinds
    }
    groups = np.array([by_case[kinds[0], 0.0, seed]["class_group"].values for seed in draws])
    claims = Claims()
    _claim_noise(claims, names, flips, lead, fall)
    for bias, curves in pixels.items():
        _claim_pixels(claims, BIASES[bias], curves)
    _draw(out / "held_out_data.png", names, flips, lead, fall, pixels["none"], groups)
    return claims


def _noisy(name: str, flips: float, seed: int) -> tuple[float, float]:
    """Early lead of g = 1 over ERM, and its early best over its accuracy at the end, in one draw."""
    config = SETTINGS[name]
    samples = mixture(config, seed, flips)
    base = ssm.Config(
        seed=seed,
        **{field: getattr(config, field) for field in OF_THE_RUN},
    )
    erm, weighted = (
        Curves.of_runs([samples.follow(dataclasses.replace(base, weight_exponent=g))])
        for g in (0.0, 1.0)
    )
    pair = compared(erm, weighted)
    return float(pair.lead[0]), float(pair.early_over_late[0])


def _of_pixels(bias: str, exponent: float, seed: int) -> xr.Dataset:
    config = dataclasses.replace(PIXELS, weight_exponent=exponent, seed=seed, bias=bias)
    return digits(seed).follow(config)


def _claim_noise(
    claims: Claims,
    names: tuple[str, ...],
    flips: tuple[float, ...],
    lead: Float[np.ndarray, "settings flips seeds"],
    fall: Float[np.ndarray, "settings flips seeds"],
) -> None:
    for name, own_lead, own_fall in zip(names, lead, fall, strict=True):
        for share, ahead, falls in zip(flips, own_lead, own_fall, strict=True):
            what = f"setting {name}, {share:.0%} of labels wrong".replace("%", " %")
            fallen = f"{what}: best of g = 1 at margins below 5 over its accuracy at 100"
            if (name, share) == ("N", 0.1):
                claims.at_least(fallen, FALL, Estimate.over_seeds(falls))
            if (name, share) == ("N", 0.0):
                claims.at_most(fallen, 0.0, Estimate.over_seeds(falls))
            claims.at_least(
                f"{what}: g = 1 within 0.01 of its early best, balanced accuracy over ERM's then",
                0.0,
                Estimate.over_seeds(ahead),
            )


def _claim_pixels(claims: Claims, kind: str, curves: dict[str, Curves]) -> None:
    erm, _, weighted = curves.values()
    near = weighted.nearly_best
    when = weighted.of(weighted.log_time, near)
    early = weighted.of(weighted.balanced, near) - erm.at_time(when)
    late = weighted.end - erm.end
    peak = weighted.of(weighted.balanced, weighted.best)
    claims.at_least(
        f"{kind}: g = 1 within 0.01 of its best, balanced held-out accuracy over ERM's then",
        LAG,
        Estimate.over_seeds(early),
        f"flow time {np.exp(when).mean():.3g}",
    )
    claims.at_least(
        f"{kind}: that gap less the gap at a margin of {MARGIN:g}",
        0.0,
        Estimate.over_seeds(early - late),
        f"{late.mean():+.4f} at the end",
    )
    claims.at_least(
        f"{kind}: best of g = 1 over its accuracy at a margin of {MARGIN:g}",
        DIGITS_FALL,
        Estimate.over_seeds(peak - weighted.end),
        f"{peak.mean():.3f} to {weighted.end.mean():.3f}",
    )


def _draw(
    path: Path,
    names: tuple[str, ...],
    flips: tuple[float, ...],
    lead: np.ndarray,
    fall: np.ndarray,
    pixels: dict[str, Curves],
    groups: np.ndarray,
) -> None:
    """Above, what stopping early pays and how far weights lead over the share of wrong labels; below, accuracy of
    digits over time, and recall by group."""
    with pages.page(path, 4.4) as figure:
        (first, second), (third, fourth) = figure.subplots(2, 2)
        _draw_noise(first, names, flips, fall, "early best of $g = 1$\nover margin 100")
        first.legend(loc="upper left")
        _draw_noise(second, names, flips, lead, "$g = 1$ ahead of ERM early")
        for name, own in pixels.items():
            x, y = mean_over_log_time(own, own.balanced, LAST)
            third.plot(x, y, color=SHADES[name], label=f"{name}, held-out")
            training = mean_over_log_time(own, own.training.mean(-1), LAST)
            third.plot(*training, color=SHADES[name], lw=0.7, ls=":")
            top = int(y.argmax())
            if top < len(y) - 1:
                third.plot(x[top], y[top], "o", color=SHADES[name], ms=4)
        pages.key(third, "training images", color="0.4", lw=0.7, ls=":")
        third.set_ylabel("digits: balanced accuracy")
        for group in profiles.GROUPS:
            for name, width in (("ERM", 0.8), ("$g = 1$", 1.8)):
                own = pixels[name]
                member = (groups == group)[:, None]
                values = np.where(member, own.recall, 0).sum(-1) / member.sum(-1)
                line = mean_over_log_time(own, values, LAST)
                fourth.plot(*line, color=plotting.COLORS[group], lw=width, label=f"{group}, {name}")
        fourth.set_ylabel("digits: held-out recall")
        for axes in (third, fourth):
            axes.set_xscale("log")
            ticks = (1, 2, 3, 5, 10)
            pages.plain_ticks(axes.xaxis, ticks, [f"$10^{{{tick}}}$" for tick in ticks])
            axes.set_xlim(1, LAST)
            axes.set_ylim(-0.02, 1.03)
            axes.set_xlabel(pages.FLOW_TIME)
            axes.legend(loc="lower right", labelspacing=0.2)


def _draw_noise(
    axes: Axes, names: tuple[str, ...], flips: tuple[float, ...], values: np.ndarray, label: str
) -> None:
    """Means over seeds with their 95 % intervals."""
    for name, own, mark in zip(names, values, "os", strict=False):
        each = [Estimate.over_seeds(one) for one in own]
        mean, low, high = np.transpose(each)
        color = NOISE_COLORS[name]
        axes.errorbar(
            100 * np.array(flips),
            mean,
            (mean - low, high - mean),
            fmt=f"{mark}-",
            ms=3.5,
            lw=1,
            elinewidth=0.8,
            capsize=2,
            color=color,
            label=f"{DESCRIBED[name]}",
        )
    axes.axhline(0, color="0.7", lw=0.6, zorder=0)
    axes.set_xlabel("wrong training labels (%)")
    axes.set_ylabel(label)
