"""How does the loss of a class fall when class sizes fall by Zipf's law?

Ten thousand classes of 1/rank, in octaves, by the exact system (`ssm.theory.many_groups`), and 31 classes in five octaves by runs of
the model. It takes half a minute. Claimed before trial runs, with pi_c = n_c / n, w_c the weight and delta the margin:

- Features held (orthogonal, one a class): classes are alone. From zero logits l' = -pi_c w_c (1 - e^-l)^2 k / (k - 1), so that with omega
  the function omega + ln omega = x, l = ln(1 + 1 / omega(pi_c w_c t k / (k - 1) + 1 / (k - 1) - ln(k - 1))). Late that is 1 / (pi_c w_c t)
  (Kunstner et al. 2024), within 5 % from pi_c w_c t = 400 on, where ln(k pi_c w_c t) is below 4 % of it.
- Both factors moving (free features): delta' = 2 r_c l delta with r_c = w_c sqrt(n_c) / n, so that 1 / l is 2 r_c times the integral of delta,
  and l = 1 / (2 r_c t delta), within 5 % from delta = 25 on, with local slope -(1 + 1 / delta).
- So over class sizes the late loss goes as n^(g - 1) with features held and n^(g - 1/2) with both moving, under weights n^-g: inverse
  square root evens out the one that inverse frequency turns around.
- Sign descent learns all classes at one rate (Kunstner et al. 2024): with features held after ln((k - 1) / (sqrt(k) - 1)) / 2 of steps x rate, and
  alike within 10 % with both moving; so does Adam. Muon's steps in free features are shared by the samples of a class, n^(-1/2) each,
  so that with both moving the largest class is learned last, R^(1/4) later than the smallest.

What was derived after looking, and the octaves and times of which it is claimed, says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.special import wrightomega

from experiments import pages
from experiments.claims import Claim, Claims, Estimate
from experiments.pages import THEORY
from experiments.readings import Report, each, farthest, part
from experiments.settings import WEIGHTINGS
from ssm import Config, plotting, simulate, spectral, sweep, weights
from ssm.config import Optimizer, profiles
from ssm.theory.many_groups import GroupCurves, ManyGroups, curves, octaves

NUM_CLASSES = 10_000
# Five octaves, each of twice the classes of half the size.
SMALL_SIZES, SMALL_NUMBERS = np.array([32, 16, 8, 4, 2]), np.array([1, 2, 4, 8, 16])
SMALL_COUNTS = tuple(np.repeat(SMALL_SIZES, SMALL_NUMBERS).tolist())
FIRST = np.cumsum(SMALL_NUMBERS) - SMALL_NUMBERS  # a class of each octave
SCALE = 1e-3  # of spectral starts
END, DENSE_END = 1e12, 1e5  # of the exact system, and of runs that stand beside it
SMALL = {"counts": SMALL_COUNTS, "feature_dim": len(SMALL_COUNTS)}
HELD: dict[str, Any] = {"depth": 1, "coupling": 1.0, "init": "collapsed", "init_scale": 1e-9}
STEPS: dict[Optimizer, dict[str, Any]] = {
    "sign": {"learning_rate": 0.01, "num_steps": 600},
    "adam": {"learning_rate": 0.01, "num_steps": 600},
    "muon": {"learning_rate": 0.02, "num_steps": 1200},
    "spectral_gd": {
        "learning_rate": 0.02,
        "num_steps": 1200,
    },  # Muon's steps without its approximation
}
PULLED, WIDE = 400.0, 25.0  # pi w t and margin from which the laws are claimed
LAW = 0.05
SEEDS = 4
MANY = 16  # classes of an octave, from which on its contrasts are claimed after looking


class Case(NamedTuple):
    """Groups of classes, and what they learn with both factors moving."""

    groups: ManyGroups
    curves: GroupCurves

    @property
    def num_classes(self) -> int:
        """k."""
        return int(self.groups.num_classes.sum())

    @property
    def rates(self) -> np.ndarray:
        """r_c of free features."""
        own = self.groups
        return own.class_weights * np.sqrt(own.counts) / own.num_samples

    @property
    def pulls(self) -> np.ndarray:
        """pi_c w_c."""
        own = self.groups
        return own.class_weights * own.counts / own.num_samples

    @property
    def held(self) -> np.ndarray:
        """Class loss with features held, (t, G)."""
        return held_loss(self.pulls * self.curves.times[:, None], self.num_classes)

    def over_law(self, logits: np.ndarray) -> np.ndarray:
        """Class loss x 2 r t x these logits, (t, G)."""
        return 2 * self.rates * self.curves.times[:, None] * logits * self.curves.class_loss


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw `heavy_tail.png`, and hold both laws, weights and optimisers against the exact system and runs."""
    large = np.array(profiles.zipf_counts(NUM_CLASSES, float(NUM_CLASSES), 5))
    sizes, numbers, _ = octaves(large)
    cases = {
        name: follow(sizes, numbers, g, 1e-6 if quick else 1e-7)
        for name, g in each(WEIGHTINGS.items(), part(report, 0.0, 0.3))
    }
    small = follow(SMALL_SIZES.astype(float), SMALL_NUMBERS, 0.0, 1e-7)
    dense = dense_runs()
    report(0.5)
    names = list(STEPS)[: 1 if quick else None]
    steps = {
        name: stepped(name, 2 if quick else SEEDS) for name in each(names, part(report, 0.5, 1.0))
    }
    _draw(out / "heavy_tail.png", cases, steps)
    return [
        *_dense_claims(small, dense),
        *_law_claims(cases),
        *_exponent_claims(cases),
        *_step_claims(steps),
    ]


