"""What a store says of itself is as sure as its values: whatever is changed is found."""

import hashlib
import json
import os
import shutil
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from fuzz_stores import fuzz

import ssm
from ssm.results import digests, stores
from ssm.support import sharing

GRID = {"imbalance_ratio": [2.0, 4.0], "seed": [0, 1, 2]}
CHUNKS = 4


@pytest.fixture(scope="module")
def written(base, run, tmp_path_factory):
    """A folder with a run, a sweep, and a sweep saved whole."""
    folder = tmp_path_factory.mktemp("written")
    ssm.save(run(loss="squared"), folder / "run.zarr")
    ssm.save(ssm.sweep(GRID, base, folder / "sweep.zarr", chunk_size=2), folder / "saved.zarr")
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """The same, to damage."""
    return shutil.copytree(written, tmp_path / "copy")


@pytest.fixture
def ran(runs_by):
    """Seeds of the runs followed in this process."""
    return runs_by(lambda config: config.seed)


def entries(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "cases"),
    [("run", 12), ("tracked", 12), ("saved_sweep", 8), ("sweep", 6)],
)
def test_no_change_of_a_byte_or_a_value_goes_unseen(kind, cases):
    counts, bad = fuzz(kind, cases)
    assert not bad and counts.total() == cases


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "tracked", "saved_sweep", "sweep", "resumed_sweep"])
def test_no_change_of_many_goes_unseen(kind):
    assert not fuzz(kind, 20 if kind == "resumed_sweep" else 80, seed=1)[1]


def edit(store, change, *, everywhere=True):
    """Change the metadata of a store, in the file that is believed and (`everywhere`) in those of
    single arrays too, so that they agree."""
    path = store / digests.METADATA
    document, before = (json.loads(path.read_text()) for _ in range(2))
    change(document["metadata"])
    path.write_text(json.dumps(document))
    for name, entry in document["metadata"].items() if everywhere else ():
        if entry != before["metadata"][name]:
            (store / name).write_text(json.dumps(entry))


# (of which entry, key, value): each reads well, to other numbers, names or types
CHANGES = {
    "type": ("loss/.zarray", "dtype", "<i8"),
    "byte order": ("loss/.zarray", "dtype", ">f8"),
    "order": ("strength/.zarray", "order", "F"),
    "filled": ("loss/.zarray", "fill_value", 0.375),
    "filled counts": ("class_count/.zarray", "fill_value", 8),
    "scale": ("loss/.zattrs", "scale_factor", 2.0),
    "scale of one": ("loss/.zattrs", "scale_factor", 1.0),
    "offset": ("loss/.zattrs", "add_offset", 1.0),
    "missing": ("loss/.zattrs", "missing_value", 0.375),
    "dates": ("loss/.zattrs", "units", "days since 2000-01-01"),
    "durations": ("loss/.zattrs", "units", "seconds"),
    "units": ("loss/.zattrs", "units", "logit"),
    "description": ("loss/.zattrs", "description", "loss"),
    "another attribute": ("loss/.zattrs", "note", ""),
    "dimension": ("class_loss/.zattrs", "_ARRAY_DIMENSIONS", ["time", "mode"]),
    "dimensions swapped": ("strength/.zattrs", "_ARRAY_DIMENSIONS", ["component", "time"]),
    "shape": ("learning_time/.zarray", "shape", [10**15]),
    "chunks": ("loss/.zarray", "chunks", [25]),
    "text for numbers": ("loss/.zarray", "dtype", "<U2"),
}


@pytest.fixture(scope="module")
def spare(written, tmp_path_factory):
    """A copy whose metadata alone are changed, and put back by `edited`."""
    return shutil.copytree(written, tmp_path_factory.mktemp("spare") / "copy")


