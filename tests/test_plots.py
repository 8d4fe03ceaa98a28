"""Figures show the Dataset's own numbers, in the agreed colours, and files come out the same each time."""

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors as mcolors
import numpy as np
import pytest
from matplotlib.figure import Figure

import ssm
from ssm import plotting, sweep_plots

OWN = {
    # kept or not as in other tests of the same shape
    "geometry": {"geometry": True, "save_state": True},
    "held_out": {"held_out": True, "coupling": 0.5},
}
"""What a kind needs of a run."""
GRID = {"imbalance_ratio": [1, 3], "weight_exponent": [0, 0.5, 1], "seed": range(2)}


@pytest.fixture
def coarse(monkeypatch):
    """Files of few pixels, where what is drawn does not depend on it."""
    monkeypatch.setitem(plotting.STYLE, "savefig.dpi", 30)


@pytest.fixture(scope="module")
def sweep(tiny):
    return ssm.sweep(GRID, tiny(loss="squared"))


@pytest.mark.parametrize("kind", plotting.KINDS)
@pytest.mark.parametrize(
    "profile",
    [
        {},
        pytest.param({"imbalance_ratio": 1.0}, marks=pytest.mark.slow),
        {"profile": "custom", "counts": (3, 3, 3, 3)},
    ],
)
def test_every_kind_draws_every_profile(run, tmp_path, kind, profile):
    profile = profile | {"loss": "squared"} | OWN.get(kind, {})
    figure = plotting.figure(run(**profile), kind)
    (axes,) = figure.axes
    assert axes.get_xlabel() and axes.get_ylabel() and axes.get_legend()
    path = tmp_path / "figure.png"
    plotting.save_figure(figure, path)
    first = path.read_bytes()
    assert len(first) > 5000
    if "imbalance_ratio" not in profile and "counts" not in profile:  # of each kind, once
        plotting.save_figure(plotting.figure(run(**profile), kind), path)
        assert path.read_bytes() == first


def test_blocks_are_drawn_in_their_colours_with_their_numbers(run):
    ds = run(loss="squared")
    axes = Figure().subplots()
    plotting.plot_blocks(ds, axes, components=False)
    drawn = {line.get_label(): line for line in axes.lines}
    for block, color in plotting.COLORS.items():
        line = drawn[block]
        assert mcolors.same_color(line.get_color(), color)
        progress = ds.block_strength.sel(block=block) / ds.block_target.sel(block=block)
        np.testing.assert_array_equal(line.get_ydata(), progress)
        np.testing.assert_array_equal(line.get_xdata(), ds.time)


def hidden(figure):
    """How many points of curves the legend of a figure's axes lies over, in display coordinates."""
    figure.draw_without_rendering()
    (axes,) = figure.axes
    box = axes.get_legend().get_window_extent()
    assert box.y1 <= figure.bbox.y1 and box.x1 <= figure.bbox.x1
    over = 0
    for line in axes.lines:
        path = line.get_transform().transform_path(line.get_path()).interpolated(20).vertices
        x, y = path.T
        over += int(((box.x0 < x) & (x < box.x1) & (box.y0 < y) & (y < box.y1)).sum())
    return over


LONE = {"profile": "custom", "counts": (6, 6, 6, 2)}


@pytest.mark.parametrize("kind", sorted(set(plotting.KINDS) - set(OWN)))
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"loss": "squared"},
        pytest.param({"weight_exponent": 1.0}, marks=pytest.mark.slow),
        LONE,
    ],
)
def test_the_legend_hides_no_curve(run, kind, changes):
    assert hidden(plotting.figure(run(**changes), kind)) == 0


