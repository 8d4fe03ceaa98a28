"""Biases and couplings between classes: do they bend the law R^(g* - g)?

In networks of one hidden layer they seem to: the power of R falls from 1 towards a half with biases. In the model
a class's contrasts with its equals feel neither a bias nor c_b beyond kappa_c = 1 - c + (c - c_b) n_c, exactly
so under the squared loss from a symmetric start, and at zero logits under cross-entropy. So claimed before the
run, at c = 0.3 and c_b of 0, 0.1 and 0.3, whatever has a bias: contrasts follow the prediction for their start
and balance at g* of that kappa, and the slope of their ratio of times over g, in powers of R, is -1 to 0.05.

Classes as wholes do feel them, as a bias of the logits learns the shares n_c w_c of the classes before
features are learned: under ERM it alone brings a class of the majority half way (seen in trial runs first), so that
the ratio of class learning times grows tenfold or more. At inverse frequency n_c w_c are equal, what all samples
share has nothing to learn, and times stay within 5 %.

What the first run added: both claims of classes fail under cross-entropy. The ratio without a bias is itself larger at
c_b = 0, so that a bias of the logits makes it only 8 times as large there; and at inverse frequency what all
samples share gets something to learn once one group is ahead of the other, worth up to 8 %. The slope of class times
over g is no constant of the model: without biases -0.77, -0.26 and -0.64 at the three c_b, with one of the
features -0.51, -0.60 and -0.97, with one of the logits near -2. Under the squared loss it is -1 in all cases.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import xarray as xr

from experiments import pages
from experiments.claims import Claim, Claims
from experiments.pages import HOLLOW, THEORY
from experiments.readings import GROUPS, Report, counted, expected, farthest, learned, part, ratio
from experiments.settings import BASE, LOSSES
from ssm import fits, sweep, sweep_plots, theory
from ssm.config.model import Bias

COUPLING = 0.3
BETWEEN = (0.0, 0.1, 0.3)
BIASES = get_args(Bias)
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TOLERANCE, EXPONENT_TOLERANCE = 0.05, 0.03  # as in imbalance_sweep, and of the same starts
TENFOLD = 10.0
MARKERS = dict(zip(BIASES, "osv^", strict=True))


def run(
    path: Path, starts: Mapping[str, dict[str, Any]], quick: bool, seeds: int, report: Report
) -> list[Claim]:
    """Draw both kinds of ratios of learning times over the exponent, and hold them against theory."""
    axes = {
        "between_coupling": BETWEEN[:2] if quick else BETWEEN,
        "bias": BIASES[::3] if quick else BIASES,
        "weight_exponent": EXPONENTS,
        "seed": range(seeds),
    }
    found = {}
    for i, loss in enumerate(LOSSES):
        told = counted(part(report, i / 2, (i + 1) / 2))
        base = dataclasses.replace(BASE, coupling=COUPLING, **starts[loss])
        runs = sweep(axes, base, progress=told)
        found[loss] = xr.Dataset(
            {
                "contrasts": ratio(learned(runs)),
                "predicted": ratio(expected(runs)),
                "classes": class_ratio(runs),
            }
        )
    _draw(path, found)
    return _claims(found)


def class_ratio(runs: xr.Dataset) -> xr.DataArray:
    """Mean learning time of minority classes over that of majority classes."""
    times, groups = runs["class_learning_time"], runs["class_group"].values
    majority, minority = (
        times.isel({"class": np.flatnonzero(groups == group)}).mean("class", skipna=False)
        for group in GROUPS
    )
    return minority / majority


def slope(ratios: xr.DataArray) -> xr.DataArray:
    """Of log ratio / log R over the weight exponent, for each seed: the power of R^g."""
    weights = BASE.imbalance_ratio ** ratios["weight_exponent"]
    return fits.power_law(weights, ratios)["each_exponent"]


def zero(ratios: xr.DataArray) -> xr.DataArray:
    """The exponent at which both are learned at once, for each seed; NaN where none is."""
    return fits.crossing(ratios)["each"]


def balance(between: float) -> float:
    """g* at a coupling between classes."""
    counts = BASE.class_counts
    return float(theory.balancing_exponent(max(counts), min(counts), COUPLING, between))


def _claims(found: Mapping[str, xr.Dataset]) -> list[Claim]:
    claims = Claims()
    couplings: list[float] = found[LOSSES[0]]["between_coupling"].values.tolist()
    for loss, between in itertools.product(LOSSES, couplings):
        own = found[loss].sel(between_coupling=between)
        name = f"{loss}, c = {COUPLING:g}, c_b = {between:g}, every bias and seed:"
        off = farthest(own["contrasts"], own["predicted"])
        statement = (
            f"{name} worst distance of the ratio of learning times from the start's prediction"
        )
        claims.at_most(statement, TOLERANCE, off)
        slopes = slope(own["contrasts"])
        note = _by_bias(slopes)
        off = float(abs(slopes + 1).max(skipna=False))
        statement = f"{name} slope of log(ratio of learning times) / log R over g, distance from -1"
        claims.at_most(statement, TOLERANCE, off, note)
        wanted = balance(between)
        if wanted < EXPONENTS[-1] - EXPONENT_TOLERANCE:
            exponents = zero(own["contrasts"])
            off = float(abs(exponents - wanted).max(skipna=False))
            statement = f"{name} balancing exponent, distance from g* = {wanted:.3f}"
            claims.at_most(statement, EXPONENT_TOLERANCE, off, _by_bias(exponents))
    for loss in LOSSES:
        classes = found[loss]["classes"]
        without = classes.sel(bias="none")
        even = float(abs(classes / without - 1).sel(weight_exponent=1.0).max(skipna=False))
        statement = f"{loss}, inverse frequency, every c_b, bias and seed: worst distance of the ratio of class learning times from that without biases"
        claims.at_most(statement, TOLERANCE, even)
    classes = found["cross_entropy"]["classes"].sel(weight_exponent=0.0)
    of_logits = [bias for bias in classes["bias"].values if bias in ("output", "both")]
    grown = classes.sel(bias=of_logits) / classes.sel(bias="none")
    statement = "cross_entropy, ERM, every c_b and seed: ratio of class learning times, with a bias of the logits over without, least"
    note = f"{float(grown.min()):.3g} to {float(grown.max()):.3g}"
    claims.at_least(statement, TENFOLD, float(grown.min(skipna=False)), note)
    return claims


def _by_bias(values: xr.DataArray) -> str:
    """The mean over seeds for each bias, in words."""
    means = values.mean("seed", skipna=False)
    return ", ".join(f"{bias} {float(means.sel(bias=bias)):.3f}" for bias in means["bias"].values)


def _draw(path: Path, found: Mapping[str, xr.Dataset]) -> None:
    ends = np.array([EXPONENTS[0], EXPONENTS[-1]])
    with pages.page(path, 2.7) as figure:
        axes = figure.subplots(1, 3)
        first = found[LOSSES[0]]
        couplings, biases = (first[name].values.tolist() for name in ("between_coupling", "bias"))
        colors = dict(zip(couplings, pages.shades(len(couplings)), strict=True))
        for ax, loss in zip(axes, LOSSES, strict=False):
            for between, color in colors.items():
                for bias in biases:
                    own = found[loss]["contrasts"].sel(between_coupling=between, bias=bias)
                    ax.plot(EXPONENTS, own.mean("seed"), MARKERS[bias], color=color, **HOLLOW)
                ax.plot(ends, BASE.imbalance_ratio ** (balance(between) - ends), **THEORY)
                pages.key(ax, f"$c_b = {between:g}$", "s", color=color)
            ax.set_title(f"contrasts, {loss.replace('_', '-')}")
        _key_biases(axes[0])
        pages.key(axes[0], "law, $R^{g^* - g}$", **THEORY)
        last = axes[-1]
        for bias, (between, color) in itertools.product(biases, colors.items()):
            own = found["cross_entropy"]["classes"].sel(between_coupling=between, bias=bias)
            style = {"color": color, "lw": 0.6, **HOLLOW}
            last.plot(EXPONENTS, own.mean("seed"), MARKERS[bias] + "-", **style)
        last.set_title("classes, cross-entropy")
        for ax in axes:
            ax.set(yscale="log", xlabel="weight exponent $g$")
            sweep_plots.ratio_ticks(ax.yaxis)
        axes[0].set_ylabel(pages.TIME_RATIO)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")


def _key_biases(ax: Any) -> None:
    names = {"none": "no bias", "hidden": "of features", "output": "of logits", "both": "both"}
    for bias, marker in MARKERS.items():
        pages.key(ax, names[bias], marker, color="0.4", **HOLLOW)
