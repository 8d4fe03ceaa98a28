"""`ssm.Tracker`: networks followed in a loop, held against logs as a whole, runs of the model and loops by hand."""

import os
import signal
import subprocess
import sys
import tracemalloc
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import ssm
from ssm import collapse, spectral
from ssm.measures.sample_sums import ROWS
from ssm.practice import kernels
from ssm.problem import make_problem
from ssm.results import datasets, journals
from ssm.theory import growth
from ssm.tracking.alarms import Alarm, TrackerWarning
from ssm.tracking.batches import BLOCK

COUNTS = (12, 12, 4, 3)
LABELS = np.repeat(np.arange(4), COUNTS)
CALM: dict[str, Any] = {"on_alarm": lambda alarm: None}


def states(rng, times=3, d=6):
    """Features, classifiers and logits of some steps, coming apart by class."""
    centres = rng.normal(size=(4, d))
    for step in range(times):
        H = step * centres[LABELS] + rng.normal(size=(len(LABELS), d))
        W = centres + 0.3 * rng.normal(size=(4, d))
        yield 10 * step, H @ W.T, H, W


def followed(rng, store=None, labels=LABELS, **given):
    tracker = ssm.Tracker(labels, store, **CALM, **given)
    for step, logits, H, W in states(rng):
        tracker.add(step, logits, H, W, gradient=W)
    return tracker


def test_losses_keep_their_digits_where_labels_are_far_ahead():
    """At margins of 30 to 60, where 1 - p_y is far below the rounding of 1."""
    margins = np.repeat([30.0, 40.0, 50.0, 60.0], COUNTS)
    logits = 100 + np.eye(4)[LABELS] * margins[:, None]
    tracker = ssm.Tracker(LABELS, **CALM)
    tracker.add(0, logits)
    found = tracker.dataset().isel(time=0)
    small = 3 * np.exp(-np.array([30.0, 40.0, 50.0, 60.0]))  # log(1 + 3 e^-m), to its own square
    np.testing.assert_allclose(found.class_loss, small, rtol=1e-11)
    # The gradient of a sample is 1 - p_y at its label and a third of it at the three others, less their sign.
    norms = np.sqrt(np.array(COUNTS) * (4 / 3)) * small
    np.testing.assert_allclose(found.gradient_share, norms / norms.sum(), rtol=1e-11)


def test_it_is_track_of_the_whole_log(rng):
    logged = list(states(rng))
    tracker = ssm.Tracker(LABELS, **CALM)
    batched = ssm.Tracker(LABELS.tolist(), **CALM)
    for step, logits, H, W in logged:
        tracker.add(step, logits, H, W)
        with batched.batches(step, classifier=W) as at:
            for rows in np.split(np.arange(len(LABELS)), [7, 8, 30]):
                at.add(logits[rows], H[rows])
    whole = ssm.track([z for _, z, *_ in logged], LABELS, [t for t, *_ in logged])
    found, in_batches = tracker.dataset(), batched.dataset()
    # the same sums, in batches in another order
    xr.testing.assert_allclose(found[list(whole.data_vars)], whole, rtol=1e-12, atol=1e-12)
    for name in found.data_vars:
        scale = np.abs(found[name]).max()
        np.testing.assert_allclose(in_batches[name] / scale, found[name] / scale, atol=1e-12)


def test_a_run_of_the_model_tracked_is_the_run(run, tiny):
    """W and H of a run are a network's, with its losses, gradients, geometry and collapse."""
    settings = {
        "loss": "cross_entropy",
        "save_state": True,
        "geometry": True,
        "weight_exponent": 1.0,
    }
    ds = run(**settings)
    problem = make_problem(tiny(**settings))
    tracker = ssm.Tracker(problem.labels, **CALM)
    for time, W, H in zip(ds.time.values, ds.W.values, ds.H.values, strict=True):
        tracker.add(time, (W @ H).T, H.T, W, weights=problem.class_weights)
    found = tracker.dataset()
    shared = set(found.data_vars) & set(ds.data_vars)
    assert {
        "class_loss",
        "gradient_share",
        "seli_distance",
        "etf_distance",
        "nc1",
        "nc3",
        "nc4",
    } <= shared
    for name in shared - {"learning_time", "class_learning_time", "block_learning_time"}:
        k = found[name].shape[-1]
        ours = ds[name].values[..., :k] if name == "singular_value" else ds[name].values
        # the same sums in another order; of features all but alike in a class NC1 has few digits left
        np.testing.assert_allclose(found[name], ours, rtol=1e-6, atol=1e-9, err_msg=str(name))


