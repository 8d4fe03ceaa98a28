"""The page of a log of a network shows the log's own numbers, and only panels of which something is known."""

from typing import Any

import matplotlib.colors as mcolors
import numpy as np
import pytest

import ssm
from ssm import plotting

CALM: dict[str, Any] = {"on_alarm": lambda alarm: None}


def logged(rng, counts, *, features=True, classifier=True, gap=False, times=4):
    """A log of random features that come apart by class, without a network."""
    labels, k = np.repeat(np.arange(len(counts)), counts), len(counts)
    centres, tracker = rng.normal(size=(k, 6)), ssm.Tracker(labels, **CALM)
    for step in range(times):
        H = step * centres[labels] + rng.normal(size=(len(labels), 6))
        logits = H @ centres.T
        if gap and step == 2:
            logits[0, 0] = np.nan
        tracker.add(step, logits, H if features else None, centres if classifier else None)
    return tracker.dataset()


@pytest.mark.parametrize(
    ("counts", "given", "number"),
    [
        ((9, 9, 3, 3), {}, 6),
        ((9, 3), {}, 6),
        pytest.param((9, 9, 9, 3), {}, 6, marks=pytest.mark.slow),
        ((9, 9, 3, 1), {}, 5),  # a class of one sample has no coupling
        ((9, 9, 3, 3), {"features": False}, 4),
        ((9, 9, 3, 3), {"features": False, "classifier": False}, 3),
        ((9, 9, 3, 3), {"times": 1}, 6),
    ],
)
def test_panels_are_those_of_which_something_is_known(rng, counts, given, number):
    ds = logged(rng, counts, **given)
    figure = plotting.figure(ds, "network")
    panels = [axes for axes in figure.axes if axes.get_ylabel()]
    assert len(panels) == len(figure.axes) == number
    assert figure.get_figwidth() == plotting.PAGE_WIDTH
    assert figure.get_supxlabel() == "step"
    suits = plotting.kinds(ds)
    assert "network" in suits and (suits[0] == "network") == (number > 3)


def test_lines_are_the_numbers_of_the_log_and_break_at_gaps(rng):
    ds = logged(rng, (9, 9, 3, 3), gap=True)
    accuracy, strengths, *_ = plotting.figure(ds, "network").axes
    for group, classes in (("majority", [0, 1]), ("minority", [2, 3])):
        color = plotting.COLORS[group]
        mine = [line for line in accuracy.lines if mcolors.same_color(line.get_color(), color)]
        mean = ds.class_accuracy[:, classes].mean("class", skipna=False)
        np.testing.assert_allclose(np.asarray(mine[-1].get_ydata(), float), mean)
    assert np.isnan(np.asarray(strengths.lines[0].get_ydata(), float)).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_g_is_that_of_contrasts_or_of_the_margins_of_two_classes(rng):
    """2 g* - 1 of two classes, and none where a class of three or more is alone in its group."""
    for counts, named in (((9, 9, 3, 3), "g^*"), ((9, 3), "margins"), ((9, 9, 9, 3), "")):
        ds = logged(rng, counts)
        lines = {str(x.get_label()): x for x in plotting.figure(ds, "network").axes[-1].lines}
        found = [line for label, line in lines.items() if label.startswith("balancing")]
        assert len(found) == bool(named)
        if found:
            (label,) = (label for label in lines if label.startswith("balancing"))
            c, n = ds.coupling.values, (max(counts), min(counts))
            kappa = [1 + c * (size - 1) for size in n]
            margins = np.log(kappa[0] / kappa[1]) / np.log(n[0] / n[1])
            wanted = margins if named == "margins" else (1 + margins) / 2
            assert named in label
            np.testing.assert_allclose(np.asarray(found[0].get_ydata(), float), wanted, rtol=1e-9)


def test_collapse_is_drawn_where_it_says_anything(rng):
    """The centred means of two classes are opposite, so that NC2 of their features is 0 but for rounding."""
    for counts in ((9, 9, 3, 3), (9, 3)):
        ds = logged(rng, counts)
        (panel,) = (
            x for x in plotting.figure(ds, "network").axes if x.get_ylabel() == "neural collapse"
        )
        lines = {str(x.get_label()): np.asarray(x.get_ydata(), float) for x in panel.lines}
        np.testing.assert_array_equal(lines["NC4"], ds.nc4)
        assert ("NC2, $H$" in lines) == (len(counts) > 2)
        np.testing.assert_array_equal(lines["NC2, $W$"], ds.nc2_distance.sel(factor="W"))
    assert np.abs(ds.nc2_distance.sel(factor="H")).max() < 1e-14


def test_a_run_of_the_model_has_no_such_page(run):
    with pytest.raises(ssm.InputError, match=r"kind='network'.*run of the model"):
        plotting.figure(run(), "network")


def test_a_lone_minority_raises_no_warning(rng, recwarn):
    logged(rng, (9, 9, 9, 3))
    assert not list(recwarn)
