"""`ssm.compare` draws runs over each other: their own numbers, in the colour of their group and a line of their own."""

from typing import Any

import matplotlib.colors as mcolors
import numpy as np
import pytest

import ssm
from ssm import plotting
from ssm.plots import compare as comparing


@pytest.fixture(scope="module")
def pair(run):
    return run(loss="squared"), run(loss="squared", weight_exponent=1.0)


@pytest.fixture(scope="module")
def tracked(rng_logits):
    logits, labels = rng_logits
    return ssm.track(logits, labels, [0, 5, 10])


@pytest.fixture(scope="module")
def rng_logits():
    labels = np.repeat([0, 1, 2], [6, 5, 2])
    return np.random.default_rng(1).standard_normal((3, len(labels), 3)), labels


def curves(axes, color):
    """What is drawn in a colour, but the line of the targets."""
    lines = [line for line in axes.lines if mcolors.same_color(line.get_color(), color)]
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]


def entries(figure):
    """Of the legend of runs, and of that of groups."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_what_is_drawn_are_the_runs_numbers(pair):
    figure = ssm.compare(*pair)
    blocks, accuracy, loss = figure.axes
    for group, color in plotting.COLORS.items():
        drawn = curves(blocks, color)
        assert len(drawn) == 2
        for (x, y), ds in zip(drawn, pair, strict=True):
            share = ds["block_strength"].sel(block=group) / ds["block_target"].sel(block=group)
            np.testing.assert_array_equal(y, share)
            np.testing.assert_array_equal(x, ds["time"])
    for group in ("majority", "minority"):
        for (_, y), ds in zip(curves(accuracy, plotting.COLORS[group]), pair, strict=True):
            mine = ds["class_group"].values == group
            # the mean of two numbers, in whatever order they are added
            np.testing.assert_allclose(y, ds["class_accuracy"].values[:, mine].mean(1), rtol=1e-15)
    for (_, y), ds in zip(curves(loss, "black"), pair, strict=True):
        np.testing.assert_array_equal(y, ds["loss"])
    assert loss.get_yscale() == "log" and loss.get_xscale() == "linear"
    assert figure.get_supxlabel() == pair[0]["time"].attrs["description"]


def test_runs_are_told_apart_by_their_lines_and_by_what_differs(pair):
    figure = ssm.compare(*pair)
    assert entries(figure) == ["weight_exponent=0.0", "weight_exponent=1.0", *plotting.COLORS]
    for axes in figure.axes:
        styles = {(line.get_linestyle(), line.get_linewidth()) for line in axes.lines}
        assert len(styles - {("-", 0.6)}) == 2  # but the line of the targets
    assert entries(ssm.compare(*pair, labels=["ERM", "weighted"]))[:2] == ["ERM", "weighted"]
    assert entries(ssm.compare(pair[0], pair[0]))[:2] == ["run 1", "run 2"]


def test_the_legend_lies_outside_of_all_axes_and_on_the_page(run, pair):
    long = [run(loss="squared", weight_exponent=g, imbalance_ratio=r) for g, r in ((0, 4), (1, 2))]
    for runs in (pair, long):
        figure = ssm.compare(*runs)
        figure.draw_without_rendering()
        left, right = (legend.get_window_extent() for legend in figure.legends)
        assert 0 <= left.x0 < left.x1 <= right.x0 < right.x1 <= figure.bbox.x1
        for axes in figure.axes:
            extent = axes.get_tightbbox()
            assert extent is not None and extent.y1 <= min(left.y0, right.y0)


def test_logarithmic_times_hold_all_runs(run):
    early, late = (run(loss="squared", save_spacing="log", t1=t1) for t1 in (40.0, 400.0))
    for axes in ssm.compare(late, early).axes:
        assert axes.get_xscale() == "log"
        assert axes.get_xlim() == (float(early.time[1]), float(late.time[-1]))


def test_tracked_logs_and_other_classes(tracked):
    """A log has no loss, and a group of one class the strength of that class in the place of a block."""
    figure = ssm.compare(tracked, tracked, labels=["a", "b"])
    blocks, _ = figure.axes
    assert tracked["class_group"].values.tolist() == ["majority", "majority", "minority"]
    (_, y), _ = curves(blocks, plotting.COLORS["minority"])
    np.testing.assert_array_equal(y, tracked["class_strength"][:, 2])


def test_runs_chosen_out_of_a_sweep(tiny):
    sweep = ssm.sweep({"weight_exponent": [0.0, 1.0]}, tiny(loss="squared"))
    figure = ssm.compare(*(with_times(sweep.isel(weight_exponent=i)) for i in range(2)))
    assert entries(figure)[:2] == ["weight_exponent=0.0", "weight_exponent=1.0"]


def with_times(run):
    """One run of a sweep whose runs differ in length."""
    return run.assign_coords(time=run["flow_time"].values) if "flow_time" in run.coords else run


def test_bad_input_is_refused_in_one_line(pair, run, tracked):
    a, b = pair
    stepped = run(optimizer="gd", num_steps=100)
    bad: Any = (
        ((a,), "runs=1: must be two to 4 of them"),
        ((a, b, a, b, a), "runs=5"),
        ((a, "b"), r"runs\[1\]='str': must be a run"),
        (
            (a, stepped),
            r"runs\[1\]='by training step': must be by the clock of the first, flow time",
        ),
        ((a, tracked), r"runs\[1\]='by time of the logits'"),
    )
    for runs, words in bad:
        with pytest.raises(ssm.InputError, match=words) as caught:
            ssm.compare(*runs)
        assert "\n" not in str(caught.value)
    bad_labels: Any = (["one"], ["one", 2], "ab", 3)
    for labels in bad_labels:
        with pytest.raises(ssm.InputError, match="labels"):
            ssm.compare(a, b, labels=labels)
    swept = a.expand_dims(seed=[0]).assign(status=("seed", ["finished"]))
    with pytest.raises(ssm.InputError, match=r"a single run: choose one along seed"):
        ssm.compare(a, swept)


def test_long_labels_stay_short(run):
    changes = {"loss": "squared", "profile": "custom"}
    counts = ((3, 3, 3, 3), (8, 8, 8, 2))
    labels = comparing._labels([run(**changes, counts=each, seed=each[0]) for each in counts])
    assert labels == ["counts=(3, 3, 3, 3), seed=3", "counts=(8, 8, 8, 2), seed=8"]