def test_collapse_and_coupling_by_their_definitions(rng):
    *_, (_, logits, H, W) = states(rng)
    tracker = ssm.Tracker(LABELS, class_counts=(900, 900, 30, 10), **CALM)
    tracker.add(0, logits, H, W, gradient=W)
    last = tracker.dataset().isel(time=-1)
    loops = by_hand(logits, H, W)
    pooled = {"within": "samples", "between": "samples", "centre": "samples"}
    wanted = loops | {
        "nc1": collapse.nc1(H.T, LABELS),
        "nc1_traces": collapse.nc1(H.T, LABELS, form="traces"),
        "nc1_pooled": collapse.nc1(H.T, LABELS, **pooled),
        "nc1_pooled_traces": collapse.nc1(H.T, LABELS, **pooled, form="traces"),
        "cdnv": collapse.cdnv(H.T, LABELS),
        "coupling": (c := kernels.measured_coupling(H, LABELS).coupling),
        "balancing_exponent": growth.balancing_exponent(900, 10, c),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(last[name], value, rtol=1e-10, err_msg=name)
    share = (W**2).sum(axis=1) / (W**2).sum()
    np.testing.assert_allclose(last["classifier_gradient_share"], share, rtol=1e-12)
    seli = ssm.geometry.seli(np.array((900, 900, 30, 10))).classifier
    gram = W @ W.T
    apart = gram / np.linalg.norm(gram) - seli / np.linalg.norm(seli)
    np.testing.assert_allclose(last["seli_distance"][0], np.linalg.norm(apart), rtol=1e-12)


def by_hand(logits, H, W):
    """NC2 to NC4 and the cosines of the two minority classes, by loops over classes, pairs and samples."""
    k = len(W)
    means = np.array([H[c == LABELS].mean(axis=0) for c in range(k)])
    mismatch = [
        np.mean(
            [
                z.argmax() != np.linalg.norm(means - h, axis=1).argmin()
                for z, h in zip(logits[c == LABELS], H[c == LABELS], strict=True)
            ]
        )
        for c in range(k)
    ]
    centred = means - means.mean(axis=0)

    def cosine(a, b):
        return a @ b / np.sqrt(a @ a * (b @ b))

    pairs = [(a, b) for a in range(k) for b in range(k) if a != b]
    found: dict[str, list] = {"nc2_norms": [], "nc2_angles": [], "nc2_distance": []}
    for vectors in (W, centred):
        norms = np.linalg.norm(vectors, axis=1)
        cosines = np.array([cosine(vectors[a], vectors[b]) for a, b in pairs])
        found["nc2_norms"].append(norms.std() / norms.mean())
        found["nc2_angles"].append(cosines.std())
        found["nc2_distance"].append(np.abs(cosines + 1 / (k - 1)).mean())
    apart = W / np.linalg.norm(W) - centred / np.linalg.norm(centred)
    rows = W - W.mean(axis=0)
    minority = [cosine(rows[2], rows[3]), cosine(centred[2], centred[3])]
    return found | {"nc3": (apart**2).sum(), "nc4": np.mean(mismatch), "minority_cosine": minority}


class Tensor:
    """A tensor that is converted only after it was detached and moved, as PyTorch's are."""

    def __init__(self, values, ready=()):
        self.values, self.ready = values, ready

    def detach(self):
        return Tensor(self.values, (*self.ready, "detach"))

    def cpu(self):
        return Tensor(self.values, (*self.ready, "cpu"))

    def __array__(self, dtype=None, copy=None):
        if self.ready != ("detach", "cpu"):
            raise TypeError("use detach() and cpu() first")
        return np.asarray(self.values, dtype)


class OnlyDlpack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        raise TypeError("no")

    def __dlpack__(self, **given):
        return self.values.__dlpack__(**given)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


@pytest.mark.parametrize("kind", [jnp.asarray, Tensor, OnlyDlpack, np.ndarray.tolist])
def test_arrays_of_other_libraries(kind, rng):
    plain, converted = ssm.Tracker(LABELS, **CALM), ssm.Tracker(kind(LABELS), **CALM)
    for step, *given in states(rng):
        plain.add(step, *given, gradient=given[2])
        converted.add(step, *map(kind, given), gradient=kind(given[2]))
    xr.testing.assert_equal(converted.dataset().drop_attrs(), plain.dataset().drop_attrs())


def test_sixteen_bits(rng):
    logits = rng.normal(size=(31, 4)).astype(np.float32)
    small = jnp.asarray(logits, jnp.bfloat16)
    tracker = ssm.Tracker(LABELS, **CALM)
    tracker.add(0, small)
    wanted = ssm.track(np.asarray(small, np.float32)[None], LABELS)
    np.testing.assert_allclose(tracker.dataset().strength, wanted.strength, rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(list("abcd"))[LABELS], None),
        (np.eye(4)[LABELS], None),
        (LABELS + 7, [7, 8, 9, 10]),
        (LABELS, 4),
        (np.array(list("dcba"))[LABELS].tolist(), list("dcba")),
    ],
)
def test_labels_of_any_form(labels, classes, rng):
    logits = rng.normal(size=(31, 4))
    tracker = ssm.Tracker(labels, classes=classes, **CALM)
    tracker.add(0, logits)
    found = tracker.dataset()
    np.testing.assert_array_equal(
        found.class_accuracy, ssm.track(logits[None], LABELS).class_accuracy
    )
    if found.class_count.size and "class_name" in found.coords:
        names = list("abcd") if classes is None else list(map(str, classes))
        assert found.class_name.values.tolist() == names