@pytest.fixture
def edited(written, spare):
    """Change one entry of a store in `spare`, as `edit` does, until the test ends."""
    changed = []

    def make(store, entry, change, *, everywhere):
        changed.extend([f"{store}/{entry}", f"{store}/{digests.METADATA}"])
        edit(spare / store, change, everywhere=everywhere)
        return spare / store

    yield make
    for name in changed:
        shutil.copy(written / name, spare / name)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("store", ["run.zarr", "sweep.zarr", "saved.zarr"])
def test_changed_metadata_are_refused(base, edited, ran, name, everywhere, store):
    entry, key, value = CHANGES[name]

    def change(metadata):
        metadata[entry][key] = value

    path = edited(store, entry, change, everywhere=everywhere)
    with pytest.raises(ssm.InputError, match=r"^store=.*must be an undamaged store"):
        ssm.load(path)
    if store == "sweep.zarr":
        with pytest.raises(ssm.InputError, match="must be an undamaged store"):
            ssm.sweep(GRID, base, path)
    assert not ran


def test_what_is_kept_twice_must_agree_and_is_mended_by_going_on(base, folder, ran):
    """The files of single arrays, which other programs may read."""
    whole = ssm.load(folder / "sweep.zarr").load()
    (folder / "run.zarr/loss/.zarray").unlink()
    with pytest.raises(ssm.InputError, match="must be an undamaged store"):
        ssm.load(folder / "run.zarr")
    path = folder / "sweep.zarr/loss/.zarray"
    for content in (path.read_text().replace("<f8", "<i8"), "{"):
        path.write_text(content)
        with pytest.raises(ssm.InputError, match="must be an undamaged store"):
            ssm.load(folder / "sweep.zarr")
        xr.testing.assert_identical(ssm.sweep(GRID, base, folder / "sweep.zarr").load(), whole)
        xr.testing.assert_identical(ssm.load(folder / "sweep.zarr").load(), whole)
    assert not ran


ORIGINS = {
    "version": ("versions", "ssm==9"),
    "device": ("device", "abacus"),
    "cost": ("seconds", 1e9),
    "time": ("created", "1999-01-01T00:00:00+00:00"),
    "runs": ("runs", 3),
    "lost": ("git_commit", None),
    "more": ("note", ""),
    "fewer variables": ("variables", ["loss"]),
}


def test_where_a_chunk_comes_from_cannot_be_edited(base, folder, ran):
    """Each in the mark of the last chunk alone, and four at a time, one in each mark, before the sweep goes on."""
    store = folder / "sweep.zarr"
    whole, marks = (
        ssm.load(store).load(),
        [store / stores.MARKS / f"{i}.json" for i in range(CHUNKS)],
    )
    before = [path.read_text() for path in marks]

    def change(chunk, key, value):
        mark = json.loads(before[chunk]) | {key: value}
        marks[chunk].write_text(json.dumps({k: v for k, v in mark.items() if v is not None}))

    for key, value in ORIGINS.values():
        change(3, key, value)
        with pytest.raises(ssm.InputError, match="1 of its 4 chunks are missing or damaged"):
            ssm.load(store)
    changes = list(ORIGINS.values())
    for four in (changes[:CHUNKS], changes[CHUNKS:]):
        for chunk, (key, value) in enumerate(four):
            change(chunk, key, value)
        ran.clear()
        xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
        assert sorted(ran) == [0, 0, 1, 1, 2, 2]
        for path, (key, value) in zip(marks, four, strict=True):
            assert json.loads(path.read_text()).get(key) != value


def test_a_chunk_is_not_another_one(base, folder, tiny, ran):
    """Neither of the same store nor the same one of another store: its mark with its values."""
    store, other = folder / "sweep.zarr", folder / "other.zarr"
    whole = ssm.load(store).load()
    for name in [*(entries(store)), "."]:
        for file in (store / name).glob("0.0*"):
            shutil.copy(file, file.with_name(file.name.replace("0.0", "1.0", 1)))
    shutil.copy(store / stores.MARKS / "0.json", store / stores.MARKS / "2.json")
    xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
    assert sorted(ran) == [0, 1]
    ssm.sweep(GRID, tiny(loss="squared", weight_exponent=1.0), other, chunk_size=2)
    for name in entries(store):
        for file in (other / name).glob("0.0*"):
            shutil.copy(file, store / name)
    shutil.copy(other / stores.MARKS / "0.json", store / stores.MARKS)
    ran.clear()
    xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
    assert sorted(ran) == [0, 1]


