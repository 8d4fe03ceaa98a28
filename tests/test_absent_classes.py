"""Classes of which a probe or the held-out samples have none are left out of means and legends, and that is said."""

from typing import Any

import matplotlib.colors as mcolors
import numpy as np
import pytest
from matplotlib.figure import Figure

import ssm
from ssm import plotting
from ssm.cli import summaries
from ssm.results import balance, classes, datasets

CALM: dict[str, Any] = {"on_alarm": lambda alarm: None}
TRAINING = (90, 90, 9, 9, 9)
TIMES = 4


def logged(rng, lacking=(), held_out_lacking=(), bad=(), names=None):
    """A log of random logits in which the probe and the held-out samples lack some classes of five."""
    watched, held = (
        np.repeat([c for c in range(5) if c not in without], 8)
        for without in (lacking, held_out_lacking)
    )
    names = list(range(5)) if names is None else names
    tracker = ssm.Tracker(
        [names[c] for c in watched],
        classes=names,
        class_counts=TRAINING,
        held_out_labels=[names[c] for c in held],
        **CALM,
    )
    for step in range(TIMES):
        logits = step * np.eye(5)[watched] + rng.normal(size=(len(watched), 5))
        if step in bad:
            logits[0, 0] = np.nan
        of_held = step * np.eye(5)[held] + 2 * rng.normal(size=(len(held), 5))
        tracker.add(step, logits, held_out_logits=of_held)
    return tracker.dataset()


def entries(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes, color):
    mine = [x for x in axes.lines if mcolors.same_color(x.get_color(), color)]
    return [np.asarray(line.get_ydata(), float) for line in mine if len(line.get_ydata())]


def test_accuracy_leaves_them_out_of_means_and_says_so(rng):
    ds = logged(rng, lacking=(1, 3), bad=(2,))
    (axes,) = plotting.figure(ds, "accuracy").axes
    assert entries(axes) == ["majority", "minority"]
    assert axes.get_xlabel().split("\n") == ["step", "no samples of classes 1, 3"]
    accuracy = ds.class_accuracy.values
    for group, members in (("majority", [0]), ("minority", [2, 4])):
        *single, mean = lines(axes, plotting.COLORS[group])
        assert len(single) == len(members)
        wanted = sum(accuracy[:, c] for c in members) / len(members)
        np.testing.assert_allclose(mean, wanted)  # the gap stays one
        assert np.isnan(mean).tolist() == [False, False, True, False]


@pytest.mark.parametrize("kind", ["accuracy", "classes", "blocks"])
def test_a_group_without_samples_is_in_no_legend(rng, kind):
    ds = logged(rng, lacking=(2, 3, 4), held_out_lacking=(2, 3, 4))
    (axes,) = plotting.figure(ds, kind).axes
    assert axes.get_xlabel().split("\n") == ["step", "no samples of classes 2, 3, 4"]
    assert not [entry for entry in entries(axes) if "minority" in entry]
    assert not lines(axes, plotting.COLORS["minority"])


def test_the_only_class_left_in_a_group_is_alone_in_it(rng):
    """Its own strength is drawn and told where contrasts would be."""
    ds = logged(rng, lacking=(2, 4), names=list("abcde"))
    assert np.flatnonzero(datasets.alone(ds, "minority")).tolist() == [3]
    assert not datasets.alone(ds, "majority").any()
    (axes,) = plotting.figure(ds, "blocks").axes
    assert "minority (class strength)" in entries(axes)
    (strength,) = lines(axes, plotting.COLORS["minority"])
    np.testing.assert_array_equal(strength, ds.class_strength[:, 3])
    assert "class d alone" in summaries.facts(ds)["minority"]
    assert ["minority, class d", "none: one class"] in [r[:2] for r in summaries.block_table(ds)]