def test_a_class_that_the_probe_lacks(rng):
    """What is said of the others is of their own logits; the components are contrasts among them."""
    logits, H, W = rng.normal(size=(31, 5)), rng.normal(size=(31, 6)), rng.normal(size=(5, 6))
    labels = np.array([0, 1, 3, 4])[LABELS]
    tracker = ssm.Tracker(labels, classes=5, class_counts=(80, 80, 40, 8, 8), **CALM)
    tracker.add(0, logits, H, W)
    found = tracker.dataset().isel(time=0)
    present = [0, 1, 3, 4]
    whole = ssm.track(logits[None][:, :, present], LABELS).isel(time=0)
    np.testing.assert_allclose(np.sort(found.strength), np.sort(whole.strength), rtol=1e-12)
    assert np.isnan(found.class_accuracy[2]) and np.isnan(found.class_loss[2])
    hits = [(logits[labels == c].argmax(axis=1) == c).mean() for c in present]
    np.testing.assert_allclose(found.class_accuracy[present], hits)
    np.testing.assert_allclose(found.nc1, collapse.nc1(H.T, LABELS), rtol=1e-10)
    seli = ssm.geometry.seli(np.array((80, 80, 40, 8, 8))).classifier[np.ix_(present, present)]
    gram = (W @ W.T)[np.ix_(present, present)]
    apart = gram / np.linalg.norm(gram) - seli / np.linalg.norm(seli)
    np.testing.assert_allclose(found.seli_distance[0], np.linalg.norm(apart), rtol=1e-12)
    assert np.isclose(np.nansum(found.gradient_share), 1)