@pytest.mark.parametrize("kind", ["blocks", "classes", "accuracy", "loss", "held_out"])
def test_runs_on_the_same_axes_are_told_apart(run, kind):
    """By label and line style, each in the legend once, above the curves and a title set later."""
    changes = {"loss": "squared"} | OWN.get(kind, {})
    runs = {"ERM": run(**changes), "weighted": run(weight_exponent=1.0, **changes)}
    figure = Figure()
    axes = figure.subplots()
    for label, style in (("ERM", "-"), ("weighted", "--"), ("weighted", "--")):
        plotting.KINDS[kind](runs[label], axes, label=label, linestyle=style)
    axes.set_title("both")
    drawn = axes.get_legend()
    assert drawn is not None
    entries = [text.get_text() for text in drawn.get_texts()]
    assert len(entries) == len(set(entries))
    styles = {line.get_label(): line.get_linestyle() for line in axes.lines}
    for group in ("majority", "minority"):
        assert {f"{group}, ERM", f"{group}, weighted"} <= set(entries)
        assert (styles[f"{group}, ERM"], styles[f"{group}, weighted"]) == ("-", "--")
    assert hidden(figure) == 0
    legend, title = drawn.get_window_extent(), axes.title.get_window_extent()
    assert legend.y0 >= title.y1 >= axes.bbox.y1


def test_a_second_run_is_drawn_whole(run):
    """On logarithmic axes too, where limits are set."""
    early, late = (run(loss="squared", save_spacing="log", t1=t1) for t1 in (40.0, 400.0))
    axes = Figure().subplots()
    for ds in (late, early):
        plotting.plot_blocks(ds, axes)
    assert axes.get_xlim() == (float(early.time[1]), float(late.time[-1]))


def test_the_figures_own_layout_is_kept(run):
    for layout in ("tight", "compressed"):
        figure = Figure(layout=layout)
        before = figure.get_layout_engine()
        plotting.plot_blocks(run(loss="squared"), figure.subplots())
        assert figure.get_layout_engine() is before
    figure = Figure()
    plotting.plot_blocks(run(loss="squared"), figure.add_axes((0.2, 0.2, 0.6, 0.6)))
    assert figure.get_layout_engine() is None


@pytest.mark.parametrize("counts", [(8, 8, 8, 2), (8, 2, 2, 2)])
def test_a_class_alone_in_its_group_is_drawn_by_its_strength(run, counts):
    ds = run(loss="squared", profile="custom", counts=counts)
    (axes,) = plotting.figure(ds, "blocks").axes
    drawn = {line.get_label(): line for line in axes.lines}
    group, c = ("minority", 3) if counts[1] == 8 else ("majority", 0)
    line = drawn[f"{group} (class strength)"]
    assert mcolors.same_color(line.get_color(), plotting.COLORS[group])
    np.testing.assert_array_equal(line.get_ydata(), ds.class_strength[:, c])
    assert group not in drawn and len({"majority", "minority"} & set(drawn)) == 1


def test_the_axis_says_what_the_target_of_cross_entropy_is(run, rng):
    tracked = ssm.track(rng.normal(size=(3, 6, 3)), [0, 0, 0, 1, 1, 2])
    for ds, goes_on in ((run(), True), (run(loss="squared"), False), (tracked, False)):
        for kind, label in (("blocks", "strength / target"), ("classes", "class strength")):
            said = plotting.figure(ds, kind).axes[0].get_ylabel()
            expected = f"{label.replace('target', 'squared-loss target')}\n(cross-entropy goes on"
            assert said.startswith(expected) if goes_on else said == label


def test_tracked_logits_have_no_loss_to_draw(rng):
    ds = ssm.track(rng.normal(size=(3, 6, 3)), [0, 0, 0, 1, 1, 2])
    with pytest.raises(ssm.InputError, match="kind='loss'"):
        plotting.figure(ds, "loss")
    with pytest.raises(ssm.InputError, match="kind='pie': must be one of blocks"):
        plotting.figure(ds, "pie")
    for kind in OWN:
        with pytest.raises(ssm.InputError, match=f"kind='{kind}'"):
            plotting.figure(ds, kind)
    for kind in set(plotting.KINDS) - {"loss", *OWN}:
        plotting.figure(ds, kind)


def test_a_failed_run_can_be_drawn(run, tmp_path):
    for kind in set(plotting.KINDS) - {"geometry"}:
        failed = run(max_steps=20, loss="squared", **OWN.get(kind, {}))
        assert failed.status == "out of steps"
        plotting.save_figure(plotting.figure(failed, kind), tmp_path / f"{kind}.png")


