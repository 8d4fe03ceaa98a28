"""Figures of a study show the numbers of its record, each where it belongs."""

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from scipy import stats
from study_record import COUNTS, STRATEGIES, make_record

from ssm.plots import studies, studies_by_strategy
from ssm.plots.style import COLORS
from ssm.practice.study import evidence

KINDS = {"scores", "recalls", "differences", "reliability", "minority_reliability", "ablations"}
KINDS |= {"sensitivity", "shift", "training", "gradients", "weights"}


def points(axes, marker):
    """(x, y) of all markers of a kind."""
    drawn = [line.get_xydata() for line in axes.lines if line.get_marker() == marker]
    return np.concatenate(drawn)


def ends(axes, row):
    """Ends of the intervals that lie in a row, the widest first."""
    drawn_values = [
        line.get_xdata()
        for line in axes.lines
        if len(line.get_xdata()) == 2 and np.array_equal(line.get_ydata(), [row, row])
    ]
    return sorted((tuple(x) for x in drawn_values), key=lambda x: x[0] - x[1])


def t_interval(values, level, folds):
    """Nadeau and Bengio's interval, written out again."""
    j = values.size
    error = np.sqrt((1 / j + 1 / (folds - 1)) * values.var(ddof=1))
    return stats.t.interval(level, j - 1, values.mean(), error)


def test_every_figure_is_drawn_where_there_is_something_to_show(record, findings):
    assert set(studies.KINDS) == KINDS
    assert set(studies.figures(record, findings)) == KINDS


def test_figures_of_nothing_are_left_out():
    bare = make_record(extras=False, counts=[20, 20, 20])
    bare["history_class_weight"][:] = 1.0
    drawn_values = studies.figures(bare, evidence.find(bare))
    assert set(drawn_values) == KINDS - {
        "minority_reliability",
        "ablations",
        "sensitivity",
        "gradients",
        "weights",
    }


def test_scores_are_means_and_intervals_beside_every_fold(record, findings):
    for axes, metric in zip(
        studies.plot_scores(record, findings).axes, evidence.DECISIONS, strict=True
    ):
        scores = record[metric].sel(correction="none")
        for row, name in enumerate(STRATEGIES):
            folds = scores.sel(variant=name).values.ravel()
            means = [x for x, y in points(axes, "o") if y == row]
            np.testing.assert_allclose(means, [folds.mean()], rtol=1e-12)
            np.testing.assert_allclose(ends(axes, row)[0], t_interval(folds, 0.95, 3), rtol=1e-9)
            shown = [x for x, y in points(axes, ".") if abs(y - row) < 0.4]
            np.testing.assert_array_equal(np.sort(shown), np.sort(folds))


def test_what_is_asked_for_is_a_line_in_the_main_score():
    record = make_record(minimum=0.45, extras=False)
    drawing = studies.plot_scores(record, evidence.find(record))
    dotted = [[line for line in axes.lines if line.get_linestyle() == ":"] for axes in drawing.axes]
    assert [len(lines) for lines in dotted] == [1, 0, 0]
    assert np.array(dotted[0][0].get_xdata())[0] == 0.45
    drawing = studies.plot_scores(make_record(), evidence.find(make_record()))
    assert not [x for axes in drawing.axes for x in axes.lines if x.get_linestyle() == ":"]


def compared(findings, name, metric):
    """The comparison that there has to be."""
    drawn_values = findings.compared(name, metric)
    assert drawn_values is not None
    return drawn_values


def drawn_point(axes, row):
    """The marker of a row of a forest."""
    (drawn,) = [
        line
        for line in axes.lines
        if line.get_marker() in ("o", "s") and np.array_equal(line.get_ydata(), [row])
    ]
    return drawn


def test_forest_is_filled_where_a_difference_is_shown_and_has_both_intervals(record, findings):
    drawing = studies.plot_differences(record, findings)
    for axes, metric in zip(drawing.axes, evidence.FAMILY, strict=True):
        scores = record[metric].sel(correction="none")
        for row, name in enumerate(STRATEGIES[1:]):
            drawn = drawn_point(axes, row)
            paired = (scores.sel(variant=name) - scores.sel(variant="erm")).values
            np.testing.assert_allclose(np.array(drawn.get_xdata()), [paired.mean()], atol=1e-15)
            shown = (name, metric) in [
                ("inverse", "worst_class_recall"),
                ("inverse", "calibration_error"),
            ]
            assert shown is not same_color(drawn.get_markerfacecolor(), "white")
            if paired.any():
                family = len(evidence.FAMILY) * (len(STRATEGIES) - 1)
                together, alone = ends(axes, row)
                np.testing.assert_allclose(alone, t_interval(paired, 0.95, 3), rtol=1e-6)
                level = 1 - 0.05 / family
                np.testing.assert_allclose(together, t_interval(paired, level, 3), rtol=1e-6)
        patches: list[Any] = list(axes.patches)
        (band,) = [patch for patch in patches if patch.get_width() == pytest.approx(0.1)]
        assert band.get_x() == -0.05


