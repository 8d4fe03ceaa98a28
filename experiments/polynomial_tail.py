"""Do weights survive to the end of training where the loss has a polynomial tail?

Under cross-entropy they do not (`terminal_phase`). Wang et al. 2022, "Is importance weighting incompatible with
interpolating classifiers?", show for linear classifiers that they do under losses that fall as a power of the margin.
Here is that question asked of the small-scale model, as an example of a loss and an observable of one's own: both
stand in this file, and the library knows nothing of them. The loss of a sample with margin m = -log sum_{c != y}
e^(z_c - z_y) is m^-alpha beyond m = 1, and linear below, where it is tangent.

Claimed before the run: free features end where sum_c n_c w_c m_c^-alpha is least at a given nuclear norm of the
logits, with every gap of a class at its margin m_c. For STEP the ratio r of minorities' over majorities' margin then
solves

    ((k_1 - 1) sqrt(n_1) + n_1 k_2 / (k C)) / ((k_2 - 1) sqrt(n_2) + n_2 k_1 r / (k C))
        = (k_1 n_1 w_1) / (k_2 n_2 w_2) r^(alpha + 1),    C = sqrt((n_1 k_2 + n_2 k_1 r^2) / k),

about r = R^((g - 1/2) / (alpha + 1)) for weights n^-g: the exponent 1/2 that balances the beginning balances the end
too, and the heavier the tail, the more the weights count. Under cross-entropy, alpha without bound, r is 1 whatever
they are. It takes half a minute.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy import optimize

from experiments.claims import Claim, Claims, Estimate
from experiments.pages import HOLLOW, RATIO, THEORY, key, legend_above, page, plain_ticks, shades
from experiments.readings import Report, part
from ssm import Config, fits, losses, sweep
from ssm.dynamics.parameters import classifier

ALPHAS = (1.0, 2.0, 4.0)
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
RATIOS = (3.0, 10.0, 30.0, 100.0)
BASE = Config(
    num_classes=6,
    imbalance_ratio=10.0,
    minority_count=3,
    feature_dim=8,
    init_scale=1e-2,
    clock="loss",
    t1=1e5,
    num_saves=60,
    save_spacing="log",
    max_steps=10**6,
)
EVEN = 0.02  # of the ratio of margins under cross-entropy: logarithms beside margins of hundreds
ENDS = 0.01  # of the ratio: log-sum-exp beside margins of thousands, and what is left of the way
LAW = 0.15  # of the exponent of R: the law leaves out the cross component, one contrast of five
APART = 1.2  # times, between inverse frequency and ERM, that anybody can see


class PolynomialTail(NamedTuple):
    """m^-alpha beyond the margin 1, its tangent below."""

    alpha: float = 1.0
    version = "1"

    def log_value(self, logits: Any, labels: Any) -> Any:
        """log l of each column."""
        is_label = losses.is_label(logits, labels)
        behind = logits - jnp.where(is_label, logits, 0).sum(0)[None]
        margin = -jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, behind), axis=0)
        below = jnp.log1p(self.alpha * (1 - jnp.minimum(margin, 1.0)))
        return jnp.where(margin > 1, -self.alpha * jnp.log(jnp.maximum(margin, 1.0)), below)

    def value(self, logits: Any, labels: Any) -> Any:
        """l of each column."""
        return jnp.exp(self.log_value(logits, labels))


class ClassMargin(NamedTuple):
    """The mean margin of each class's samples."""

    dims = ("class",)
    units = "logit"
    words = "mean margin of a class's samples"
    version = "1"

    def __call__(self, params: Any, columns: Any, time: Any) -> Any:
        """The margins in one state."""
        logits = columns.logits(classifier(params), params.H)
        return losses.margins(logits, columns.labels) @ columns.member_columns / columns.counts


def end_ratio(config: Config, alpha: float) -> float:
    """Minorities' over majorities' margin at the end, by the equation above, for a STEP of free features."""
    counts, sizes = np.unique(config.class_counts, return_counts=True)
    (n2, n1), (k2, k1), k = counts.astype(float), sizes, config.num_classes
    weighted = (k1 * n1 ** (1 - config.weight_exponent)) / (k2 * n2 ** (1 - config.weight_exponent))

    def excess(log_ratio: float) -> float:
        r = np.exp(log_ratio)
        cross = k * np.sqrt((n1 * k2 + n2 * k1 * r**2) / k)
        majority = (k1 - 1) * np.sqrt(n1) + n1 * k2 / cross
        minority = (k2 - 1) * np.sqrt(n2) + n2 * k1 * r / cross
        return float(np.log(majority / minority / weighted) - (alpha + 1) * log_ratio)

    root: Any = optimize.brentq(excess, -20, 20)
    return float(np.exp(root))