def test_held_out_accuracy_is_drawn_with_its_best_mean(run):
    ds = run(loss="squared", **OWN["held_out"])
    (axes,) = plotting.figure(ds, "held_out").axes
    drawn = {str(line.get_label()): line for line in axes.lines}
    for group, classes in (("majority", slice(0, 2)), ("minority", slice(2, 4))):
        assert mcolors.same_color(drawn[group].get_color(), plotting.COLORS[group])
        mean = ds.held_out_accuracy[:, classes].mean("class")
        np.testing.assert_allclose(np.asarray(drawn[group].get_ydata()), mean)
    balanced = ds.held_out_accuracy.mean("class")
    place = int(balanced.values.argmax())
    (marked,) = (line for label, line in drawn.items() if str(label).startswith("best "))
    assert marked.get_ydata() == [balanced[place]] and marked.get_xdata() == [ds.time[place]]
    assert hidden(plotting.figure(ds, "held_out")) == 0


@pytest.mark.slow
def test_a_terminal_run_is_drawn_over_its_margin(run, tmp_path):
    """Every kind draws a run that ended before its time, at a loss of 0."""
    changes = {"init": "collapsed", "save_state": True, "rtol": 1e-4}
    ds = run(clock="loss", stop_margin=1e5, geometry=True, **changes)
    for kind in set(plotting.KINDS) - {"held_out"}:
        plotting.save_figure(plotting.figure(ds, kind), tmp_path / f"{kind}.png")
    (axes,) = plotting.figure(ds, "geometry").axes
    drawn = [line for line in axes.lines if np.size(line.get_xdata())]
    np.testing.assert_array_equal(drawn[0].get_xdata(), ds["margin"])
    np.testing.assert_array_equal(drawn[0].get_ydata(), ds["seli_distance"].sel(part="W"))


@pytest.mark.parametrize(
    ("grid", "changes"),
    [
        (GRID, {"loss": "squared"}),
        pytest.param(  # one length of run
            {"weight_exponent": [0, 1], "seed": [0, 1]}, {}, marks=pytest.mark.slow
        ),
        pytest.param(  # very different ones
            {"imbalance_ratio": [1, 200], "seed": [0]}, {"loss": "squared"}, marks=pytest.mark.slow
        ),
        ({"num_saves": [3, 50], "seed": [0]}, {"loss": "squared"}),  # missing times
        ({"num_classes": [2, 4], "seed": [0]}, {"loss": "squared"}),  # empty blocks
        ({"weight_exponent": [0, 1], "seed": [0]}, {"save_spacing": "log"}),
        ({"max_steps": [3, 100], "seed": [0]}, {"loss": "squared"}),  # failed runs
    ],
)
def test_every_sweep_kind_draws_every_sweep(tiny, coarse, tmp_path, grid, changes):
    ds = ssm.sweep(grid, tiny(**changes))
    for kind in sweep_plots.KINDS:
        figure = plotting.figure(ds, kind)  # the same bytes each time: the next test
        for axes in figure.axes:
            assert axes.get_xlabel() or axes.get_ylabel(), kind
        plotting.save_figure(figure, tmp_path / f"{kind}.png")


def test_a_stored_sweep_is_drawn_like_one_in_memory(sweep, tiny, coarse, tmp_path):
    stored = ssm.sweep(GRID, tiny(loss="squared"), store=tmp_path / "sweep.zarr")
    for kind in sweep_plots.KINDS:
        for name, ds in (("memory", sweep), ("store", stored)):
            plotting.save_figure(plotting.figure(ds, kind), tmp_path / f"{kind}-{name}.png")
        first, second = (tmp_path / f"{kind}-{name}.png" for name in ("memory", "store"))
        assert first.read_bytes() == second.read_bytes()


def test_a_heat_map_shows_the_geometric_mean_over_all_other_axes(sweep):
    cells, bar = plotting.figure(sweep, "heatmap").axes
    times = sweep["block_learning_time"].sel(block=["minority", "majority"]).values
    ratio = times[..., 0] / times[..., 1]
    expected = np.sqrt(ratio[:, :, 0] * ratio[:, :, 1]).T
    image: Any = cells.collections[0]
    assert len(cells.collections) == 1
    np.testing.assert_allclose(image.get_array(), expected, rtol=1e-12)
    assert image.norm.vmin * image.norm.vmax == pytest.approx(1)
    assert (cells.get_xlabel(), cells.get_ylabel()) == ("imbalance ratio", "weight exponent")
    assert [tick.get_text() for tick in cells.get_yticklabels()] == ["0", "0.5", "1"]
    assert "minority / majority" in bar.get_ylabel()
    swapped = plotting.figure(sweep, "heatmap", ("weight_exponent", "imbalance_ratio")).axes[0]
    image = swapped.collections[0]
    np.testing.assert_allclose(image.get_array(), expected.T, rtol=1e-12)


