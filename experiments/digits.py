"""The real thing: a 3-layer convolutional network on STEP-imbalanced digits, cross-entropy (ERM)
against weighted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments import data
from experiments import digits_figures as figures
from experiments.claims import Claim, at_least, at_most, noted
from experiments.digits_network import METHODS, Config, Outcome, outcomes, recall
from ssm.support.checks import choice
from ssm.support.errors import invalid

ERM, WEIGHTED = METHODS
QUICK = {"seeds": (0, 1), "num_steps": 100, "confusion_steps": (10, 20, 40, 100), "num_sparse": 5}
MNIST = {"held_out_per_class": 500}


def first_passing(steps: np.ndarray, level: float, *curves: np.ndarray) -> float:
    """First of the evaluated `steps` (t,) at which every curve (t,) is at least `level`; infinity
    if none is."""
    reached = np.min(curves, axis=0) >= level
    return float(steps[reached.argmax()]) if reached.any() else np.inf


def make_claims(config: Config, results: dict[str, Outcome]) -> list[Claim]:
    """The claims, on curves of recall averaged over seeds; the last on learning times averaged over
    seeds."""
    steps = config.evaluation_steps()
    by_seed = {method: recall(result.confusion, config) for method, result in results.items()}
    mean = {m: {name: v.mean(0) for name, v in curves.items()} for m, curves in by_seed.items()}
    where = "held-out recall, mean over seeds"

    def at_passing(majority: np.ndarray, minority: np.ndarray) -> tuple[float, float]:
        step = first_passing(steps, 0.97, majority)
        return step, float(minority[steps == step][0]) if np.isfinite(step) else np.nan

    passing, at_mean = at_passing(mean[ERM]["majority"], mean[ERM]["minority"])
    groups = by_seed[ERM]["majority"], by_seed[ERM]["minority"]
    own = [at_passing(*one) for one in zip(*groups, strict=True)]
    first = [
        noted(
            at_most(
                "ERM's minority recall when its majority's first passes 0.97 (held-out, each seed at its own "
                "passing, mean)",
                0.5,
                float(np.mean([minority for _, minority in own])),
            ),
            "steps " + ", ".join(f"{step:g}" for step, _ in own),
        ),
        noted(
            at_most(f"the same on the mean curves ({where})", 0.5, at_mean),
            f"step {passing:g}",
        ),
    ]

    both = {
        level: [
            first_passing(steps, level, mean[m]["majority"], mean[m]["minority"])
            for m in (WEIGHTED, ERM)
        ]
        for level in (0.9, 0.85, 0.8)
    }
    weighted, erm = both[0.9]
    second = noted(
        at_most(
            f"steps until majority and minority reach 0.9, weighted CE over ERM ({where}; "
            f"{config.num_steps} for an ERM that never does)",
            1 / 3,
            weighted / min(erm, config.num_steps),
        ),
        "; ".join(f"to {level:g}: {w:g} over {e:g}" for level, (w, e) in both.items()),
    )

    gap = mean[WEIGHTED]["balanced accuracy"] - mean[ERM]["balanced accuracy"]
    largest = np.abs(gap).argmax()
    third = noted(
        at_most(
            f"balanced accuracy, weighted CE minus ERM: last step over largest ({where})",
            0.25,
            float(abs(gap[-1] / gap[largest])),
        ),
        f"{gap[-1]:.3f} over {gap[largest]:.3f} at step {steps[largest]}",
    )

    learned = (results[method].learning_time for method in METHODS)
    delay_erm, delay_weighted = (float(np.mean(t[:, 2] / t[:, 0])) for t in learned)
    fourth = noted(
        at_least(
            "learning time of the minority block over the majority's, ERM over weighted CE "
            "(training logits, ratios averaged over seeds)",
            2,
            delay_erm / delay_weighted,
        ),
        f"{delay_erm:.3g} over {delay_weighted:.3g}",
    )
    return [*first, second, third, fourth]


def run(
    out: Path,
    quick: bool,
    report: Callable[[float], None],
    dataset: str = "digits",
    data_dir: Path | None = None,
) -> list[Claim]:
    """Train, draw recall, spectrum and confusion as figures and confusion as a film too; return the
    claims."""
    choice("dataset", dataset, ("digits", "mnist"))
    config = Config(**(MNIST if dataset == "mnist" else {}), **(QUICK if quick else {}))
    if dataset == "digits":
        images, labels = data.load_digits()
    elif data_dir is None:
        raise invalid("data_dir", data_dir, "the folder with MNIST's IDX files")
    else:
        images, labels = data.load_mnist(data_dir)
    results = outcomes(config, images, labels, lambda share: report(0.9 * share))
    figures.draw_recall(out / f"{dataset}_recall.png", config, results)
    figures.draw_spectrum(out / f"{dataset}_spectrum.png", config, results)
    figures.draw_confusion(out / f"{dataset}_confusion.png", config, results)
    figures.film_confusion(out / f"{dataset}_confusion.gif", config, results)
    report(1.0)
    return make_claims(config, results)