def held_loss(pulled: Any, num_classes: int) -> np.ndarray:
    """Class loss with features held, from zero logits, at pi w t."""
    k = num_classes
    return np.log1p(1 / wrightomega(pulled * k / (k - 1) + 1 / (k - 1) - np.log(k - 1)))


def follow(
    sizes: np.ndarray, numbers: np.ndarray, exponent: float, rtol: float, end: float = END
) -> Case:
    """The exact system of groups of these sizes, in ERM's or other weights of unit mean."""
    own = weights.power_law(np.repeat(sizes, numbers), exponent)
    groups = ManyGroups(numbers, sizes, own[np.cumsum(numbers) - numbers])
    times = np.geomspace(1.0, end, 1 + round(10 * np.log10(end)))
    return Case(groups, curves(groups, times, SCALE, rtol))


def dense_runs() -> dict[str, xr.Dataset]:
    """Runs of all 31 classes, with features held and with both factors moving."""
    times: dict[str, Any] = {"t1": DENSE_END, "save_spacing": "log"}
    close: dict[str, Any] = {"num_saves": 60, "rtol": 1e-10, "atol": 1e-13}
    return {
        "held": simulate(Config(**SMALL, **HELD, **times, **close)),
        "both": simulate(Config(**SMALL, init="spectral", init_scale=SCALE, **times, **close)),
    }


def stepped(name: Optimizer, seeds: int) -> dict[str, xr.Dataset]:
    """An optimiser's runs, with features held and, from Gaussian starts, with both factors moving."""
    steps = {"optimizer": name, "num_saves": 301, **STEPS[name]}
    return {
        "held": simulate(Config(**SMALL, **HELD, **steps)).expand_dims("seed"),
        "both": sweep({"seed": range(seeds)}, Config(**SMALL, init_scale=SCALE, **steps)),
    }


def octave_loss(found: xr.Dataset) -> np.ndarray:
    """Class loss, mean over the classes of each octave, (..., t, G)."""
    loss = found["class_loss"].transpose(..., "time", "class").values
    return np.add.reduceat(loss, FIRST, axis=-1) / SMALL_NUMBERS


def learned(found: xr.Dataset, rate: float) -> np.ndarray:
    """Steps x rate when each octave's loss is first half of that of zero logits, (seed, G)."""
    full = np.log(len(SMALL_COUNTS))
    share = 1 - octave_loss(found) / full
    times = found["time"].values * rate
    return np.stack([spectral.learning_times(times, one, 0.5) for one in share])


def _dense_claims(small: Case, dense: dict[str, xr.Dataset]) -> list[Claim]:
    """The model's own runs against the two exact systems."""
    claims = Claims(f"{small.num_classes} classes, ERM, flow to {DENSE_END:.0e}")
    found = dense["held"]
    wanted = held_loss(small.pulls * found["time"].values[:, None], small.num_classes)
    statement = (
        "features held: class losses of a run, worst distance from the closed form, relative"
    )
    claims.at_most(statement, 1e-6, farthest(octave_loss(found), wanted))
    found = dense["both"]
    again = curves(small.groups, found["time"].values, SCALE, 1e-11)
    statement = "both moving: class losses of a run, worst distance from the exact system, relative"
    claims.at_most(statement, 1e-6, farthest(octave_loss(found), again.class_loss))
    return list(claims) + _both_claims(Claims(f"{small.num_classes} classes, ERM"), small)