def test_a_heat_map_in_other_colours(sweep):
    for cmap in ("viridis", matplotlib.colormaps["magma"]):
        drawing = Figure()
        sweep_plots.plot_heatmap(sweep, drawing, ("imbalance_ratio", "seed"), cmap=cmap)
        (image,) = drawing.axes[0].collections
        assert image.get_cmap() == matplotlib.colormaps["viridis" if cmap == "viridis" else "magma"]
    with pytest.raises(ssm.InputError, match="cmap='pink elephants': must be a colour map, or"):
        sweep_plots.plot_heatmap(
            sweep, Figure(), ("imbalance_ratio", "seed"), cmap="pink elephants"
        )


def test_the_ratio_of_learning_times_says_what_it_is(sweep):
    ratio = sweep_plots.ratio_of_learning_times(sweep)
    assert ratio.name == "ratio_of_learning_times"
    assert ratio.attrs == {"long_name": "minority / majority learning time", "units": "1"}


def test_cells_whose_runs_all_lack_a_value_are_marked(sweep):
    holed = sweep.copy(deep=True)
    holed["block_learning_time"][{"imbalance_ratio": 1, "weight_exponent": 2}] = np.nan
    holed["block_learning_time"][{"imbalance_ratio": 0, "weight_exponent": 0, "seed": 0}] = np.nan
    cells = plotting.figure(holed, "heatmap").axes[0]
    (crosses,) = cells.lines
    np.testing.assert_array_equal(crosses.get_xydata(), [[1.5, 2.5]])
    values: Any = cells.collections[0].get_array()
    assert values.mask.sum() == 1
    alone = sweep.isel(imbalance_ratio=0, weight_exponent=0, seed=1)["block_learning_time"]
    assert values[0, 0] == pytest.approx(
        float(alone.sel(block="minority") / alone.sel(block="majority"))
    )


def test_curves_are_medians_within_their_range(sweep):
    weights = sweep.sel(imbalance_ratio=3)
    panels = plotting.figure(weights, "curves").axes
    for axes, block in zip(panels, ("majority", "minority"), strict=True):
        here = weights.sel(block=block)
        share = (here["block_strength"] / here["block_target"]).values  # (exponent, seed, time)
        lines = [line for line in axes.lines if np.size(line.get_xdata()) > 2]
        assert len(lines) == len(axes.collections) == 3
        for line, own, times in zip(lines, share, weights["flow_time"].values, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), times)
            np.testing.assert_allclose(
                np.array(line.get_ydata()), np.median(own, axis=0), rtol=1e-12
            )
        assert mcolors.same_color(lines[1].get_color(), plotting.COLORS[block])
        lightness = [sum(mcolors.to_rgb(line.get_color())) for line in lines]
        assert lightness == sorted(lightness, reverse=True)


def test_curves_of_a_class_alone_in_its_group(tiny):
    """Its strength stands in for a block that it does not have."""
    grid = {"minority_fraction": [0.25, 0.5], "seed": [0]}
    swept = ssm.sweep(grid, tiny(loss="squared"))
    majority, minority = plotting.figure(swept, "curves", ["minority_fraction"]).axes
    assert majority.get_title() == "majority block"
    assert minority.get_title() == "minority block (or class strength)"
    alone, both = (line for line in minority.lines if np.size(line.get_xdata()) > 2)
    first, second = (swept.isel(minority_fraction=i, seed=0) for i in (0, 1))
    np.testing.assert_allclose(
        np.array(alone.get_ydata()), first["class_strength"][:, 3], rtol=1e-12
    )
    share = (second["block_strength"] / second["block_target"]).sel(block="minority")
    np.testing.assert_allclose(np.array(both.get_ydata()), share, rtol=1e-12)
    (only,) = plotting.figure(swept.isel(minority_fraction=[0]), "curves").axes[1:]
    assert only.get_title() == "minority (class strength)"