def test_lost_marks_are_made_again(base, folder, ran):
    store = folder / "sweep.zarr"
    whole = ssm.load(store).load()
    shutil.rmtree(store / stores.MARKS)
    with pytest.raises(ssm.InputError, match="4 of its 4 chunks are missing"):
        ssm.load(store)
    xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
    assert sorted(ran) == [0, 0, 1, 1, 2, 2]
    assert entries(store / stores.MARKS) == [f"{i}.json" for i in range(CHUNKS)]


def test_what_is_left_in_a_killed_sweep_is_removed(base, folder, ran):
    """Half-written files of zarr, and of the mark."""
    store = folder / "sweep.zarr"
    whole = ssm.load(store).load()
    left = [store / "loss" / f"0.{'0f' * 16}.partial"]
    left += [store / stores.MARKS / ".1.json.ssm-writing", folder / ".run.zarr.ssm-writing"]
    left[0].write_bytes(b"half")
    for hidden in left[1:]:
        (hidden / "new").mkdir(parents=True)
        (hidden / "new" / "1.json").write_text("{")
    xr.testing.assert_equal(ssm.sweep(GRID, base, store).load(), whole)
    assert not any(path.exists() for path in left) and not ran


def test_encodings_change_neither_what_is_written_nor_what_is_read(run, tmp_path):
    dataset = run(loss="squared").copy()
    dataset["loss"].encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -1}
    dataset["class_count"].encoding = {"dtype": "float32", "chunks": (1,)}
    dataset["time"].encoding = {"units": "days since 2000-01-01", "fill_value": 0.0}
    ssm.save(dataset, tmp_path / "run.zarr")
    xr.testing.assert_identical(ssm.load(tmp_path / "run.zarr"), run(loss="squared"))


def test_any_numbers_and_words_come_back(tmp_path):
    x = np.array([0.0, -0.0, np.nan, -np.inf, 5e-324])
    words = np.array(["a b", "", "a", "\u00e9", "\u4e2d"])
    arrays = {
        "float32": x.astype(np.float32),
        "big": x.astype(">f8"),
        "objects": words.astype(object),
        "words": words,
        "truths": x == 0,
        "small": np.arange(5, dtype=np.uint8),
        "complex": x + 1j,
    }
    dataset = xr.Dataset({name: ("x", values) for name, values in arrays.items()})
    dataset = dataset.assign_attrs(format="ssm-1", a=float("nan"), b=[1, 2], c=True)
    dataset["empty"] = ("nothing", np.zeros(0))
    dataset["scalar"] = ((), 3.0)
    ssm.save(dataset, tmp_path / "any.zarr")
    found = ssm.load(tmp_path / "any.zarr")
    for name, variable in dataset.variables.items():
        np.testing.assert_array_equal(found[name], variable)
    assert np.signbit(found["float32"][1]) and found.attrs["b"] == [1, 2]


@pytest.mark.parametrize("values", [[{}, {}], np.array(["2000-01-01"] * 2, "datetime64[s]")])
def test_what_would_not_come_back_is_not_saved(values, tmp_path):
    with pytest.raises(ssm.InputError, match=r"^dataset=.*must be a Dataset of numbers and words"):
        ssm.save(xr.Dataset({"x": ("x", values)}), tmp_path / "new.zarr")
    with pytest.raises(ssm.InputError, match=r"^dataset="):
        ssm.save(xr.Dataset(attrs={"x": object()}), tmp_path / "new.zarr")
    assert not entries(tmp_path)


# Stores of earlier versions, whose digests cover values, shapes and attributes.


