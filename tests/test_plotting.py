"""Figures show the Dataset's own numbers, in the agreed colours, and files come out the same each time."""

import matplotlib.colors as mcolors
import numpy as np
import pytest
from matplotlib.figure import Figure

import ssm
from ssm import plotting


@pytest.mark.parametrize("kind", plotting.KINDS)
@pytest.mark.parametrize(
    "profile", [{}, {"imbalance_ratio": 1.0}, {"profile": "custom", "counts": (3, 3, 3, 3)}]
)
def test_every_kind_draws_every_profile(run, tmp_path, kind, profile):
    figure = plotting.figure(run(loss="squared", **profile), kind)
    (axes,) = figure.axes
    assert axes.get_xlabel() and axes.get_ylabel() and axes.get_legend()
    path = tmp_path / "figure.png"
    plotting.save_figure(figure, path)
    first = path.read_bytes()
    plotting.save_figure(plotting.figure(run(loss="squared", **profile), kind), path)
    assert path.read_bytes() == first and len(first) > 5000


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


def test_tracked_logits_have_no_loss_to_draw(rng):
    ds = ssm.track(rng.normal(size=(3, 6, 3)), [0, 0, 0, 1, 1, 2])
    with pytest.raises(ssm.InputError, match="kind='loss'"):
        plotting.figure(ds, "loss")
    with pytest.raises(ssm.InputError, match="kind='pie': must be one of blocks"):
        plotting.figure(ds, "pie")
    for kind in set(plotting.KINDS) - {"loss"}:
        plotting.figure(ds, kind)


def test_a_failed_run_can_be_drawn(run, tmp_path):
    for kind in plotting.KINDS:
        plotting.save_figure(plotting.figure(run(max_steps=20), kind), tmp_path / f"{kind}.png")