def test_what_is_not_drawn_says_why(tiny):
    def words(axes):
        return [" ".join(text.get_text().split()) for text in axes.texts]

    equal = ssm.sweep({"seed": [0, 1]}, tiny(loss="squared", profile="custom", counts=(3, 3, 3, 3)))
    assert words(plotting.figure(equal, "curves").axes[1]) == ["no class is a minority"]
    grid = {"imbalance_ratio": [2, 4], "seed": [0, 1]}
    lone = ssm.sweep(grid, tiny(loss="squared", minority_fraction=0.25))
    said = "the minority is one class, which has no contrasts within its group"
    assert words(plotting.figure(lone, "heatmap").axes[0]) == [said]
    early = ssm.sweep(grid, tiny(loss="squared", t1=1.0))
    assert words(plotting.figure(early, "heatmap").axes[0]) == ["no run has learned it"]


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_curves_say_what_the_target_is(tiny, loss):
    swept = ssm.sweep({"seed": [0, 1]}, tiny(loss=loss))
    label = plotting.figure(swept, "curves").axes[0].get_ylabel()
    assert ("squared-loss target" in label) == (loss != "squared")
    both = ssm.sweep({"loss": ["squared", "cross_entropy"], "seed": [0]}, tiny())
    assert sweep_plots.passes_targets(both)
    assert sweep_plots.passes_targets(both.sel(loss_name=loss)) == (loss != "squared")


def test_other_axes_of_curves_stand_at_their_first_value(sweep):
    drawn = plotting.figure(sweep, "curves", ["imbalance_ratio"])
    assert drawn.get_suptitle() == "weight exponent = 0.0"
    alone = plotting.figure(sweep.isel(weight_exponent=0), "curves", ["imbalance_ratio"])
    for axes, own in zip(drawn.axes, alone.axes, strict=True):
        for line, other in zip(axes.lines, own.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())


@pytest.mark.parametrize(
    ("kind", "axes", "message"),
    [
        ("blocks", (), "kind='blocks': must be one of heatmap, curves, scatter: this is a sweep"),
        ("pie", (), "kind='pie': must be one of blocks, .* heatmap, curves, scatter"),
        ("heatmap", ("seed",), "must be 2 of the sweep's numeric axes, here imbalance_ratio"),
        ("heatmap", ("seed", "seed"), "axes=.'seed', 'seed'.: must be 2 of"),
        ("heatmap", ("seed", "width"), "axes=.'seed', 'width'.: must be 2 of"),
        ("curves", ("seed", "weight_exponent"), "must be 1 of the sweep's numeric axes"),
        ("curves", "seed", "axes='seed': must be 1 of"),
    ],
)
def test_what_a_sweep_cannot_be_drawn_as(sweep, kind, axes, message):
    with pytest.raises(ssm.InputError, match=message):
        plotting.figure(sweep, kind, axes)


@pytest.fixture(scope="module")
def points(tiny):
    """The third of them is not learned by its minority."""
    pairs = [(4.0, 0.0), (8.0, 1.0), (400.0, 0.0)]
    grid = {"imbalance_ratio, weight_exponent": pairs, "seed": [0, 1]}
    return ssm.sweep(grid, tiny(loss="squared", t1=200.0))


def test_points_are_drawn_as_dots_in_the_colour_of_their_ratio(points):
    assert sweep_plots.kinds(points)[0] == "scatter"
    cells, bar = plotting.figure(points, "scatter").axes
    dots: Any = cells.collections[0]
    times = points["block_learning_time"].sel(block=["minority", "majority"]).values
    ratio = np.sqrt(np.prod(times[..., 0] / times[..., 1], axis=1))
    assert np.isfinite(ratio[:2]).all() and np.isnan(ratio[2])
    np.testing.assert_allclose(dots.get_offsets(), [(4, 0), (8, 1)], rtol=1e-15)
    np.testing.assert_allclose(dots.get_array(), ratio[:2], rtol=1e-12)
    (crosses,) = cells.lines
    np.testing.assert_array_equal(crosses.get_xydata(), [(400, 0)])
    assert (cells.get_xlabel(), cells.get_ylabel()) == ("imbalance ratio", "weight exponent")
    assert (cells.get_xscale(), cells.get_yscale()) == ("log", "linear")
    assert "minority / majority" in bar.get_ylabel()

    (axes,) = plotting.figure(points, "scatter", ["weight_exponent"]).axes
    dots = axes.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), [(0, ratio[0]), (1, ratio[1])], rtol=1e-12)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0])
    dots = plotting.figure(points, "scatter", ["imbalance_ratio", "seed"]).axes[0].collections[0]
    assert len(dots.get_offsets()) == 4  # a dot for each seed of two points


