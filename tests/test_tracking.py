"""`ssm.track`: logits of any network, held against logits built by hand."""

import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ssm
from benchmarks import timing
from ssm import spectral
from ssm.cli import summaries
from ssm.measures.sample_sums import ROWS
from ssm.problem import make_problem
from ssm.tracking import logs as tracking


@pytest.mark.parametrize("counts", [(8, 8, 2, 2), (12, 7, 4, 1), (3, 3), (6, 5, 5, 1, 1, 1)])
def test_known_strengths_come_back(counts, rng):
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    k, times = len(counts), 5
    spectrum = spectral.label_spectrum(counts)
    V = (spectrum.left / spectrum.singular_values)[labels]
    planted = rng.uniform(0.1, 3, size=(times, k - 1))
    logits = np.einsum("kr,tr,nr->tnk", spectrum.left, planted, V)
    ds = ssm.track(logits, labels)
    np.testing.assert_allclose(ds.strength, planted, rtol=1e-12)
    np.testing.assert_allclose(ds.residual, 0, atol=1e-12)
    np.testing.assert_allclose(
        ds.singular_value[:, : k - 1], np.sort(planted, axis=1)[:, ::-1], rtol=1e-12
    )
    for b, block in enumerate(spectral.BLOCKS):
        mine = ds.component_block.values == block
        if mine.any():
            np.testing.assert_allclose(
                ds.block_strength[:, b], planted[:, mine].mean(1), rtol=1e-12
            )


def test_a_run_tracked_is_the_run(run, tiny):
    ds = run(save_state=True)
    logits = np.einsum("tkd,tdn->tnk", ds.W.values, ds.H.values)
    tracked = ssm.track(logits, make_problem(tiny()).labels, ds.time.values)
    for name in set(tracked.data_vars):
        # the same sums in another order; learning times of a run come from more times than were saved
        tolerance = 0.01 if "time" in str(name) else 1e-9
        np.testing.assert_allclose(tracked[name], ds[name], rtol=tolerance, atol=1e-9)
    for name in ("component_target", "block_target"):
        np.testing.assert_allclose(tracked[name], ds[name])
    np.testing.assert_array_equal(tracked.class_group, ds.class_group)


def test_the_order_of_samples_and_the_type_do_not_matter(rng):
    labels = np.array([0, 0, 0, 1, 1, 2])
    logits = rng.normal(size=(3, 6, 3)).astype(np.float32)
    order = rng.permutation(6)
    shuffled = ssm.track(logits[:, order].tolist(), labels[order].tolist())
    xr.testing.assert_allclose(ssm.track(logits, labels), shuffled, rtol=1e-12)


@pytest.mark.parametrize("counts", [(6, 6, 2), (9, 2, 2, 2), (5, 1)])
def test_a_class_alone_in_its_group_is_told_by_itself(counts):
    """Logits on their targets by shares that grow evenly, each class at a pace of its own."""
    k = len(counts)
    labels, pace = np.repeat(np.arange(k), counts), 1.0 + np.arange(k)
    targets = pace[labels, None] * (np.eye(k)[labels] - 1 / k)
    times = np.arange(11) / 10
    ds = ssm.track(times[:, None, None] * targets, labels, times)
    # rounding, of numbers of size 1
    np.testing.assert_allclose(ds.class_learning_time, 0.5 / pace, rtol=1e-12)
    rows = {row[0]: row[1:] for row in summaries.block_table(ds)}
    groups = ds.class_group.values.tolist()
    for group in ("majority", "minority"):
        if groups.count(group) > 1:
            assert group in rows and group not in summaries.facts(ds)
            continue
        c = groups.index(group)
        assert group not in rows and np.isnan(ds.block_learning_time.sel(block=group))
        numbers = f"{pace[c]:.4g}", f"{0.5 / pace[c]:.4g}"
        assert rows[f"{group}, class {c}"] == ["none: one class", "-", *numbers, "-"]
        said = summaries.facts(ds)[group]
        assert said.startswith(f"class {c} alone; one class has no contrasts within its group")


def test_the_documentation_says_what_components_are():
    said = " ".join((ssm.track.__doc__ or "").split())
    assert "contrasts between classes, k - 1 of them; per class see `class_strength`" in said