def test_held_out_samples_and_weights(rng):
    held, z = rng.integers(0, 4, 50), rng.normal(size=(50, 4))
    tracker = ssm.Tracker(
        LABELS, held_out_labels=held, batch_size=16, class_counts=(90, 90, 9, 9), **CALM
    )
    w = np.array([1.0, 1.0, 10.0, 10.0])
    tracker.add(0, rng.normal(size=(31, 4)), weights=w, held_out_logits=z)
    found = tracker.dataset().isel(time=0)
    chances = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    for c in range(4):
        mine = held == c
        assert found.held_out_accuracy[c] == (z[mine].argmax(axis=1) == c).mean()
        np.testing.assert_allclose(
            found.held_out_loss[c], -np.log(chances[mine, c]).mean(), rtol=1e-12
        )
        mean = z[mine].mean(axis=0)
        np.testing.assert_allclose(
            found.held_out_strength[c], (mean[c] - mean.mean()) / 0.75, rtol=1e-12
        )
    # a batch's minority samples m ~ Bin(16, 1/11), each weighing 10, those of the majority 1: its share of the mean
    # loss over its share of the samples, both by enumeration
    m, chance = np.arange(17), stats.binom.pmf(np.arange(17), 16, 1 / 11)
    minority = chance @ (10 * m / (10 * m + 16 - m)) * 11
    majority = chance @ ((16 - m) / (10 * m + 16 - m)) * 11 / 10
    wanted = [majority, majority, minority, minority]
    np.testing.assert_allclose(found.effective_weight, wanted, rtol=1e-10)
    np.testing.assert_array_equal(found.weight, w)


def test_gaps_are_kept_and_flagged(rng):
    raised: list[Alarm] = []
    tracker = ssm.Tracker(LABELS, on_alarm=raised.append)
    for step, logits, H, W in states(rng, times=4):
        if step == 10:
            logits[3, 1], H[4, 0] = np.nan, np.inf
        tracker.add(step, logits, H, W)
    found = tracker.dataset()
    assert found.not_finite.values.tolist() == [0, 2, 0, 0]
    assert np.isnan(found.strength[1]).all() and np.isnan(found.nc1[1])
    assert np.isfinite(found.strength[[0, 2, 3]]).all() and np.isfinite(found.nc1[[0, 2, 3]]).all()
    assert "not_finite" in [alarm.alarm for alarm in raised]
    assert datasets.reached(found).sizes["time"] == 4


def test_a_store_is_the_log_at_any_time(tmp_path, rng):
    store = tmp_path / "log.zarr"
    logged = list(states(rng, times=4))
    inside = ssm.Tracker(LABELS, **CALM)
    with ssm.Tracker(LABELS, store, **CALM) as tracker:
        for step, logits, H, W in logged[:2]:
            inside.add(step, logits, H, W)
            tracker.add(step, logits, H, W)
            loaded = ssm.load(store)
            xr.testing.assert_equal(loaded, inside.dataset())
        with pytest.raises(ssm.InputError, match="no other tracker is writing"):
            ssm.Tracker(LABELS, store)
    assert not journals.is_journal(store)
    xr.testing.assert_equal(ssm.load(store), inside.dataset())
    xr.testing.assert_equal(tracker.dataset(), inside.dataset())
    for further in logged[2:]:  # a closed log goes on
        step, logits, H, W = further
        inside.add(step, logits, H, W)
        with ssm.Tracker(LABELS, store, **CALM) as tracker:
            tracker.close()
            tracker.add(step, logits, H, W)
    xr.testing.assert_identical(ssm.load(store).drop_attrs(), inside.dataset().drop_attrs())