def balancing_exponent(config: Config) -> float:
    """The exponent of weights at which both groups end with equal margins: the equation at r = 1."""

    def excess(exponent: float) -> float:
        return end_ratio(dataclasses.replace(config, weight_exponent=exponent), ALPHAS[0]) - 1

    root: Any = optimize.brentq(excess, 0, 1)
    return float(root)


class Runs(NamedTuple):
    """Sweeps with `class_margin`."""

    weights: xr.Dataset
    """Over tails, exponents and seeds at R = 10."""
    ratios: xr.Dataset
    """Over tails, R and seeds, inverse frequency."""
    cross_entropy: xr.Dataset
    """Over exponents and seeds at R = 10."""


def follow(quick: bool, report: Report) -> Runs:
    """The runs: where it is quick one tail, two seeds and the ends of each range."""
    seeds, few = (2, slice(None, None, 2)) if quick else (5, slice(None))
    alphas = ALPHAS[1:2] if quick else ALPHAS
    observables = {"class_margin": ClassMargin()}
    own: dict[str, Any] = {"loss": PolynomialTail(), "observables": observables}
    axes: dict[str, Any] = {"loss.alpha": alphas, "seed": range(seeds)}
    exponents: dict[str, Any] = {"weight_exponent": EXPONENTS[few]}

    def told(first: float, last: float) -> Any:
        reported = part(report, first, last)
        return lambda done, total: reported(done / total)

    inverse = dataclasses.replace(BASE, weight_exponent=1.0)
    return Runs(
        sweep(axes | exponents, BASE, progress=told(0, 0.5), **own),
        sweep(axes | {"imbalance_ratio": RATIOS[few]}, inverse, progress=told(0.5, 0.8), **own),
        sweep(
            exponents | {"seed": range(seeds)},
            dataclasses.replace(BASE, t1=None),  # to a margin of 1000
            observables=observables,
            progress=told(0.8, 1),
        ),
    )


def margin_ratio(runs: xr.Dataset) -> xr.DataArray:
    """Minorities' over majorities' margin at every time."""
    margin, group = runs["class_margin"], runs["class_group"]
    means = [margin.where(group == name).mean("class") for name in ("minority", "majority")]
    return means[0] / means[1]


def end(runs: xr.Dataset) -> xr.DataArray:
    """That ratio at the last time that each run has reached."""
    ratio = margin_ratio(runs)
    last = ratio.notnull().sum("time") - 1
    return ratio.isel(time=last)


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw how the margins of groups end under tails and weights, and hold their ratio against the equation."""
    runs = follow(quick, part(report, 0.0, 0.95))
    draw(out / "polynomial_tail.png", runs)
    report(1.0)
    return [*_end_claims(runs), *_law_claims(runs)]


def _end_claims(runs: Runs) -> Claims:
    claims = Claims("STEP R = 10, free features")
    exponential = end(runs.cross_entropy)
    worst = abs(np.log(exponential.values)).max(axis=exponential.get_axis_num("weight_exponent"))
    claims.at_most(
        "under cross-entropy margins of both groups end equal whatever the weights; largest |log ratio|",
        EVEN,
        Estimate.over_seeds(worst),
    )
    ends = end(runs.weights)
    for alpha in ends["loss.alpha"].values.tolist():
        own = ends.sel({"loss.alpha": alpha})
        predicted = _predicted(runs.weights, alpha)
        errors = abs(own / xr.DataArray(predicted, dims="weight_exponent") - 1)
        claims.at_most(
            f"tail m^-{alpha:g}: minority / majority margin at the end is the equation's at every exponent; largest "
            "relative error",
            ENDS,
            Estimate.over_seeds(errors.transpose("seed", "weight_exponent").values.max(axis=1)),
            f"predicted {predicted[0]:.3f} under ERM to {predicted[-1]:.3f}",
        )
        spread = own.sel(weight_exponent=1.0) / own.sel(weight_exponent=0.0)
        claims.at_least(
            f"tail m^-{alpha:g}: inverse frequency's ratio at the end over ERM's",
            APART,
            Estimate.over_seeds(spread.values),
        )
    return claims


def _law_claims(runs: Runs) -> Claims:
    claims = Claims("Free features")
    balanced = end(runs.weights)
    for alpha in balanced["loss.alpha"].values.tolist():
        found = fits.crossing(balanced.sel({"loss.alpha": alpha}), along="weight_exponent")
        claims.between(
            f"tail m^-{alpha:g}: the exponent at which both groups end with equal margins is about the early one, 1/2",
            (0.5, 0.5),
            balance := Estimate(*(float(found[name]) for name in ("crossing", "low", "high"))),
            LAW,
            f"which is of many classes: the equation has {balancing_exponent(BASE):.3f} for six, and for a thousand "
            f"{balancing_exponent(dataclasses.replace(BASE, num_classes=1000)):.3f}",
        )
        claims.close(
            f"tail m^-{alpha:g}, derived after looking: that exponent is the equation's for six classes, the same for any tail",
            balancing_exponent(BASE),
            balance,
            ENDS,
        )
        ratio = end(runs.ratios).sel({"loss.alpha": alpha})
        law = fits.power_law(ratio["imbalance_ratio"], ratio)
        claims.close(
            f"tail m^-{alpha:g}, inverse frequency: exponent of R in the ratio of margins at the end, 1 / (2 (alpha + 1))",
            0.5 / (alpha + 1),
            Estimate(*(float(law[f"exponent{end}"]) for end in ("", "_low", "_high"))),
            LAW,
        )
    return claims


def _predicted(runs: xr.Dataset, alpha: float) -> list[float]:
    """The equation's ratio at each exponent of a sweep."""
    return [
        end_ratio(dataclasses.replace(BASE, weight_exponent=exponent), alpha)
        for exponent in runs["weight_exponent"].values.tolist()
    ]