def digest_before(arrays, attributes=None):
    """As it was defined."""
    sha = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for name, values in sorted(arrays.items()):
        sha.update(json.dumps([name, values.shape]).encode())
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.nan, values)
        elif values.dtype.kind in "UTO":
            values = np.array(" ".join(map(str, values.ravel())).encode())
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def written_earlier(written, tmp_path_factory):
    """The same stores with the digests that they had."""
    folder = shutil.copytree(written, tmp_path_factory.mktemp("earlier") / "copy")

    def seal(store, digest):
        edit(store, lambda metadata: metadata[".zattrs"].update(digest=digest))

    for name in ("run.zarr", "saved.zarr"):
        dataset = ssm.load(folder / name)
        arrays = {str(name): dataset[name].values for name in dataset.variables}
        told = [dataset.attrs, {name: dataset[name].attrs for name in arrays}]
        seal(folder / name, digest_before(arrays, told))
    store = folder / "sweep.zarr"
    group: Any = zarr.open_group(store, mode="r", zarr_format=2)
    blocks = json.loads(str(group.attrs["blocks"]))
    for chunk, block in enumerate(blocks):
        path = store / stores.MARKS / f"{chunk}.json"
        mark = json.loads(path.read_text())
        part = tuple(slice(*ends) for ends in block)
        arrays = {name: group[name][part] for name in mark["variables"]}
        path.write_text(json.dumps(mark | {"digest": digest_before(arrays)}))
    layout = {name: group.attrs[name] for name in ("sweep", "dimensions", "blocks")}
    seal(store, digest_before({name: group[name][:] for name in GRID}, layout))
    return folder


@pytest.fixture
def earlier(written_earlier, tmp_path):
    """The same, to damage."""
    return shutil.copytree(written_earlier, tmp_path / "earlier")


@pytest.mark.parametrize("name", ["run.zarr", "saved.zarr", "sweep.zarr"])
def test_earlier_stores_open_with_one_warning_and_are_complete_once_saved(earlier, written, name):
    with pytest.warns(digests.StoreWarning, match="written by an earlier version") as said:
        opened = ssm.load(earlier / name)
    assert len(said) == 1 and "\n" not in str(said[0].message)
    assert said[0].filename == __file__  # of the call that opened it
    xr.testing.assert_identical(opened.load(), ssm.load(written / name).load())
    ssm.save(opened, earlier / "again.zarr")
    xr.testing.assert_identical(ssm.load(earlier / "again.zarr"), opened)


def test_an_earlier_sweep_that_goes_on_is_complete(base, earlier, written, ran):
    store = earlier / "sweep.zarr"
    (store / stores.MARKS / "1.json").unlink()
    gone_on = ssm.sweep(GRID, base, store).load()
    assert ran == [2]
    xr.testing.assert_equal(gone_on, ssm.load(written / "sweep.zarr").load())
    xr.testing.assert_identical(ssm.load(store).load(), gone_on)
    ssm.sweep(GRID, base, store)
    assert ran == [2]


WRONG = {
    "type": ("loss/.zarray", "dtype", "<i8"),
    "counts as reals": ("class_count/.zarray", "dtype", "<f8"),
    "scale": ("loss/.zattrs", "scale_factor", 2.0),
    "dates": ("loss/.zattrs", "units", "days since 2000-01-01"),
    "dimension": ("class_loss/.zattrs", "_ARRAY_DIMENSIONS", ["time", "mode"]),
}


@pytest.mark.parametrize("store", ["run.zarr", "sweep.zarr", "saved.zarr"])
@pytest.mark.parametrize("name", WRONG)
def test_earlier_stores_are_held_against_what_they_must_be(written_earlier, tmp_path, store, name):
    entry, key, value = WRONG[name]

    def change(metadata):
        dims = metadata["class_loss/.zattrs"]["_ARRAY_DIMENSIONS"]
        axes = dims[: dims.index("time")] if key == "_ARRAY_DIMENSIONS" else []
        metadata[entry][key] = [*axes, *value] if axes else value

    edit(shutil.copytree(written_earlier / store, tmp_path / store), change)
    with pytest.raises(ssm.InputError, match=r"must be (an undamaged|a readable)"):
        ssm.load(tmp_path / store)


