"""The label matrix, its singular value decomposition, and what weights do to its singular
values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.claims import Claim, at_most, close
from ssm import Config, plotting, spectral, weights
from ssm.problem import make_problem, simplex_labels

PICTURE = Config(num_classes=6, imbalance_ratio=5, minority_count=4)
SWEEP = Config(num_classes=10, minority_fraction=0.3, minority_count=2)
WEIGHTINGS = {"ERM": 0.0, "inverse square root": 0.5, "inverse frequency": 1.0}


def step_formulas(config: Config, exponent: float) -> dict[str, float]:
    """The published and derived STEP values, written out: within-majority, cross and
    within-minority."""
    n_maj, n_min = max(config.class_counts), min(config.class_counts)
    w = weights.power_law(config.class_counts, exponent)
    w_maj, w_min, rho = w[0], w[-1], config.minority_fraction
    return {
        "majority": float(w_maj * np.sqrt(n_maj)),
        "cross": float(np.sqrt(rho * n_maj * w_maj**2 + (1 - rho) * n_min * w_min**2)),
        "minority": float(w_min * np.sqrt(n_min)),
    }


def weighted_labels(config: Config, class_weights: np.ndarray) -> np.ndarray:
    """S Omega in full, k x n."""
    problem = make_problem(config)
    S = simplex_labels(problem.labels, len(problem.counts))
    return S * class_weights[problem.labels]


def dense_values(config: Config, class_weights: np.ndarray) -> np.ndarray:
    """Nonzero singular values of S Omega by a dense decomposition: shape (k - 1,), descending."""
    return np.linalg.svd(weighted_labels(config, class_weights), compute_uv=False)[:-1]


def run(out: Path, quick: bool, report: Callable[[float], None]) -> list[Claim]:
    """Draw `label_matrix.png` and `label_spectrum.png`; hold the k x k problem and the formulas
    against a dense SVD."""
    ratios = np.geomspace(1, 1000, 4 if quick else 13).round().astype(int)
    formulas = {name: [] for name in WEIGHTINGS}
    dense = {name: [] for name in WEIGHTINGS}
    formula_error, small_error = 0.0, 0.0
    for i, ratio in enumerate(ratios):
        config = dataclasses.replace(SWEEP, imbalance_ratio=ratio)
        for name, exponent in WEIGHTINGS.items():
            predicted = step_formulas(config, exponent)
            w = weights.power_law(config.class_counts, exponent)
            spectrum = spectral.label_spectrum(
                config.class_counts, w, class_groups=config.class_groups
            )
            expected = np.array([predicted[block] for block in spectrum.blocks])
            measured = dense_values(config, w)
            formulas[name].append(predicted)
            dense[name].append(measured)
            in_order = np.sort(expected)[::-1]
            formula_error = max(formula_error, np.max(np.abs(measured / in_order - 1)))
            small_error = max(small_error, np.max(np.abs(spectrum.singular_values / measured - 1)))
        report((i + 1) / len(ratios))

    _draw_matrix(out / "label_matrix.png")
    _draw_values(out / "label_spectrum.png", ratios, formulas, dense)

    largest = float(ratios[-1])
    config = dataclasses.replace(SWEEP, imbalance_ratio=largest)
    half = np.sqrt(weights.power_law(config.class_counts, 1.0))

    def minority_over_majority(class_weights: np.ndarray) -> float:
        """From the dense decomposition, the minority value found by its left vector among
        minorities."""
        S = weighted_labels(config, class_weights)
        left, values, _ = np.linalg.svd(S, full_matrices=False)
        found = [
            np.abs((left[:, :-1] ** 2)[np.array(config.class_groups) == group].sum(0) - 1).argmin()
            for group in ("majority", "minority")
        ]
        return float(values[found[1]] / values[found[0]])

    powers = {name: weights.power_law(config.class_counts, g) for name, g in WEIGHTINGS.items()}
    return [
        at_most(
            "STEP formulas against a dense SVD, R = 1..1000, relative error", 1e-12, formula_error
        ),
        at_most("k x k problem against a dense SVD, relative error", 1e-12, small_error),
        close(
            "dense SVD, R = 1000: minority over majority value of S is R^(-1/2)",
            largest**-0.5,
            minority_over_majority(powers["ERM"]),
            1e-12,
        ),
        close(
            "of S Omega, inverse frequency: overshoots to R^(1/2)",
            largest**0.5,
            minority_over_majority(powers["inverse frequency"]),
            1e-12,
        ),
        at_most(
            "of S Omega, inverse square root: all values equal, largest over smallest - 1",
            1e-12,
            _spread(dense["inverse square root"][-1]),
        ),
        at_most(
            "of S Omega^(1/2), inverse frequency: all values equal, largest over smallest - 1",
            1e-12,
            _spread(dense_values(config, half)),
        ),
    ]


def _spread(values: np.ndarray) -> float:
    return float(np.ptp(values) / values.min())


def _draw_matrix(path: Path) -> None:
    problem = make_problem(PICTURE)
    k = len(problem.counts)
    S = simplex_labels(problem.labels, k)
    spectrum = spectral.components(problem)
    right = (spectrum.left / spectrum.singular_values)[problem.labels].T
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.5))
        axes = figure.subplots(1, 4, width_ratios=[2.1, 1, 1, 2.1])
        n = len(problem.labels)
        for ax, matrix, title in (
            (axes[0], S, r"$S = Y - 1/k$"),
            (axes[1], spectrum.left, r"left vectors $u_j$"),
            (axes[3], right, r"right vectors $v_j$"),
        ):
            limit = np.abs(matrix).max()
            image = ax.imshow(matrix, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
            figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, aspect=25)
            ax.set_title(title)
            ax.spines[:].set_visible(False)
        axes[0].set(xlabel=f"sample (of {n})", ylabel="class")
        axes[1].set(xlabel=r"component $j$", ylabel="class", xticks=range(k - 1))
        axes[3].set(xlabel=f"sample (of {n})", ylabel=r"component $j$", yticks=range(k - 1))
        for block, color in plotting.COLORS.items():
            mine = np.flatnonzero(spectrum.blocks == block)
            axes[2].bar(mine, spectrum.singular_values[mine], color=color, label=block)
        axes[2].set(
            xlabel=r"component $j$",
            ylabel=r"singular value $s_j$",
            xticks=range(k - 1),
            ylim=(0, 6.6),
        )
        axes[2].set_title("spectrum")
        axes[2].legend(loc="upper right", borderaxespad=0, handlelength=1)
    plotting.save_figure(figure, path)


def _draw_values(
    path: Path,
    ratios: np.ndarray,
    formulas: dict[str, list[dict[str, float]]],
    dense: dict[str, list[np.ndarray]],
) -> None:
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2.4))
        axes = figure.subplots(1, len(WEIGHTINGS), sharey=True)
        for ax, (name, exponent) in zip(axes, WEIGHTINGS.items(), strict=True):
            for ratio, values in zip(ratios, dense[name], strict=True):
                ax.plot(np.full(len(values), ratio), values, "o", color="0.75", ms=4, zorder=1)
            for block, color in plotting.COLORS.items():
                curve = [row[block] for row in formulas[name]]
                ax.plot(ratios, curve, "--", color=color, label=block, zorder=2)
            ax.set(xscale="log", yscale="log", xlabel=r"imbalance ratio $R$")
            ax.set_title(f"{name} ($g = {exponent:g}$)")
            if exponent == 0.5:
                ax.text(3, 100, "all three are equal", color="0.3", fontsize=7)
        axes[0].set_ylabel(r"singular value of $S\,\Omega$")
        axes[0].plot([], [], "o", color="0.75", ms=4, label="dense SVD")
        axes[0].legend(title="closed form", loc="upper left")
    plotting.save_figure(figure, path)