def test_held_out_means_and_their_best_time_are_of_the_others(rng):
    ds = logged(rng, lacking=(4,), held_out_lacking=(0, 2))
    accuracy = ds.held_out_accuracy.values
    wanted = (accuracy[:, 1] + accuracy[:, 3] + accuracy[:, 4]) / 3
    best = int(wanted.argmax())
    assert datasets.best_held_out(ds) == best
    (axes,) = plotting.figure(ds, "held_out").axes
    said = ["step", "no held-out samples of classes 0, 2", "no samples of class 4"]
    assert axes.get_xlabel().split("\n") == said
    assert f"best {wanted[best]:.3g} at {best:.3g}" in entries(axes)
    np.testing.assert_allclose(lines(axes, plotting.COLORS["cross"])[0], wanted)
    held, trained = lines(axes, plotting.COLORS["minority"])
    np.testing.assert_allclose(held, accuracy[:, [3, 4]].mean(axis=1))
    np.testing.assert_allclose(trained, ds.class_accuracy.values[:, [2, 3]].mean(axis=1))
    said = summaries.facts(ds)
    assert f"recall {wanted[-1]:.3g} (majority" in said["held out"]
    assert said["held out"].endswith("; no held-out samples of classes 0, 2")
    assert (
        said["classes"]
        == "5 with 8 to 8 samples, 32 in all, trained on 90 to 9; no samples of class 4, left out of all means"
    )


def test_nothing_known_has_no_best_time(rng):
    ds = logged(rng, lacking=(4,), bad=range(TIMES))
    (axes,) = plotting.figure(ds, "held_out").axes
    assert not [entry for entry in entries(axes) if "best" in entry or "nan" in entry]
    assert classes.absent(ds, "class_accuracy") == ""


def test_the_page_and_comparisons_say_so_too(rng):
    ds = logged(rng, lacking=(1,), held_out_lacking=(2,), names=list("abcde"))
    page = plotting.figure(ds, "network")
    assert page.get_supxlabel() == "step\nno samples of class b; no held-out samples of class c"
    whole = logged(rng)
    figure = ssm.compare(ds, whole)
    assert figure.get_supxlabel() == "step\nno samples of class b"
    (_, accuracy), wanted = figure.axes, ds.class_accuracy[:, 0]
    np.testing.assert_allclose(lines(accuracy, plotting.COLORS["majority"])[0], wanted)


def test_what_is_said_of_one_run_stays_when_another_is_drawn_over_it(rng):
    axes = Figure().subplots()
    for lacking in ((1,), (4,), (1,), ()):
        plotting.plot_accuracy(logged(rng, lacking=lacking), axes, label="one")
    assert axes.get_xlabel().split("\n") == [
        "step",
        "no samples of class 1",
        "no samples of class 4",
    ]


def test_many_are_counted():
    labels = np.arange(3)
    tracker = ssm.Tracker(labels, classes=10, class_counts=np.arange(1, 11), **CALM)
    tracker.add(0, np.eye(10)[labels])
    assert classes.absent(tracker.dataset(), "class_accuracy") == "no samples of 7 classes"


def test_groups_are_level_by_the_classes_that_are_known(rng):
    """As in a log of the same numbers in which the class without samples is no class at all."""
    ds = logged(rng, lacking=(4,))
    fewer = ds.isel({"class": slice(4)})
    found = balance.time_to_balance(ds, 0.9)
    assert np.isfinite(found) and found == balance.time_to_balance(fewer, 0.9)
    gap = balance.time_to_balance(logged(rng, lacking=(4,), bad=(1,)), 0.9)
    assert np.isfinite(gap)


def test_a_run_of_the_model_lacks_none(run):
    ds = run()
    assert classes.absent(ds, "class_accuracy") == "" and classes.known(ds, "class_accuracy").all()
    np.testing.assert_array_equal(
        classes.mean(ds, "class_accuracy", "minority"), ds.class_accuracy[:, 2:].mean("class")
    )
    assert np.isnan(classes.mean(ds, "class_accuracy", "other")).all()