def test_marks_of_earlier_sweeps_are_whole(base, earlier, ran):
    """Their digest does not cover what they say of their runs, but it has to be all there."""
    store = earlier / "sweep.zarr"
    changes: dict[int, dict[str, Any]] = {
        0: {"device": "abacus"},
        1: {"git_commit": None},
        2: {"runs": 3},
    }
    for chunk, change in changes.items():
        path = store / stores.MARKS / f"{chunk}.json"
        mark = json.loads(path.read_text()) | change
        path.write_text(json.dumps({k: v for k, v in mark.items() if v is not None}))
        if chunk == 0:
            with pytest.warns(digests.StoreWarning, match="earlier version"):
                ssm.load(store)
    ssm.sweep(GRID, base, store)
    # Of the two whose marks lack something, and not those of the first.
    assert sorted(ran) == [0, 1, 2]


# What may be overwritten, and where to.


def test_only_stores_that_hold_nothing_else_are_overwritten(folder, run, tmp_path):
    new = run(loss="squared", seed=1)
    foreign = {
        "empty attributes": {".zattrs": "{}", "thesis.txt": "years"},
        "only attributes": {".zattrs": '{"format": "ssm-1"}'},
        "no format": {".zattrs": "{}", ".zmetadata": '{"metadata": {".zattrs": {}}}'},
    }
    for name, contents in foreign.items():
        (tmp_path / name).mkdir()
        for file, text in contents.items():
            (tmp_path / name / file).write_text(text)
    stores_with = {
        "notes.txt": lambda store: (store / "notes.txt").write_text("years"),
        ".hidden": lambda store: (store / ".hidden").write_text("years"),
        "mine": lambda store: (store / "mine").mkdir(),
        "loss/notes.txt": lambda store: (store / "loss" / "notes.txt").write_text("years"),
        "loss/0": lambda store: ((store / "loss/0").unlink(), (store / "loss/0").mkdir()),
        "mode": lambda store: (store / "mode").symlink_to(folder),
    }
    xr.Dataset({"x": ("time", np.arange(3))}).to_zarr(tmp_path / "theirs", zarr_format=2)
    for name, add in stores_with.items():
        add(shutil.copytree(folder / "run.zarr", tmp_path / f"with {name.replace('/', ' ')}"))
    before = sorted(path for path in tmp_path.rglob("*"))
    for path in [tmp_path / "theirs", *(tmp_path / name for name in foreign)]:
        with pytest.raises(ssm.InputError, match="must be a new path, or a store to overwrite"):
            ssm.save(new, path, overwrite=True)
    for name in stores_with:
        with pytest.raises(ssm.InputError, match=f"holds nothing else, .*; not {name}$"):
            ssm.save(new, tmp_path / f"with {name.replace('/', ' ')}", overwrite=True)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    for store in ("run.zarr", "saved.zarr", "sweep.zarr"):
        ssm.save(new, folder / store, overwrite=True)
        xr.testing.assert_identical(ssm.load(folder / store), new)
    assert entries(folder) == ["run.zarr", "saved.zarr", "sweep.zarr"]


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("years")