def _law_claims(cases: dict[str, Case]) -> list[Claim]:
    """Both laws in their windows."""
    made: list[Claim] = []
    for name, case in cases.items():
        claims = Claims(f"{case.num_classes} classes, {name}")
        pulled = case.pulls * case.curves.times[:, None]
        off = np.abs(case.held * pulled - 1)[pulled >= PULLED]
        statement = f"features held, pi w t >= {PULLED:g}: class loss, worst distance from 1 / (pi w t), relative"
        claims.at_most(statement, LAW, float(off.max()))
        made += _both_claims(claims, case)
    return made


def _both_claims(claims: Claims, case: Case) -> list[Claim]:
    """The law of two moving factors, and what stands in its place."""
    own, late = case.curves, case.curves.margin >= WIDE
    if not late.any():
        return list(claims)
    found = case.over_law(own.margin)[late]
    statement = f"both moving, margin >= {WIDE:g}: class loss, worst distance from 1 / (2 r t x margin), relative"
    note = f"{found.min():.3g} to {found.max():.3g} of it"
    claims.at_most(statement, LAW, float(np.abs(found - 1).max()), note)
    slopes = np.gradient(np.log(own.class_loss), np.log(own.times), axis=0)[1:-1]
    off = np.abs(slopes + 1 + 1 / own.margin[1:-1])[late[1:-1]]
    statement = f"both moving, margin >= {WIDE:g}: local slope of class loss, worst distance from -(1 + 1 / margin)"
    claims.at_most(statement, 0.01, float(off.max()))
    many = (own.contrast >= WIDE) & (case.groups.num_classes >= MANY)
    many &= own.times[:, None] >= own.times[-1] / 100
    found = case.over_law(own.contrast)[many]
    statement = f"both moving, octaves of {MANY} classes and more, last two decades, contrast >= {WIDE:g}: the same with the octave's contrast for the margin (derived after looking)"
    claims.at_most(statement, LAW, float(np.abs(found - 1).max()))
    return list(claims)


def _exponent_claims(cases: dict[str, Case]) -> list[Claim]:
    """Class loss over class size at the end."""
    claims = Claims(f"{NUM_CLASSES} classes, t = {END:.0e}")
    for name, case in cases.items():
        g, sizes = WEIGHTINGS[name], np.log(case.groups.counts)
        losses = {"features held": case.held[-1], "both moving": case.curves.class_loss[-1]}
        for (kind, loss), half in zip(losses.items(), (1.0, 0.5), strict=True):
            slope = float(np.polyfit(sizes, np.log(loss), 1)[0])
            law = "g - 1" if half == 1 else "g - 1/2"
            statement = f"{name}, {kind}: power of n_c in the class loss, distance from {law} = {g - half:g}"
            claims.at_most(statement, LAW, abs(slope - (g - half)), f"{slope:.3f}")
    return list(claims)


def _step_claims(steps: dict[Optimizer, dict[str, xr.Dataset]]) -> list[Claim]:
    """When steps of other sizes than the gradient's learn the classes."""
    k, ratio = len(SMALL_COUNTS), SMALL_SIZES[0] / SMALL_SIZES[-1]
    claims = Claims(f"{k} classes, ERM")
    alone = np.log((k - 1) / (np.sqrt(k) - 1)) / 2
    for name, runs in steps.items():
        times = _times(name, runs)
        if name == "sign":
            statement = "sign, features held: steps x rate to half the loss of every octave, worst distance from ln((k - 1) / (sqrt(k) - 1)) / 2, relative"
            claims.at_most(statement, 1e-3, farthest(times["held"], alone))
        for kind, own in times.items():
            what = "features held" if kind == "held" else "both moving, Gaussian start"
            statement = f"{name}, {what}: learning time of the smallest octave over the largest's"
            slow = name in ("muon", "spectral_gd") and kind == "both"
            law = ratio**-0.25 if slow else 1.0
            note = "by octave " + ", ".join(f"{time:.3g}" for time in own.mean(axis=0))
            found = own[:, -1] / own[:, 0]
            measured = float(found[0]) if kind == "held" else Estimate.geometric(found)
            full = f"{statement}, {'R^(-1/4)' if slow else 'one rate'}"
            full += " (added after looking)" if name == "spectral_gd" else ""
            claims.close(full, law, measured, 0.2 if slow else 0.1, note)
    return list(claims)


def _times(name: Optimizer, runs: dict[str, xr.Dataset]) -> dict[str, np.ndarray]:
    """Learning times of an optimiser's runs, (seed, G)."""
    rate = STEPS[name]["learning_rate"]
    return {kind: learned(found, rate) for kind, found in runs.items()}