KILLED = """
import os, signal, sys
import numpy as np, ssm
tracker = ssm.Tracker([0, 1, 1], sys.argv[1], on_alarm=print)
for step in range(5):
    tracker.add(step, step * np.eye(2)[[0, 1, 1]])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_loop_keeps_all_that_was_added(tmp_path):
    store = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    found = ssm.load(store)
    assert found.class_strength.values.tolist() == [[step, step] for step in range(5)]
    with ssm.Tracker([0, 1, 1], store) as tracker:
        with pytest.raises(ssm.InputError, match=r"^step=4.*above 4, the last one"):
            tracker.add(4, np.eye(2)[[0, 1, 1]])
        tracker.rewind(3)
        tracker.add(3, 7 * np.eye(2)[[0, 1, 1]])
    found = ssm.load(store)
    assert found.time.values.tolist() == [0, 1, 2, 3] and found.class_strength[3, 0] == 7


@pytest.mark.parametrize("lost", [1, 5, 11])
def test_a_row_cut_off_is_passed_over_and_damage_is_not(tmp_path, lost, rng):
    store = tmp_path / "log"
    followed(rng, store)  # which is dropped without an end
    file = store / journals.NAME
    content = file.read_bytes()
    file.write_bytes(content[:-lost])
    assert ssm.load(store).sizes["time"] == 2
    ssm.Tracker(LABELS, store).rewind(5)
    assert ssm.load(store).sizes["time"] == 1
    ssm.Tracker(LABELS, store).rewind(0)
    assert ssm.load(store).sizes["time"] == 0
    damaged = bytearray(content)
    damaged[content.index(b"\n") + 40 * lost] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ssm.InputError, match="undamaged"):
        ssm.load(store)
    file.write_bytes(b"{" + content)
    with pytest.raises(ssm.InputError, match=r"^store=.*readable"):
        ssm.load(store)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, rng, monkeypatch):
    tracker = ssm.Tracker(LABELS, tmp_path / "log", **CALM)
    write = os.write
    for number, (step, logits, *_) in enumerate(states(rng)):
        if step == 20:
            monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:9]))
            with pytest.raises(ssm.InputError, match=r"^store=.*a disk that can be written to"):
                tracker.add(step, logits)
            monkeypatch.undo()
        tracker.add(step, logits)
        assert ssm.load(tmp_path / "log").sizes["time"] == number + 1


GOOD = np.zeros((31, 4)) + 0.5
BAD = {
    "labels of one class": ("labels", {"labels": [0, 0]}),
    "labels real": ("labels", {"labels": [0.5, 1]}),
    "labels empty": ("labels", {"labels": []}),
    "labels of two ones": ("labels", {"labels": np.ones((31, 4))}),
    "label unknown": ("labels", {"labels": ["a", "b"], "classes": ["a", "c"]}),
    "a class lacks": ("labels", {"labels": [0, 2]}),
    "classes twice": ("classes", {"classes": [0, 1, 2, 3, 3]}),
    "counts too few": ("class_counts", {"class_counts": [1, 2]}),
    "counts zero": ("class_counts", {"class_counts": [1, 2, 3, 0]}),
    "counts real": ("class_counts", {"class_counts": [1, 2, 3, 0.5]}),
    "batch of none": ("batch_size", {"batch_size": 0}),
    "no function": ("on_alarm", {"on_alarm": "print"}),
    "held-out unknown": ("held_out_labels", {"held_out_labels": [5]}),
    "a store in no folder": ("store", {"store": "/nowhere/at/all", "logits": GOOD}),
    "logits too few": ("logits", {"logits": GOOD[:30]}),
    "logits too many": ("logits", {"logits": GOOD[[*range(31), 0]]}),
    "logits of other classes": ("logits", {"logits": GOOD[:, :3]}),
    "logits of words": ("logits", {"logits": GOOD.astype(str)}),
    "logits ragged": ("logits", {"logits": [[1, 2], [3]]}),
    "logits masked": ("logits", {"logits": np.ma.masked_equal(GOOD, 0.5)}),
    "features too few": ("features", {"features": GOOD[:7]}),
    "classifier of other classes": ("classifier", {"classifier": np.ones((3, 4))}),
    "classifier of other features": (
        "classifier",
        {"features": GOOD, "classifier": np.ones((4, 3))},
    ),
    "gradient of other classes": ("gradient", {"gradient": np.ones((3, 4))}),
    "weights negative": ("weights", {"weights": [1, 1, 1, -1]}),
    "weights too few": ("weights", {"weights": [1, 1]}),
    "held-out unasked": ("held_out_logits", {"held_out_logits": GOOD}),
    "step nan": ("step", {"step": np.nan}),
    "step word": ("step", {"step": "1"}),
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_in_one_line(case):
    field, given = BAD[case]
    given = {"labels": LABELS, "step": 0, "logits": GOOD} | given
    made = {name: given.pop(name) for name in list(given) if name in MADE}
    with pytest.raises(ssm.InputError, match=rf"^{field}=.*must be") as caught:
        ssm.Tracker(**made).add(**given)
    assert "\n" not in str(caught.value)


MADE = ("labels", "store", "classes", "class_counts", "batch_size", "on_alarm", "held_out_labels")


def test_steps_go_up_and_what_is_given_stays_the_same(rng, tmp_path):
    tracker = ssm.Tracker(LABELS, **CALM)
    tracker.add(3, GOOD, GOOD)
    for step in (3, 2.5):
        with pytest.raises(ssm.InputError, match=rf"^step={step}.*above 3"):
            tracker.add(step, GOOD, GOOD)
    with pytest.raises(ssm.InputError, match=r"first step; .*nc1.* would come, go or change"):
        tracker.add(4, GOOD)
    with (
        pytest.raises(ssm.InputError, match=r"^features=.*given for all"),
        tracker.batches(5) as at,
    ):
        at.add(GOOD[:5], GOOD[:5])
        at.add(GOOD[5:])
    with pytest.raises(ZeroDivisionError), tracker.batches(6):
        raise ZeroDivisionError
    tracker.add(7, GOOD, GOOD)
    assert tracker.dataset().time.values.tolist() == [3, 7]
    followed(rng, tmp_path / "log").close()
    for other in (LABELS[::-1], np.roll(LABELS, 1)):
        with pytest.raises(ssm.InputError, match=r"^store=.*log of the same probe: its"):
            ssm.Tracker(other, tmp_path / "log")
    with pytest.raises(ssm.InputError, match="to which a step was added"):
        ssm.Tracker(LABELS).dataset()


def test_stores_of_something_else_are_left_alone(tmp_path, run):
    ssm.save(run(), tmp_path / "run.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    for name in ("run.zarr", "folder"):
        with pytest.raises(ssm.InputError, match=r"^store="):
            ssm.Tracker(LABELS, tmp_path / name).add(0, GOOD)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "mine"
    assert ssm.load(tmp_path / "run.zarr").attrs["status"] == "finished"


def test_a_class_that_falls_behind_raises_once(rng):
    labels = np.repeat([0, 1, 2], [400, 400, 100])
    raised: list[Alarm] = []
    tracker = ssm.Tracker(labels, on_alarm=raised.append)
    right = np.eye(3)[labels]
    wrong = right.copy()
    wrong[labels == 2] = [1, 0, 0]
    assert tracker.add(0, np.zeros((900, 3))) == []  # nothing is learned: class 0 has all
    (alarm,) = tracker.add(1, wrong)
    assert (alarm.alarm, alarm.class_index, alarm.value) == ("class_behind", 2, 0.0)
    # half of 1 less three standard errors of a share of 1/2 among 100
    np.testing.assert_allclose(alarm.threshold, 0.5 - 3 * 0.05)
    assert tracker.add(2, wrong) == [] and tracker.add(3, right) == []
    assert [a.step for a in tracker.add(4, wrong)] == [4] and len(raised) == 2
    tracker = ssm.Tracker(labels)
    assert tracker.add(0, wrong) == []  # which may be untrained
    with pytest.warns(TrackerWarning, match="^step 1: class_behind: accuracy of class 2 is 0.00"):
        tracker.add(1, wrong)


def test_minorities_that_collapse_onto_one_another(rng):
    """Features at SELI raise nothing; with one minority in the place of another they do."""
    counts = np.array((100, 100, 4, 4))
    end = ssm.geometry.seli(counts)
    values, vectors = np.linalg.eigh(end.features)
    means = vectors * np.sqrt(values.clip(0))
    values, vectors = np.linalg.eigh(end.classifier)
    labels = np.repeat(np.arange(4), counts)
    tracker = ssm.Tracker(labels, on_alarm=lambda alarm: None)
    assert tracker.add(0, means[labels] @ means.T, means[labels], means) == []
    means[3] = means[2]
    assert "minority_collapse" in [
        a.alarm for a in tracker.add(1, means[labels] @ means.T, means[labels], means)
    ]


def test_scalars_are_means_over_groups(rng):
    tracker = followed(rng, class_counts=(90, 90, 9, 9))
    last, found = tracker.dataset().isel(time=-1), tracker.scalars()
    assert all(isinstance(value, float) for value in found.values())
    np.testing.assert_allclose(found["accuracy/minority"], last.class_accuracy[2:].mean())
    np.testing.assert_allclose(found["loss/all"], last.class_loss.mean())
    np.testing.assert_allclose(found["seli_distance/H"], last.seli_distance.sel(part="H"))
    share = last.strength / last.component_target
    np.testing.assert_allclose(
        found["learned/cross"], share[last.component_block == "cross"].mean()
    )
    assert ssm.Tracker(LABELS).scalars() == {}


@pytest.mark.parametrize("how", ["balanced", "stratified"])
def test_probe_sets(how, rng):
    labels = rng.permutation(np.repeat(list("abcd"), (500, 200, 30, 3)))
    for size in (4, 5, 60, 400, 733):
        chosen = ssm.probe_set(labels, size, how, seed=3)
        assert len(set(chosen)) == size and (np.diff(chosen) > 0).all()
        np.testing.assert_array_equal(chosen, ssm.probe_set(labels.tolist(), size, how, seed=3))
        _, taken = np.unique(labels[chosen], return_counts=True)
        sizes = np.array((500, 200, 30, 3))
        if how == "balanced":  # all that are not taken whole differ by one at most
            partly = taken[taken < sizes]
            assert not partly.size or (np.ptp(partly) <= 1 and partly.max() >= taken.max() - 1)
        elif (
            size > 5
        ):  # within one of its share, where the class that has one at least takes another's
            assert (np.abs(taken - sizes * size / 733) <= 1).all()
    assert not np.array_equal(
        ssm.probe_set(labels, 60, how), ssm.probe_set(labels, 60, how, seed=1)
    )
    with pytest.raises(ssm.InputError, match=r"^size=3: must be an integer in \[4, 733\]"):
        ssm.probe_set(labels, 3, how)


def test_no_warning_where_nothing_is_wrong(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker = ssm.Tracker(LABELS)
        z = np.eye(4)[LABELS]
        tracker.add(0, z, z, np.eye(4))
        assert tuple(tracker.dataset().block.values) == spectral.BLOCKS
        # of classes of equal size none is a minority, so that there is no cosine of two
        equal = np.eye(2)[[0, 0, 1, 1]]
        assert ssm.Tracker([0, 0, 1, 1]).add(0, equal, equal, np.eye(2)) == []


def test_logits_are_copied_a_block_at_a_time(rng):
    """Of 16 MB of logits at once: a block as float64 and what is made of it, some ten times 8 bytes a number, and a few words a sample."""
    n, k = 40_000, 100
    labels, logits = np.arange(n) % k, rng.normal(size=(n, k)).astype(np.float32)
    tracker = ssm.Tracker(labels, held_out_labels=labels, **CALM)
    tracker.add(0, logits, held_out_logits=logits)
    tracemalloc.start()
    try:
        tracker.add(1, logits, held_out_logits=logits)
        assert tracemalloc.get_traced_memory()[1] < 10 * 8 * max(BLOCK, ROWS * k) + 4 * 8 * n
    finally:
        tracemalloc.stop()


def test_features_of_batches_of_other_types_are_kept_to_the_digit(rng):
    """Of the widest type, in the order of the labels; batches may come in one buffer that is used again."""
    *_, (step, logits, H, W) = states(rng)
    H = H.astype(np.float16)
    whole, batched = ssm.Tracker(LABELS, **CALM), ssm.Tracker(LABELS, **CALM)
    whole.add(step, logits, H, W)
    buffer = np.empty((8, 6), np.float64)
    with batched.batches(step, classifier=W) as at:
        for i, rows in enumerate(np.split(np.arange(len(LABELS)), [8, 16, 24])):
            given = buffer[: len(rows)] if i % 2 else H[rows]
            given[:] = H[rows]
            at.add(logits[rows], given)
    found, wanted = batched.dataset(), whole.dataset()
    # sums in another order
    for name in ("nc1", "nc2_distance", "coupling", "seli_distance", "nc4"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12, err_msg=name)