PARTIAL = f"{'0f' * 16}.partial"
# What looks as if a store had it, and what the error says that it is.
ALIKE = [
    *(
        ("run.zarr", f"loss/{name}", f"loss/{name}")
        for name in ("7777", "1", "00", "0.0", "\u0663")
    ),
    *(
        ("run.zarr", f"strength/{name}", f"strength/{name}")
        for name in ("0", "0.1", "1.0", "0.0.0")
    ),
    ("run.zarr", f"loss/1.{PARTIAL}", f"loss/1.{PARTIAL}"),
    ("run.zarr", "loss/.zgroup", "loss/.zgroup"),
    ("run.zarr", "chunks/0.json", "chunks"),
    ("saved.zarr", "loss/0.1.0", "loss/0.1.0"),
    ("saved.zarr", "chunks/0.json", "chunks"),
    *(("sweep.zarr", f"loss/{name}", f"loss/{name}") for name in ("0.2.0", "0.0.0.0", "2.0.0")),
    ("sweep.zarr", f"loss/2.0.{PARTIAL}", f"loss/2.0.{PARTIAL}"),
    ("sweep.zarr", "seed/1", "seed/1"),
    ("sweep.zarr", "photos/0", "photos"),
    *(
        ("sweep.zarr", f"chunks/{name}", f"chunks/{name}")
        for name in ("4.json", "00.json", "0.json~", ".notes", ".1.json")
    ),
    ("sweep.zarr", "chunks/.0.json.ssm-writing/new/mine", "chunks/.0.json.ssm-writing"),
    ("sweep.zarr", "chunks/.4.json.ssm-writing/lock", "chunks/.4.json.ssm-writing"),
]


@pytest.mark.parametrize("damaged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_only_looks_like_a_part_of_a_store_is_spared(written, run, tmp_path, damaged):
    """Also where the digest of the store does not vouch for its metadata."""
    for number, (store, name, said) in enumerate(ALIKE):
        path = shutil.copytree(written / store, tmp_path / str(number))
        if damaged:
            edit(path, lambda metadata: metadata["loss/.zattrs"].update(units="bits"))
        write(path / name)
        with pytest.raises(ssm.InputError, match=rf"holds nothing else, .*; not {said}$"):
            ssm.save(run(loss="squared"), path, overwrite=True)
        assert (path / name).read_text() == "years"


def test_arrays_that_no_store_has_are_spared(folder, run, tmp_path):
    """Of a folder that only names our format, and where an array was added to a store."""
    new, metadata = run(loss="squared", seed=1), {".zattrs": {"format": "ssm-1"}}
    for layout in ({}, {"shape": [1], "chunks": [1]}):
        by_hand = tmp_path / f"by hand {len(layout)}"
        write(by_hand / "photos" / "0")
        contents = json.dumps({"metadata": metadata | {"photos/.zarray": layout}})
        (by_hand / ".zmetadata").write_text(contents)
        (by_hand / "photos" / ".zarray").write_text(json.dumps(layout))
        with pytest.raises(ssm.InputError, match=r"holds nothing else, .*; not photos$"):
            ssm.save(new, by_hand, overwrite=True)
        assert (by_hand / "photos" / "0").read_text() == "years"
    for store in ("run.zarr", "saved.zarr"):
        group = zarr.open_group(folder / store, mode="r+", zarr_format=2, use_consolidated=False)
        group.create_array("photos", data=np.arange(3))
        zarr.consolidate_metadata(group.store, zarr_format=2)
        with pytest.raises(ssm.InputError, match=r"holds nothing else, .*; not photos$"):
            ssm.save(new, folder / store, overwrite=True)


@pytest.mark.slow
def test_any_dataset_of_ours_is_overwritten_as_long_as_its_names_are_vouched_for(
    earlier, run, tmp_path
):
    """By its digest, also by one of an earlier version, but not by one that is damaged."""
    new = run(loss="squared", seed=1)
    mine = run(loss="squared").assign(mine=run(loss="squared")["loss"] ** 2)
    for name in ("new", "before", "damaged"):
        ssm.save(mine, tmp_path / name)
    arrays = {str(name): mine[name].values for name in mine.variables}
    digest = digest_before(arrays, [mine.attrs, {name: mine[name].attrs for name in arrays}])
    edit(tmp_path / "before", lambda metadata: metadata[".zattrs"].update(digest=digest))
    edit(tmp_path / "damaged", lambda metadata: metadata[".zattrs"].update(status="fine"))
    for name in ("new", "before"):
        ssm.save(new, tmp_path / name, overwrite=True)
        xr.testing.assert_identical(ssm.load(tmp_path / name), new)
    with pytest.raises(ssm.InputError, match=r"holds nothing else, .*; not mine$"):
        ssm.save(new, tmp_path / "damaged", overwrite=True)
    for store in ("run.zarr", "sweep.zarr", "saved.zarr"):
        ssm.save(new, earlier / store, overwrite=True)
        xr.testing.assert_identical(ssm.load(earlier / store), new)


DAMAGED = {
    "no array": lambda store: (store / "loss" / ".zarray").unlink(),
    "no chunk": lambda store: (store / "learning_time" / "0").unlink(),
    "no folder": lambda store: shutil.rmtree(store / "loss"),
    "shape": lambda store: edit(
        store, lambda metadata: metadata["loss/.zarray"].update(shape=[]), everywhere=False
    ),
    "digest": lambda store: edit(
        store, lambda metadata: metadata[".zattrs"].pop("digest"), everywhere=False
    ),
    "killed": lambda store: (store / "loss" / f"0.{'0f' * 16}.partial").write_bytes(b""),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("no array", "digest", "killed")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in DAMAGED
    ],
)
def test_damaged_stores_with_nothing_else_in_them_are_overwritten(folder, run, name):
    DAMAGED[name](folder / "run.zarr")
    ssm.save(run(loss="squared", seed=1), folder / "run.zarr", overwrite=True)
    xr.testing.assert_identical(ssm.load(folder / "run.zarr"), run(loss="squared", seed=1))