def test_an_iterator_gives_the_same(rng):
    labels = np.array([0, 0, 0, 1, 1, 2])
    logits = rng.normal(size=(4, 6, 3))
    whole = ssm.track(logits, labels, [0, 1, 5, 9])
    shares: list[float] = []
    streamed = ssm.track((now.tolist() for now in logits), labels, [0, 1, 5, 9], shares.append)
    xr.testing.assert_equal(streamed, whole)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    xr.testing.assert_equal(ssm.track(iter(logits), labels), ssm.track(logits, labels))
    bad: dict[str, tuple] = {
        "logits": (iter([logits[0], logits[1][:5]]), labels, None),
        "logits='0 times'": (iter([]), labels, None),
        "logits='4 times'": (iter(logits), labels, [0, 1, 2, 3, 4]),
        "times='2 of them'": (iter(logits), labels, [0, 1]),
        "times": (iter(logits), labels, [0, 2, 1, 3]),
        "labels": (iter(logits), labels[:4], None),
        "logits='float64 of": (iter(logits[0]), labels, None),
    }
    for said, arguments in bad.items():
        with pytest.raises(ssm.InputError, match=rf"^{said}"):
            ssm.track(*arguments)


GOOD = (np.zeros((2, 4, 3)) + 0.5, np.array([0, 1, 2, 0]))
BAD = {
    "two axes": ("logits", GOOD[0][0], GOOD[1], None),
    "four axes": ("logits", GOOD[0][None], GOOD[1], None),
    "no times": ("logits", GOOD[0][:0], GOOD[1], None),
    "one class": ("logits", GOOD[0][..., :1], GOOD[1] * 0, None),
    "text": ("logits", np.full((2, 4, 3), "x"), GOOD[1], None),
    "complex": ("logits", GOOD[0] * 1j, GOOD[1], None),
    "ragged": ("logits", [[1, 2], [3]], GOOD[1], None),
    "nothing": ("logits", None, GOOD[1], None),
    "nan": ("logits", GOOD[0] * np.array([1, np.nan])[:, None, None], GOOD[1], None),
    "infinite": ("logits", GOOD[0] * np.inf, GOOD[1], None),
    "huge": ("logits", GOOD[0] * 1e160, GOOD[1], None),
    "masked": ("logits", np.ma.masked_greater(GOOD[0], 1), GOOD[1], None),
    "labels too few": ("labels", GOOD[0], GOOD[1][:3], None),
    "labels real": ("labels", GOOD[0], GOOD[1] * 1.0, None),
    "labels one-hot": ("labels", GOOD[0], np.eye(4, 3, dtype=int), None),
    "label too large": ("labels", GOOD[0], np.array([0, 1, 3, 0]), None),
    "label negative": ("labels", GOOD[0], np.array([0, 1, -1, 0]), None),
    "class absent": ("labels", GOOD[0], np.array([0, 1, 1, 0]), None),
    "times too few": ("times", *GOOD, [0.0]),
    "times falling": ("times", *GOOD, [1, 0]),
    "times nan": ("times", *GOOD, [0, np.nan]),
    "times text": ("times", *GOOD, ["a", "b"]),
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_in_one_line(case):
    field, logits, labels, times = BAD[case]
    with pytest.raises(ssm.InputError, match=rf"^{field}=.*must be") as caught:
        ssm.track(logits, labels, times)
    assert "\n" not in str(caught.value)


def test_an_empty_axis_is_named():
    with pytest.raises(ssm.InputError, match=r"shape \(time, n, k\), with no axis empty$"):
        ssm.track(np.zeros((0, 3, 2)), [0, 1, 1])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_arrays_give_a_dataset_or_a_value_error_that_names_the_field(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    kinds = st.sampled_from([np.float64, np.float32, np.int64, np.bool_, np.complex64])
    logits = data.draw(hnp.arrays(data.draw(kinds), shape))
    size = data.draw(st.integers(0, 4)) if len(shape) != 3 else shape[1]
    labels = data.draw(hnp.arrays(np.int64, size, elements=st.integers(-1, 3)))
    try:
        ds = ssm.track(logits, labels)
    except ValueError as error:
        assert isinstance(error, ssm.InputError)
        assert str(error).split("=")[0] in ("logits", "labels") and "\n" not in str(error)
    else:
        assert ds.sizes["time"] == shape[0] and ds.sizes["class"] == shape[2]


def test_npz_files(tmp_path):
    path = tmp_path / "log.npz"
    np.savez(path, logits=GOOD[0], labels=GOOD[1], times=[0, 5])
    logged: dict[str, Any] = tracking.load_logits(path)
    assert ssm.track(**logged).time.values.tolist() == [0, 5]


def test_npz_files_that_are_not_such_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "other.npz", z=GOOD[0])
    np.savez(tmp_path / "more.npz", logits=GOOD[0], labels=GOOD[1], weights=[1])
    np.savez(tmp_path / "pickle.npz", logits=np.array([{}, {}]), labels=GOOD[1])
    np.save(tmp_path / "plain.npy", GOOD[0])
    whole = tmp_path / "whole.npz"
    np.savez(whole, logits=GOOD[0], labels=GOOD[1])
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:-100])
    names = [
        "text.npz",
        "other.npz",
        "more.npz",
        "pickle.npz",
        "plain.npy",
        "cut.npz",
        "missing.npz",
    ]
    for name in names:
        with pytest.raises(ssm.InputError, match=rf"^file='.*{name}'.*must be") as caught:
            tracking.load_logits(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "others",
    [
        {"more": np.zeros(3_000_000)},
        {"logits": np.zeros((3_000_000,))},
        {"labels": np.zeros(3_000_000, int)},
        {"times": np.zeros((3, 1_000_000))},
        {"logits": np.zeros((3, 1_000_000, 1), complex)},
    ],
)
def test_members_that_are_refused_are_not_read(others, tmp_path):
    """Zeros of 24 MB, which are 24 kB in the file."""
    path = tmp_path / "log.npz"
    np.savez_compressed(path, **{"logits": GOOD[0], "labels": GOOD[1], **others})
    assert path.stat().st_size < 1e5
    tracemalloc.start()
    try:
        with pytest.raises(ssm.InputError, match="must be") as caught:
            tracking.load_logits(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6  # what is read at once, and the rest
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_a_member_is_as_long_as_it_says(tmp_path):
    """A header that asks for 8 EB, and a member twice."""
    path, twice = tmp_path / "long.npz", tmp_path / "twice.npz"
    np.savez(path, logits=GOOD[0], labels=GOOD[1])
    with zipfile.ZipFile(path) as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    shape = b"'shape': (2, 4, 3), }" + b" " * 20
    assert shape in members["logits.npy"]
    longer = b"'shape': (2, 400000000000000000, 3), }"
    changed = members["logits.npy"].replace(shape, longer.ljust(len(shape)))
    with zipfile.ZipFile(path, "w") as stored:
        stored.writestr("logits.npy", changed)
        stored.writestr("labels.npy", members["labels.npy"])
    with warnings.catch_warnings(), zipfile.ZipFile(twice, "w") as stored:
        warnings.simplefilter("ignore")  # zipfile says it
        for name in ("logits.npy", "labels.npy", "logits.npy"):
            stored.writestr(name, members[name])
    for file in (path, twice):
        with pytest.raises(ssm.InputError, match=r"^file="):
            tracking.load_logits(file)


def by_hand(logits, labels):
    """Spectral variables by a loop over times and the whole of each in NumPy. Components are those of
    the label matrix; their right vectors (n) and all sums are written out."""
    k = logits.shape[2]
    counts = np.bincount(labels, minlength=k)
    spectrum = spectral.label_spectrum(counts)
    V = (spectrum.left / spectrum.singular_values)[labels]
    found: dict[str, list] = {"strength": [], "class_strength": [], "class_accuracy": []}
    found |= {"singular_value": [], "residual": []}
    for now in logits.astype(float):
        strength = np.array([u @ now.T @ v for u, v in zip(spectrum.left.T, V.T, strict=True)])
        means = [now[labels == c].mean(axis=0) for c in range(k)]
        hits = [(now[labels == c].argmax(axis=1) == c).mean() for c in range(k)]
        found["strength"].append(strength)
        found["class_strength"].append(
            [(mean[c] - mean.mean()) / (1 - 1 / k) for c, mean in enumerate(means)]
        )
        found["class_accuracy"].append(hits)
        found["singular_value"].append(np.linalg.svd(now.T, compute_uv=False))
        energy = (now**2).sum()
        found["residual"].append(1 - (strength**2).sum() / energy if energy else 0.0)
    return {name: np.array(values) for name, values in found.items()}


def log_of(rng, counts, kind):
    """Labels in no order, and logits that come to their targets in noise."""
    k, times = len(counts), np.linspace(0, 1, 6)[:, None, None]
    labels = rng.permutation(np.repeat(np.arange(k), counts))
    noise = rng.normal(size=(6, len(labels), k))
    if kind == "centred":  # as cross-entropy from small starts: one singular value is 0
        noise -= noise.mean(axis=2, keepdims=True)
    elif kind == "rank two":
        noise = noise[:, :, :2] @ rng.normal(size=(2, k))
    elif kind == "tiny":  # all singular values but one are 1e-9 of the largest
        noise = 1e-9 * noise + rng.normal(size=len(labels))[:, None] * rng.normal(size=k)
        return noise, labels
    return 3 * times * (np.eye(k)[labels] - 1 / k) + 0.3 * noise, labels


@pytest.mark.parametrize("kind", ["noise", "centred", "rank two", "tiny"])
@pytest.mark.parametrize("counts", [(700, 350, 60, 3), (40, 40, 5, 5, 5), (1, 1, 1)])
def test_one_pass_in_blocks_is_a_loop_over_whole_times(counts, kind, rng):
    logits, labels = log_of(rng, counts, kind)
    ds, wanted = ssm.track(logits, labels), by_hand(logits, labels)
    largest = wanted["singular_value"][:, :1]
    # sums of up to 1113 numbers rounded to 1e-16, of a size of |Z| at most
    for name in ("strength", "class_strength"):
        np.testing.assert_allclose(
            ds[name] / largest, wanted[name] / largest, rtol=1e-12, atol=1e-14
        )
    np.testing.assert_array_equal(ds.class_accuracy, wanted["class_accuracy"])
    np.testing.assert_allclose(ds.residual, wanted["residual"], rtol=1e-12, atol=1e-14)
    # both are right to a few roundings of the largest
    np.testing.assert_allclose(
        ds.singular_value / largest, wanted["singular_value"] / largest, rtol=0, atol=1e-14
    )
    order = rng.permutation(len(labels))
    permuted = ssm.track(logits[:, order], labels[order])
    for name in ("block_strength", "singular_value", "residual", "class_strength"):
        scale = largest if ds[name].ndim == 2 else 1.0
        np.testing.assert_allclose(permuted[name] / scale, ds[name] / scale, rtol=1e-12, atol=1e-14)
    if kind != "tiny":
        times = np.arange(6.0)
        blocks = spectral.block_means(wanted["strength"], ds.component_block.values)
        learned = spectral.learning_times(times, blocks / ds.block_target.values)
        np.testing.assert_allclose(ds.block_learning_time, learned, rtol=1e-9)


def test_small_types_are_summed_in_float64(rng):
    """A mean that float32 would lose: 2^24 and what is rounded off it."""
    logits = np.full((1, 3000, 2), 2.0**24, dtype=np.float32)
    labels = np.arange(3000) % 2
    logits[0, labels == 0, 0] += 2  # the next float32
    ds = ssm.track(logits, labels)
    np.testing.assert_array_equal(ds.class_strength.values, [[2.0, 0.0]])
    xr.testing.assert_equal(
        ds.drop_attrs(), ssm.track(logits.astype(np.float64), labels).drop_attrs()
    )


class Lazy:
    """An array of which slices can be had, and which notes their sizes."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, []

    def __getitem__(self, ranges):
        self.read.append(self.values[ranges].size)
        return self.values[ranges]


@pytest.mark.parametrize("block", [1, 8 * 2 * ROWS * 3, 8 * 4000 * 3, 2**24])
def test_no_more_than_a_block_is_read_at_a_time_and_each_once(block, rng, monkeypatch):
    monkeypatch.setattr(tracking, "BLOCK", block)
    labels = np.append([0, 1, 2], rng.integers(0, 3, size=2 * ROWS))
    logits = Lazy(rng.normal(size=(5, len(labels), 3)))
    found = ssm.track(logits, labels)
    assert max(logits.read) <= max(block // 8, ROWS * 3) and sum(logits.read) == 5 * 3 * len(labels)
    monkeypatch.undo()
    xr.testing.assert_equal(found, ssm.track(logits.values, labels))


def test_where_the_logits_lie_does_not_matter(tmp_path, rng, monkeypatch):
    labels = np.append([0, 1, 2], rng.integers(0, 3, size=ROWS))
    logits = rng.normal(size=(4, len(labels), 3)).astype(np.float32)
    wanted = ssm.track(logits, labels)
    np.save(tmp_path / "log.npy", logits)
    np.savez(tmp_path / "plain.npz", logits=logits, labels=labels)
    np.savez_compressed(tmp_path / "small.npz", logits=logits, labels=labels)
    np.savez(tmp_path / "turned.npz", logits=np.asfortranarray(logits), labels=labels)
    chunked = zarr.create_array(tmp_path / "log.zarr", data=logits, chunks=(3, 100, 2))
    mapped = np.load(tmp_path / "log.npy", mmap_mode="r")
    private = np.load(tmp_path / "log.npy", mmap_mode="c")
    private[0], logits[0] = 7, 7  # not in the file, and not to be lost with its pages
    changed = ssm.track(logits, labels)
    for block in (2**24, 8 * len(labels) * 3, 1):
        monkeypatch.setattr(tracking, "BLOCK", block)
        for log in (mapped, chunked, xr.DataArray(mapped), mapped.tolist()):
            xr.testing.assert_equal(ssm.track(log, labels), wanted)
        for name in ("plain", "small", "turned"):
            logged = tracking.load_logits(tmp_path / f"{name}.npz")
            xr.testing.assert_equal(ssm.track(**logged), wanted)
        xr.testing.assert_equal(ssm.track(private, labels), changed)
    np.testing.assert_array_equal(private, logits)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e101, -1e101])
def test_bad_logits_are_found_in_any_block(bad, rng):
    logits = rng.normal(size=(3, 2 * ROWS, 2))
    logits[1, -1, 1] = bad
    said = "at most 1e" if np.isfinite(bad) else "not finite at time index 1"
    with pytest.raises(ssm.InputError, match=rf"^logits=.*{said}"):
        ssm.track(logits, np.arange(2 * ROWS) % 2)


def test_masked_values_out_of_memory_are_refused():
    logits = Lazy(np.ma.masked_greater(GOOD[0], 1))
    assert ssm.track(logits, GOOD[1]).sizes["time"] == 2  # nothing is masked
    logits.values[1, 2, 0] = np.ma.masked
    with pytest.raises(ssm.InputError, match=r"^logits='a masked array'"):
        ssm.track(logits, GOOD[1])


def test_a_damaged_file_is_refused_when_it_is_read(tmp_path, rng):
    path = tmp_path / "log.npz"
    np.savez(path, labels=np.arange(900) % 3, logits=rng.normal(size=(2, 900, 3)))
    content = bytearray(path.read_bytes())
    content[-10_000] ^= 1
    path.write_bytes(content)
    logged = tracking.load_logits(path)
    with pytest.raises(ssm.InputError, match=r"^file=.*must be a readable NPZ file"):
        ssm.track(**logged)


MEMORY = """
import sys
import numpy as np
import ssm
from benchmarks.timing import peak_memory
from ssm.tracking import logs as tracking
path = sys.argv[1]
logits = np.load(path, mmap_mode="r") if path.endswith("npy") else tracking.load_logits(path)["logits"]
labels = np.arange(logits.shape[1]) % 100
ssm.track(np.zeros((1, 100, 100)), labels[:100])
before = peak_memory()
ssm.track(logits, labels)
print(peak_memory() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep pages of mapped files")
@pytest.mark.parametrize("name", ["log.npy", "log.npz"])
def test_memory_does_not_grow_with_the_log(name, tmp_path):
    """A log of 400 MB, of zeros that take no space in its file."""
    shape, path = (50, 10_000, 100), tmp_path / name
    if name == "log.npy":
        np.lib.format.open_memmap(path, "w+", np.float64, shape)
    else:
        np.savez_compressed(path, logits=np.zeros(shape), labels=np.arange(shape[1]) % 100)
    command = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=timing.ROOT)
    assert done.returncode == 0, done.stderr
    # the block of 16 MiB that is read and the one before it, and what the factorisation copies
    assert int(done.stdout) < 64 * 2**20
