"""What does `ssm.Tracker` see in an ordinary PyTorch loop?

A network of two layers with biases, as PyTorch starts it, on scikit-learn's digits, 10:1, in mini-batches of 64 and plain
SGD: cross-entropy (ERM) beside inverse-frequency weights. All that is claimed and drawn is read off the logs, which hold
numbers by class and component alone. Claimed before the run: under ERM the minority block takes at least twice as long as the
majority block; with weights the ratio of the two is that which the log's own g*, of the features before training, gives,
R^(g* - 1), and between the two weightings it differs by R; weights are ahead on held-out digits by 0.1 of balanced accuracy
at some step, and by a quarter of their largest lead at the end; and the features of a class come together under both, in
NC1 and in the coupling. PyTorch is needed: `pip install -e '.[torch]'`.
"""

# torch comes with an extra alone, and the static checks run without it
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import ssm
from experiments import data, pages
from experiments.claims import Claim, Claims, Estimate
from experiments.readings import GROUPS, Report, each, part
from ssm.plots import networks

WEIGHTINGS = {"ERM": 0.0, "inverse frequency": 1.0}
RATIO, HELD_OUT, MINORITY = 10, 50, range(5, 10)
HIDDEN, BATCH, RATE = 64, 64, 0.1
ROWS = ("class_accuracy", "strength", "nc1", "coupling")


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is run."""

    seeds: int = 5
    num_steps: int = 3000


def observed_at(num_steps: int) -> np.ndarray:
    """The steps at which a network is followed: every one at first, then ever fewer, each 4 % after the one before."""
    count = int(np.log(num_steps) / np.log(1.04))
    return np.unique(np.r_[0, np.geomspace(1, num_steps, count).round().astype(int)])


def follow(split: data.Split, exponent: float, num_steps: int, seed: int) -> xr.Dataset:
    """The log of one training. Networks of one seed start alike and see the same batches."""
    import torch

    torch.manual_seed(seed)
    X, held_out = (
        torch.from_numpy(images.reshape(len(images), -1))
        for images in (split.train_images, split.test_images)
    )
    labels = split.train_labels
    y, rng = torch.from_numpy(labels.astype(np.int64)), np.random.default_rng(seed)
    body = torch.nn.Sequential(torch.nn.Linear(X.shape[1], HIDDEN), torch.nn.ReLU())
    head = torch.nn.Linear(HIDDEN, data.NUM_CLASSES)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=RATE)
    weights = ssm.weights.power_law(np.bincount(labels), exponent)
    weight = torch.from_numpy(weights.astype(np.float32))[y]
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    tracker = ssm.Tracker(labels, held_out_labels=split.test_labels, on_alarm=lambda alarm: None)
    when = set(observed_at(num_steps).tolist())
    for step in range(num_steps + 1):
        if step in when:
            with torch.no_grad():
                features = body(X)
                outside = head(body(held_out))
            tracker.add(step, head(features), features, head.weight, None, weights, outside)
        rows = torch.from_numpy(rng.choice(len(y), BATCH))
        optimizer.zero_grad()
        # divided by the number of samples, not by their weights, which in batches would be worth less than they say
        (weight[rows] * loss(head(body(X[rows])), y[rows])).mean().backward()
        optimizer.step()
    return tracker.dataset()


def balanced_accuracy(log: xr.Dataset) -> np.ndarray:
    """On held-out images, (time,)."""
    return log["held_out_accuracy"].mean("class").values


def delay(log: xr.Dataset) -> float:
    """How many times as long as the majority block the minority block takes to be learned."""
    majority, minority = log["block_learning_time"].sel(block=GROUPS).values
    return float(minority / majority)


def make_claims(found: dict[str, list[xr.Dataset]]) -> list[Claim]:
    """The claims, each of numbers that the logs hold."""
    claims, (erm, weighted) = Claims(), found.values()
    delays = {name: [delay(log) for log in mine] for name, mine in found.items()}
    of_erm, of_weighted = (np.array(mine) for mine in delays.values())
    what = "learning time of the minority block over the majority's"
    claims.at_least(f"ERM: {what}", 2, Estimate.geometric(of_erm))
    exponents = np.array([float(log["balancing_exponent"][0]) for log in weighted])
    predicted = float(RATIO ** (exponents.mean() - 1))
    note = f"g* {exponents.mean():.3f}, coupling {np.mean([float(log['coupling'][0]) for log in weighted]):.3f}"
    statement = f"inverse frequency: {what}, from the coupling before training"
    claims.close(statement, predicted, Estimate.geometric(of_weighted), 0.25, note)
    powers = np.log(of_erm / of_weighted) / np.log(RATIO)
    statement = "power of R by which inverse frequency moves that ratio"
    claims.close(statement, 1.0, Estimate.over_seeds(powers), 0.2)
    leads = np.array(
        [balanced_accuracy(b) - balanced_accuracy(a) for a, b in zip(erm, weighted, strict=True)]
    )
    steps = erm[0]["time"].values
    statement = (
        "held-out balanced accuracy, inverse frequency minus ERM: largest of the mean over seeds"
    )
    best = int(leads.mean(axis=0).argmax())
    claims.at_least(statement, 0.1, Estimate.over_seeds(leads[:, best]), f"step {steps[best]:g}")
    statement = "the same at the end, over the largest"
    shares = Estimate.jackknife(
        lambda seeds: float(leads[seeds].mean(axis=0)[-1] / leads[seeds].mean(axis=0).max()),
        len(leads),
    )
    note = f"{leads[:, -1].mean():.3f} at step {steps[-1]:g}"
    claims.at_most(statement, 0.25, shares, note)
    for name, logs in found.items():
        ends = {
            variable: np.array([log[variable].values[[0, -1]] for log in logs])
            for variable in ("nc1", "coupling")
        }
        for variable, word in (("nc1", "NC1"), ("coupling", "coupling")):
            first, last = ends[variable].T
            note = f"{first.mean():.3g} to {last.mean():.3g}"
            state = claims.at_most if variable == "nc1" else claims.at_least
            state(
                f"{name}: {word} at the end over its start",
                1,
                Estimate.over_seeds(last / first),
                note,
            )
    return claims


def draw(path: Path, shown: dict[str, xr.Dataset]) -> None:
    """Panels of `ssm plot --kind network` for one seed, a column a weighting, with the learning times of both blocks."""
    with pages.page(path, 5.8) as figure:
        grid: Any = figure.subplots(len(ROWS), len(shown), sharex=True, sharey="row")
        for column, (name, log) in zip(grid.T, shown.items(), strict=True):
            for axes, row in zip(column, ROWS, strict=True):
                networks.PANELS[row](log, axes)
                for block in GROUPS:
                    when = float(log["block_learning_time"].sel(block=block))
                    look: dict[str, Any] = {"color": ssm.plotting.COLORS[block], "zorder": 0}
                    axes.axvline(when, lw=pages.WIDTHS[block] / 2, ls=(0, (3, 1.5)), **look)
            column[0].set_title(name)
            column[-1].set(xscale="log", xlim=(1, log["time"].values[-1]), xlabel="step")
        for axes in grid[:, 1]:
            axes.set_ylabel("")
            if axes.get_legend() is not None:
                axes.get_legend().remove()  # as to the left of it
        grid[1, 0].set_yscale("symlog", linthresh=1)
        for name, color in ssm.plotting.COLORS.items():
            pages.key(grid[0, 0], name, color=color)
        pages.key(grid[0, 0], "held out", ls=":", color="0.3")
        pages.key(grid[0, 0], "half learned", ls=(0, (3, 1.5)), color="0.3", lw=0.8)
        pages.legend_above(figure, grid[0, 0], 5)


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Train, draw the logs of the first seed, and return the claims."""
    import torch

    torch.set_num_threads(1)  # sums in the same order, and so the same figure, on any machine
    size = Size(2, 1500) if quick else Size()
    images, labels = data.load_digits()
    found: dict[str, list[xr.Dataset]] = {name: [] for name in WEIGHTINGS}
    cases = [(seed, name) for seed in range(size.seeds) for name in WEIGHTINGS]
    for seed, name in each(cases, part(report, 0.0, 0.95)):
        split = data.split(images, labels, HELD_OUT, RATIO, MINORITY, seed)
        found[name].append(follow(split, WEIGHTINGS[name], size.num_steps, seed))
    draw(out / "followed_digits.png", {name: mine[0] for name, mine in found.items()})
    report(1.0)
    return make_claims(found)