def test_equivalent_and_undecided_differences_look_different():
    """Fifteen folds, of which one strategy differs by next to nothing and one by noise."""
    record, rng = make_record(seeds=3, folds=5, extras=False), np.random.default_rng(0)
    for scale, variant in ((0.002, 1), (0.2, 2)):
        noise = scale * rng.standard_normal((3, 5, 1))
        record["accuracy"][variant] = record["accuracy"][0] + noise
    findings = evidence.find(record)
    axes = studies.plot_differences(record, findings).axes[evidence.FAMILY.index("accuracy")]
    verdicts = [compared(findings, name, "accuracy").verdict for name in STRATEGIES[1:]]
    assert verdicts == ["equivalent", "undecided"]
    equivalent, undecided = (drawn_point(axes, row) for row in range(2))
    assert (equivalent.get_marker(), undecided.get_marker()) == ("s", "o")
    assert same_color(equivalent.get_color(), "black")
    assert same_color(undecided.get_color(), studies.UNDECIDED)


def test_endless_intervals_and_failed_runs_are_drawn(tmp_path):
    """Two folds that differ alike have no interval; numbers that were not finite are left out."""
    record = make_record(seeds=1, folds=2)
    record["worst_class_recall"][1] = record["worst_class_recall"][0] + 0.1
    for name in ("logits", "corrected_logits", "history_class_recall", "history_gradient_share"):
        record[name][0] = np.nan
    findings = evidence.find(record)
    assert np.isinf(compared(findings, "inverse", "worst_class_recall").high)
    drawn = studies.figures(record, findings)
    assert set(drawn) == KINDS
    for name in ("reliability", "minority_reliability"):
        assert [axes.get_title().split(":")[0] for axes in drawn[name].axes] == STRATEGIES[1:]
    drawn["differences"].savefig(tmp_path / "differences.png", dpi=20)
    drawn["training"].savefig(tmp_path / "training.png", dpi=20)


def test_recalls_are_coloured_by_group(record, findings):
    (axes,) = studies.plot_recalls(record, findings).axes
    recalls = record["recall"].sel(correction="none").mean(("seed", "fold"))
    groups = ["majority", "majority", "minority"]  # 18 is the geometric mean of 40 and 8
    assert list(findings.groups) == groups and COUNTS == [40, 20, 8]
    for row, name in enumerate(STRATEGIES):
        for group, side in (("majority", -0.15), ("minority", 0.15)):
            mine = recalls.sel(variant=name).values[np.array(groups) == group]
            (drawn,) = [
                line
                for line in axes.lines
                if line.get_marker() == "o" and np.array(line.get_ydata())[0] == row + side
            ]
            np.testing.assert_allclose(np.sort(drawn.get_xdata()), np.sort(mine), rtol=1e-12)
            assert same_color(drawn.get_color(), COLORS[group])


def test_training_is_the_mean_over_folds_of_runs_that_stay_as_they_stopped(record, findings):
    before = record["history_class_recall"].copy(deep=True)
    drawn = studies_by_strategy.plot_training(record, findings)
    assert drawn is not None
    axes = drawn.axes[1]
    assert axes.get_title() == "inverse"
    values = record["history_class_recall"].sel(variant="inverse").values.reshape(6, 4, 3).copy()
    assert np.isnan(values[0, 2:]).all()
    values[0, 2:] = values[0, 1]
    majority, minority = [line for line in axes.lines if line.get_linestyle() == "-"]
    for line, mine in ((majority, values[:, :, :2].mean(2)), (minority, values[:, :, 2])):
        np.testing.assert_allclose(np.array(line.get_ydata()), mine.mean(0), rtol=1e-12)
        np.testing.assert_array_equal(line.get_xdata(), [0, 50, 100, 150])
    assert sum(line.get_linestyle() == "--" for line in axes.lines) == 2  # the baseline's
    assert record["history_class_recall"].identical(before)


def panels_of(figure):
    """Of a figure that there has to be."""
    assert figure is not None
    return figure.axes


def test_only_changing_weights_are_drawn(record, findings):
    (axes,) = panels_of(studies_by_strategy.plot_weights(record, findings))
    assert axes.get_title() == "drw"
    np.testing.assert_array_equal(axes.lines[2].get_ydata(), [1, 1, 5, 5])