def draw(path: Path, runs: Runs) -> None:
    """Ratios of margins over time under ERM and inverse frequency, at the end over exponents, and over R."""
    alphas = runs.weights["loss.alpha"].values.tolist()
    colors = dict(zip([*alphas, None], shades(len(alphas) + 1), strict=True))
    named = {alpha: f"tail $m^{{-{alpha:g}}}$" for alpha in alphas} | {None: "cross-entropy"}
    with page(path, 2.3) as figure:
        first, second, third = figure.subplots(1, 3, sharey=True)
        for alpha, color in colors.items():
            own = runs.cross_entropy if alpha is None else runs.weights.sel({"loss.alpha": alpha})
            for exponent, line in ((0.0, "-"), (1.0, "-.")):
                one = own.sel(weight_exponent=exponent).isel(seed=0)
                times = one["flow_time"] if "flow_time" in one.coords else one["time"]
                late = (one["class_margin"].transpose("time", "class").values > 1).all(axis=1)
                first.plot(times.values[late], margin_ratio(one).values[late], line, color=color)
            ends = end(own).mean("seed")
            second.plot(
                ends["weight_exponent"], ends, "o", color=color, label=named[alpha], **HOLLOW
            )
            if alpha is None:
                second.axhline(1, **THEORY)
                continue
            grid = np.linspace(0, 1, 50)
            configs = [dataclasses.replace(BASE, weight_exponent=g) for g in grid.tolist()]
            second.plot(grid, [end_ratio(config, alpha) for config in configs], **THEORY)
            ends = end(runs.ratios).sel({"loss.alpha": alpha}).mean("seed")
            third.plot(ends["imbalance_ratio"], ends, "o", color=color, **HOLLOW)
            grid = np.unique(np.round(3 * np.geomspace(2, 150, 50))) / 3  # whole samples
            configs = [
                dataclasses.replace(BASE, weight_exponent=1.0, imbalance_ratio=ratio)
                for ratio in grid.tolist()
            ]
            third.plot(grid, [end_ratio(config, alpha) for config in configs], **THEORY)
        key(second, "equation", **THEORY)
        key(second, "ERM", "-", color="0.5")
        key(second, "inverse frequency", "-.", color="0.5")
        first.set(
            xscale="log",
            yscale="log",
            xlabel="loss-normalised time $\\tau$",
            ylabel="minority / majority margin",
        )
        second.set(yscale="log", xlabel="exponent of the weights $g$")
        third.set(xscale="log", yscale="log", xlabel=RATIO)
        third.set_title("inverse frequency")
        plain_ticks(third.xaxis, RATIOS)
        plain_ticks(first.yaxis, (0.5, 0.7, 1, 1.5, 2, 3))
        legend_above(figure, second, 4)