def test_a_symlink_to_a_store_stays_one(base, folder, run, tmp_path):
    new, links = run(loss="squared", seed=1), tmp_path / "links"
    links.mkdir()
    for name in ("run.zarr", "sweep.zarr"):
        (links / name).symlink_to(folder / name)
    ssm.save(new, links / "run.zarr", overwrite=True)
    xr.testing.assert_identical(ssm.load(folder / "run.zarr"), new)
    ssm.sweep(GRID, base, links / "sweep.zarr")
    (links / "nothing.zarr").symlink_to(links / "nowhere")
    for write in (
        lambda path: ssm.save(new, path, overwrite=True),
        lambda path: ssm.sweep(GRID, base, path),
    ):
        with pytest.raises(ssm.InputError, match="must be no symlink to something"):
            write(links / "nothing.zarr")
    assert all((links / name).is_symlink() for name in entries(links))
    assert entries(links) == ["nothing.zarr", "run.zarr", "sweep.zarr"]


def test_a_sweep_that_another_process_keeps_is_refused(base, folder, ran, monkeypatch):
    """Its lock, held by an open file, which is what a process would have that makes or mends it."""
    monkeypatch.setattr(sharing, "PATIENCE", 0.1)
    fcntl = pytest.importorskip("fcntl")
    hidden = folder / ".sweep.zarr.ssm-writing"
    hidden.mkdir()
    held = os.open(hidden / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    for path in (folder / "sweep.zarr", folder / "." / "sweep.zarr"):
        with pytest.raises(ssm.InputError, match="must be a path that no other process is writing"):
            ssm.sweep(GRID, base, path)
    ssm.load(folder / "sweep.zarr")  # which may be read
    os.close(held)
    ssm.sweep(GRID, base, folder / "sweep.zarr")
    assert entries(folder) == ["run.zarr", "saved.zarr", "sweep.zarr"] and not ran


def test_a_finished_sweep_is_read_where_nothing_can_be_written(base, folder, ran, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError("read-only")

    monkeypatch.setattr("ssm.support.files.take", refuse)
    whole = ssm.load(folder / "sweep.zarr").load()
    xr.testing.assert_identical(ssm.sweep(GRID, base, folder / "sweep.zarr").load(), whole)
    (folder / "sweep.zarr" / stores.MARKS / "0.json").unlink()
    with pytest.raises(ssm.InputError, match="in a folder that can be written to"):
        ssm.sweep(GRID, base, folder / "sweep.zarr")
    with pytest.raises(ssm.InputError, match="in a folder that can be written to"):
        ssm.sweep(GRID, base, folder / "new.zarr")
    assert not ran