def test_reliability_is_of_the_first_repetition_with_wilson_intervals(record, findings):
    axes = panels_of(studies_by_strategy.plot_reliability(record, findings))[0]
    rows = np.exp(record["logits"].sel(variant="erm", seed=0).values)
    rows /= rows.sum(1, keepdims=True)
    right = rows.argmax(1) == record["label"].values
    shown, counts = points(axes, "s"), findings.calibrated[0].reliability.count
    assert counts.sum() == len(right) == sum(COUNTS)
    np.testing.assert_allclose((shown[:, 1] * counts).sum(), right.sum(), rtol=1e-12)
    np.testing.assert_allclose((shown[:, 0] * counts).sum(), rows.max(1).sum(), rtol=1e-12)
    error = (np.abs(shown[:, 0] - shown[:, 1]) * counts).sum() / counts.sum()
    assert f"{error:.3f} [" in axes.get_title().split("\n")[1]
    assert_wilson(axes, shown, counts)


def assert_wilson(axes, shown, counts):
    """The first set of intervals is Wilson's of the shares shown."""
    z = stats.norm.ppf(0.975)
    segments = axes.collections[0].get_segments()
    for (_, share), count, segment in zip(shown, counts, segments, strict=True):
        middle, half = (
            share + z**2 / (2 * count),
            z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)),
        )
        expected = (np.array([middle - half, middle + half])) / (1 + z**2 / count)
        np.testing.assert_allclose(segment[:, 1], expected, atol=1e-12)


@pytest.mark.parametrize("counts", [COUNTS, [40, 8, 8]], ids=["one", "two"])
def test_reliability_of_the_minority_adds_its_probabilities(counts):
    record = make_record(counts=counts, extras=False)
    findings = evidence.find(record)
    minority = np.array(findings.groups) == "minority"
    assert minority.tolist() == [False, counts[1] == 8, True]
    axes = panels_of(studies_by_strategy.plot_minority_reliability(record, findings))[0]
    rows = np.exp(record["logits"].sel(variant="erm", seed=0).values)
    rare = (rows / rows.sum(1, keepdims=True))[:, minority].sum(1)
    shown, bins = points(axes, "s"), findings.minority[0].reliability.count
    assert bins.sum() == sum(counts)
    np.testing.assert_allclose((shown[:, 0] * bins).sum(), rare.sum(), rtol=1e-12)
    true = minority[record["label"].values].sum()
    np.testing.assert_allclose((shown[:, 1] * bins).sum(), true, rtol=1e-12)
    error = (np.abs(shown[:, 0] - shown[:, 1]) * bins).sum() / bins.sum()
    assert f"{error:.3f} [" in axes.get_title().split("\n")[1]
    assert_wilson(axes, shown, bins)


def test_axes_of_a_rare_class_end_where_its_probabilities_do():
    """A class of 3 %, whose probabilities are small: they take up most of the axes, by their roots,
    and labels are where such probabilities are."""
    record = make_record(counts=[900, 90, 30], extras=False)
    labels = record["label"].values
    for name in ("logits", "corrected_logits"):
        logits = np.log([0.9, 0.07, 0.03]) + 0.5 * np.eye(3)[labels]
        record[name][:] = logits + 0.5 * np.random.default_rng(0).standard_normal(logits.shape)
    findings = evidence.find(record)
    assert list(findings.groups) == ["majority", "minority", "minority"]
    panels = panels_of(studies_by_strategy.plot_minority_reliability(record, findings))
    axes = panels[0]
    low, high = axes.get_xlim()
    lines: list[Any] = [x for each in panels for x in each.collections]
    reached = [part[1, 1] for x in lines for part in x.get_segments()]
    assert high == pytest.approx(1.05 * max(reached)) and high < 0.7
    assert low < 0 and axes.get_ylim() == (low, high)
    shown = axes.transData.transform(np.concatenate([points(axes, "s"), points(axes, "o")]))
    inside = axes.transAxes.inverted().transform(shown)
    assert (inside >= 0).all() and (inside <= 1).all()
    assert np.ptp(inside[:, 0]) > 0.4
    assert len([tick for tick in axes.get_xticks() if low <= tick <= high]) >= 4


def test_probabilities_are_corrected_and_tempered_fold_by_fold(record):
    drawn_values = evidence.probabilities(record, "drw", "temperature")
    logits = record["corrected_logits"].sel(variant="drw", seed=0).values
    for i, fold in enumerate(record["fold_of"].sel(seed=0).values):
        scaled = np.exp(logits[i] / float(record["temperature"].sel(variant="drw", seed=0)[fold]))
        np.testing.assert_allclose(drawn_values[i], scaled / scaled.sum(), rtol=1e-12)