def test_a_scale_is_that_of_the_range_that_points_were_drawn_from(rng):
    """Numbers in (0, 1) may lie as close to 0 as they like without a logarithmic scale."""
    unit = rng.random(64)
    assert unit.max() > 10 * unit.min()
    assert not sweep_plots._are_spread_by_factors(unit)
    assert sweep_plots._are_spread_by_factors(1000**unit)
    assert not sweep_plots._are_spread_by_factors(1000**unit - 1.5)
    assert not sweep_plots._are_spread_by_factors(2**unit)


@pytest.mark.parametrize("kind", ["heatmap", "curves"])
def test_of_points_alone_it_is_said_which_kind_draws_them(points, kind):
    one = points.isel(seed=0, drop=True)
    said = rf"numeric axes, here none \(kind={kind}; points are drawn by kind=scatter\)$"
    with pytest.raises(ssm.InputError, match=said):
        plotting.figure(one, kind)
    with pytest.raises(
        ssm.InputError, match=r"must be 1 or 2 of .* here imbalance_ratio, weight_ex"
    ):
        plotting.figure(one, "scatter", ["point"])


def test_what_a_run_and_words_cannot_be_drawn_as(run, tiny):
    for kind in sweep_plots.KINDS:
        with pytest.raises(ssm.InputError, match=f"kind='{kind}': must be one of blocks"):
            plotting.figure(run(loss="squared"), kind)
    with pytest.raises(ssm.InputError, match=r"axes=.'seed',.: must be left out"):
        plotting.figure(run(loss="squared"), "blocks", ("seed",))
    words = ssm.sweep({"loss": ["squared"], "seed": [0, 1]}, tiny())
    with pytest.raises(ssm.InputError, match=r"must be 1 of .* here seed"):
        plotting.figure(words, "curves", ("loss_name",))
    with pytest.raises(ssm.InputError, match=r"axes=.'seed',.: must be 2 of .* here seed"):
        plotting.figure(words, "heatmap")


@pytest.mark.parametrize("suffix", plotting.SUFFIXES)
def test_a_file_holds_no_date_and_is_the_same_each_time(tmp_path: Path, suffix: str):
    def saved(name: str) -> bytes:
        with plotting.style():
            figure = Figure(figsize=(plotting.PAGE_WIDTH, 2))
            axes = figure.subplots()
            axes.plot([1, 2], label="drawn")
            axes.fill_between([0, 1], [1, 2], alpha=0.2)  # of which an SVG makes a part with a name
            axes.legend()
        plotting.save_figure(figure, tmp_path / f"{name}{suffix}")
        return (tmp_path / f"{name}{suffix}").read_bytes()

    assert saved("one") == saved("other")
    assert b"CreationDate" not in saved("one") and b"dc:date" not in saved("one")


def test_the_style_is_for_print():
    """Pages of 5.5 inches, as wide as the text of a paper, with labels of 8 points."""
    assert plotting.PAGE_WIDTH == 5.5
    with plotting.style():
        figure = Figure(figsize=(plotting.PAGE_WIDTH, 2))
        axes = figure.subplots()
        sizes = {text.get_fontsize() for text in (axes.title, axes.xaxis.label, axes.yaxis.label)}
        sizes |= {figure.supxlabel("all").get_fontsize(), figure.suptitle("all").get_fontsize()}
    assert sizes == {8.0}
    small = {tick.get_fontsize() for tick in axes.get_xticklabels()}
    assert small == {7.0}