def _draw(
    path: Path, cases: dict[str, Case], steps: dict[Optimizer, dict[str, xr.Dataset]]
) -> None:
    with pages.page(path, 4.4) as figure:
        axes = figure.subplots(2, 2)
        _draw_losses(axes[0, 0], cases["ERM"], held=True)
        _draw_losses(axes[0, 1], cases["ERM"], held=False)
        axes[0, 1].sharey(axes[0, 0])
        _draw_sizes(axes[1, 0], cases)
        _draw_steps(axes[1, 1], steps)


def _draw_losses(ax: Axes, case: Case, held: bool) -> None:
    """Class loss of the largest, a middle and the smallest octave over time."""
    own, shown = case.curves, (0, len(case.rates) // 2, len(case.rates) - 1)
    loss = case.held if held else own.class_loss
    colors = plotting.COLORS["majority"], plotting.COLORS["cross"], plotting.COLORS["minority"]
    for group, color in zip(shown, colors, strict=True):
        size = case.groups.counts[group]
        ax.plot(own.times, loss[:, group], color=color, label=f"$n_c$ = {size:.0f}")
        law = case.pulls[group] * own.times
        if not held:
            law = 2 * case.rates[group] * own.times * np.maximum(own.margin[:, group], 0)
        late = law >= 3
        ax.plot(own.times[late], 1 / law[late], **THEORY)
    law = r"1 / ($\pi_c t$)" if held else "1 / (2 $r_c t$ x margin)"
    pages.key(ax, law, **THEORY)
    title = "features held" if held else "both factors moving"
    ax.set(xscale="log", yscale="log", title=title, xlabel=pages.FLOW_TIME, ylim=(1e-12, 40))
    ax.set(ylabel="class loss (nats)")
    ax.legend(loc="lower left")


def _draw_sizes(ax: Axes, cases: dict[str, Case]) -> None:
    """Class loss over class size, at the end, by weights."""
    for (name, case), color in zip(cases.items(), pages.shades(3), strict=True):
        sizes = case.groups.counts
        ax.plot(sizes, case.held[-1], "s", color=color, mfc="none", ms=3.5, mew=0.8)
        ax.plot(sizes, case.curves.class_loss[-1], "o", color=color, ms=3, label=name)
        for loss, half in ((case.held[-1], 1.0), (case.curves.class_loss[-1], 0.5)):
            line = sizes ** (WEIGHTINGS[name] - half)
            ax.plot(sizes, line * np.exp(np.log(loss / line).mean()), **THEORY)
    pages.key(ax, "features held", "s", color="0.4", mfc="none", ms=3.5)
    pages.key(ax, "both moving", "o", color="0.4", ms=3)
    ax.set(xscale="log", yscale="log", xlabel="samples of a class $n_c$")
    ax.set(ylabel=f"class loss at $t$ = {END:.0e} (nats)".replace("1e+12", "$10^{12}$"))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * 1e4)
    ax.legend(loc="upper center", ncols=2, fontsize=6, columnspacing=0.8, handletextpad=0.4)


def _draw_steps(ax: Axes, steps: dict[Optimizer, dict[str, xr.Dataset]]) -> None:
    """Learning times over class size, each over its largest class's."""
    for (name, runs), mark in zip(steps.items(), "os^D", strict=False):
        for kind, each_seed in _times(name, runs).items():
            times = np.exp(np.log(each_seed).mean(axis=0))
            style: dict[str, Any] = (
                {"color": "#009E73", "mfc": "none"} if kind == "held" else {"color": "#CC79A7"}
            )
            label = f"{name.replace('_gd', '')}, {'held' if kind == 'held' else 'moving'}"
            ax.plot(SMALL_SIZES, times / times[0], f"{mark}-", ms=4, lw=0.8, label=label, **style)
    ax.plot(SMALL_SIZES, (SMALL_SIZES[0] / SMALL_SIZES) ** -0.25, **THEORY)
    ax.axhline(1, **pages.FAINT)
    ax.set(xscale="log", yscale="log", xlabel="samples of a class $n_c$")
    ax.set(ylabel="learning time /\nthe largest class's")
    pages.plain_ticks(ax.xaxis, SMALL_SIZES.tolist())
    ax.set_ylim(0.45, 4.5)
    pages.plain_ticks(ax.yaxis, (0.5, 1, 1.5, 2))
    ax.legend(loc="upper center", ncols=2, fontsize=6, columnspacing=0.8)
