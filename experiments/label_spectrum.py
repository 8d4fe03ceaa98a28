"""What are the singular values of the label matrix, and what do class weights make of them?

Claimed before the run: the published and derived formulas for STEP imbalance, and the k x k problem by
which the library finds the same numbers for any counts, agree with a dense decomposition of the whole
k x n matrix to rounding. The minority's value is R^(-1/2) of the majority's without weights, equal to it
under inverse-square-root weights, and R^(1/2) of it under inverse-frequency weights; the square roots of
these make all values equal too. It takes a second: nothing is trained.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments import pages
from experiments.claims import Claim, Claims
from experiments.readings import GROUPS, Report, each
from experiments.settings import WEIGHTINGS
from ssm import Config, plotting, spectral, sweep_plots, weights
from ssm.problem import make_problem, simplex_labels

PICTURE = Config(num_classes=6, imbalance_ratio=5, minority_count=4)
SWEEP = Config(num_classes=10, minority_fraction=0.3, minority_count=2)
EXACT = 1e-12  # relative: rounding

Values = dict[str, list[np.ndarray]]
"""Singular values under each weighting, by imbalance ratio."""
Formulas = dict[str, list[dict[str, float]]]
"""The same in closed form, by block."""


def step_formulas(config: Config, w: np.ndarray) -> dict[str, float]:
    """The published and derived values of S diag(w) for STEP imbalance, written out by block."""
    n_maj, n_min = max(config.class_counts), min(config.class_counts)
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


def minority_over_majority(config: Config, class_weights: np.ndarray) -> float:
    """From the dense decomposition, in which a group's value is found by its left vector among the
    classes of the group."""
    S = weighted_labels(config, class_weights)
    left, values, _ = np.linalg.svd(S, full_matrices=False)
    inside = [
        (left[:, :-1] ** 2)[np.array(config.class_groups) == group].sum(0) for group in GROUPS
    ]
    majority, minority = (values[np.abs(share - 1).argmin()] for share in inside)
    return float(minority / majority)


def run(out: Path, quick: bool, report: Report) -> list[Claim]:
    """Draw `label_matrix.png` and `label_spectrum.png`; hold the k x k problem and the formulas
    against a dense SVD."""
    ratios = np.geomspace(1, 1000, 4 if quick else 13).round().astype(int)
    formulas: Formulas = {name: [] for name in WEIGHTINGS}
    dense: Values = {name: [] for name in WEIGHTINGS}
    root_formulas: Formulas = {name: [] for name in WEIGHTINGS}
    root_dense: Values = {name: [] for name in WEIGHTINGS}
    formula_error, small_error = 0.0, 0.0
    for ratio in each(ratios, report):
        config = dataclasses.replace(SWEEP, imbalance_ratio=ratio)
        for name, exponent in WEIGHTINGS.items():
            w = weights.power_law(config.class_counts, exponent)
            predicted = step_formulas(config, w)
            groups = config.class_groups
            spectrum = spectral.label_spectrum(config.class_counts, w, class_groups=groups)
            in_order = np.sort([predicted[block] for block in spectrum.blocks])[::-1]
            measured = dense_values(config, w)
            formulas[name].append(predicted)
            dense[name].append(measured)
            root_formulas[name].append(step_formulas(config, np.sqrt(w)))
            root_dense[name].append(dense_values(config, np.sqrt(w)))
            formula_error = max(formula_error, np.max(np.abs(measured / in_order - 1)))
            small_error = max(small_error, np.max(np.abs(spectrum.singular_values / measured - 1)))
    _draw_matrix(out / "label_matrix.png")
    rows = {r"$S\,\Omega$": (formulas, dense), r"$S\,\Omega^{1/2}$": (root_formulas, root_dense)}
    _draw_values(out / "label_spectrum.png", ratios, rows)

    R, claims = float(ratios[-1]), Claims()
    config = dataclasses.replace(SWEEP, imbalance_ratio=R)
    powers = {name: weights.power_law(config.class_counts, g) for name, g in WEIGHTINGS.items()}
    small, large = (
        minority_over_majority(config, powers[name]) for name in ("ERM", "inverse frequency")
    )
    equal = dense["inverse square root"][-1]
    rooted = dense_values(config, np.sqrt(powers["inverse frequency"]))
    statement = "STEP formulas against a dense SVD, R = 1..1000, relative error"
    claims.at_most(statement, EXACT, float(formula_error))
    claims.at_most("k x k problem against a dense SVD, relative error", EXACT, float(small_error))
    statement = "dense SVD, R = 1000: minority over majority value of S is R^(-1/2)"
    claims.close(statement, R**-0.5, small, EXACT)
    statement = "of S Omega, inverse frequency: overshoots to R^(1/2)"
    claims.close(statement, R**0.5, large, EXACT)
    for name, values in (
        ("Omega, inverse square root", equal),
        ("Omega^(1/2), inverse frequency", rooted),
    ):
        statement = f"of S {name}: all values equal, largest over smallest - 1"
        claims.at_most(statement, EXACT, float(np.ptp(values) / values.min()))
    return claims


def _readable_vectors(spectrum: spectral.LabelSpectrum) -> np.ndarray:
    """Left vectors in a basis that reads well: within a group each class against those before it. Equal singular values
    leave any rotation of their vectors, so the matrix is the same."""
    left = spectrum.left.copy()
    for group in GROUPS:
        columns = np.flatnonzero(spectrum.blocks == group)
        members = np.flatnonzero(np.abs(left[:, columns]).max(axis=1) > EXACT)
        for j, column in enumerate(columns, start=1):
            left[:, column] = 0
            left[members[:j], column] = -1 / np.sqrt(j * (j + 1))
            left[members[j], column] = j / np.sqrt(j * (j + 1))
    return left


def _draw_matrix(path: Path) -> None:
    problem = make_problem(PICTURE)
    k, n = len(problem.counts), len(problem.labels)
    spectrum = spectral.components(problem)
    left = _readable_vectors(spectrum)
    right = (left / spectrum.singular_values)[problem.labels].T
    with pages.page(path, 2.5) as figure:
        axes = figure.subplots(1, 4, width_ratios=[1.9, 1, 1, 1.9])
        for ax, matrix, title in (
            (axes[0], simplex_labels(problem.labels, k), r"$S = Y - 1/k$"),
            (axes[1], left, r"left vectors $u_j$"),
            (axes[3], right, r"right vectors $v_j$"),
        ):
            limit = np.abs(matrix).max()
            image = ax.imshow(matrix, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
            bar = figure.colorbar(image, ax=ax, location="bottom", shrink=0.9, aspect=25)
            bar.set_ticks(np.array([-1, 0, 1]) * np.floor(10 * limit) / 10)
            bar.ax.set_xticklabels([f"{tick:g}" for tick in bar.get_ticks()])
            ax.set_title(title)
            ax.spines[:].set_visible(False)
        component = r"component $j$"
        axes[0].set(xlabel=f"sample (of {n})", ylabel="class")
        axes[1].set(xlabel=component, ylabel="class", xticks=range(k - 1))
        axes[3].set(xlabel=f"sample (of {n})", ylabel=component, yticks=range(k - 1))
        for block, color in plotting.COLORS.items():
            mine = np.flatnonzero(spectrum.blocks == block)
            axes[2].bar(mine, spectrum.singular_values[mine], color=color, label=block)
        axes[2].set(xlabel=component, ylabel=r"singular value $s_j$", xticks=range(k - 1))
        axes[2].set(title="spectrum", ylim=(0, 7.6))
        axes[2].legend(loc="upper right", borderaxespad=0, handlelength=1, labelspacing=0.2)
        note = "vectors of one colour may be rotated among themselves; drawn: each class against those before it"
        figure.supxlabel(note, fontsize=7, color="0.3")


def _draw_values(path: Path, ratios: np.ndarray, rows: dict[str, tuple[Formulas, Values]]) -> None:
    with pages.page(path, 3.6) as figure:
        axes = figure.subplots(len(rows), len(WEIGHTINGS), sharey=True, sharex=True)
        for own, (matrix, (formulas, dense)) in zip(axes, rows.items(), strict=True):
            for ax, name in zip(own, WEIGHTINGS, strict=True):
                _draw_one(ax, ratios, formulas[name], dense[name])
            own[0].set_ylabel(f"singular value of {matrix}")
        for ax, (name, exponent) in zip(axes[0], WEIGHTINGS.items(), strict=True):
            ax.set_title(f"{name}\n($g = {exponent:g}$)")
        for ax in axes[-1]:
            ax.set_xlabel(pages.RATIO)
        for ax in (axes[0, 1], axes[1, 2]):
            ax.text(3, 100, "all three are equal", color="0.3", fontsize=7)
        pages.key(axes[0, 0], "dense SVD", "o", color="0.75", ms=3.5)
        pages.key(axes[0, 0], "closed form", "--", color="0.3")
        pages.legend_above(figure, axes[0, 0], 5)


def _draw_one(
    ax: Axes, ratios: np.ndarray, formulas: list[dict[str, float]], dense: list[np.ndarray]
) -> None:
    for ratio, values in zip(ratios, dense, strict=True):
        ax.plot(np.full(len(values), ratio), values, "o", color="0.75", ms=3.5, zorder=1)
    for block, color in plotting.COLORS.items():
        # where lines coincide, the wider ones are seen on both sides
        line = {"color": color, "label": block, "lw": pages.WIDTHS[block] / 2 + 0.3}
        ax.plot(ratios, [row[block] for row in formulas], "--", zorder=2, **line)
    ax.set(xscale="log", yscale="log")
    sweep_plots.ratio_ticks(ax.xaxis)
