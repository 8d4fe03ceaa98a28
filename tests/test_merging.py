"""Stores that become one: the parts of a sweep are the whole of it, to the bit."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import xarray as xr
from test_own_runs import SMALL, OwnCrossEntropy, Risk

import ssm
from ssm.results import digests, stores

RATIOS, SEEDS = [2.0, 4.0], [0, 1, 2]
GRID = {"imbalance_ratio": RATIOS, "seed": SEEDS}
PARTS = {
    "low": GRID | {"imbalance_ratio": [2.0]},
    "high": GRID | {"imbalance_ratio": [4.0]},
    "first": GRID | {"seed": [0]},
    "last": GRID | {"seed": [1, 2]},
}


@pytest.fixture(scope="module")
def parts(base, tmp_path_factory):
    """Stores of parts of the sweep, computed apart, and in other chunks; to look at."""
    folder = tmp_path_factory.mktemp("parts")
    for i, (name, grid) in enumerate(PARTS.items()):
        ssm.sweep(grid, base, folder / f"{name}.zarr", chunk_size=2 + i % 2)
    return {name: folder / f"{name}.zarr" for name in PARTS}


@pytest.fixture(scope="module")
def merged(parts, tmp_path_factory):
    """The path of what some parts, by name, become; to look at, each made once."""
    known = {}

    def make(*names):
        if names not in known:
            known[names] = tmp_path_factory.mktemp("merged") / "all.zarr"
            ssm.merge([parts[name] for name in names], known[names])
        return known[names]

    return make


@pytest.fixture(scope="module")
def whole(base):
    return ssm.sweep(GRID, base)


def origins(path):
    """The origin of each part of a store, all of whose chunks have to be as they were written."""
    store = stores.SweepStore(path)
    assert store.look_through() == []
    return store.origins()


def contents(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("names", [("low", "high"), ("first", "last"), ("last", "high", "low")])
def test_parts_are_the_whole_sweep_to_the_bit(parts, merged, whole, names):
    paths = [parts[name] for name in names]
    before = [contents(path) for path in paths]
    path = merged(*names)
    found = ssm.load(path).load()
    xr.testing.assert_equal(found, whole)
    assert {name: v.attrs for name, v in found.variables.items()} == {
        name: v.attrs for name, v in whole.variables.items()
    }
    assert json.loads(found.attrs["sweep"]) == json.loads(whole.attrs["sweep"])
    assert [contents(path) for path in paths] == before
    assert [entry.name for entry in path.parent.iterdir()] == ["all.zarr"]


@pytest.mark.parametrize("names", [("low", "high"), ("first", "last")])
def test_what_parts_cost_adds_up(parts, merged, names):
    together = origins(merged(*names))
    apart = [origin for name in names for origin in origins(parts[name])]
    assert sum(origin["runs"] for origin in together) == 6
    for cost in ("runs", "compilations"):
        assert sum(each[cost] for each in together) == sum(each[cost] for each in apart)
    # Shares of at most six numbers of seconds, which are rounded once each.
    seconds = [sum(each["seconds"] for each in of) for of in (together, apart)]
    np.testing.assert_allclose(*seconds, rtol=1e-14)
    made = ("versions", "git_commit", "device", "created")
    assert {tuple(each[name] for name in made) for each in together} == {
        tuple(each[name] for name in made) for each in apart
    }


def test_cells_that_two_have_are_counted_once(parts, whole, tmp_path):
    merged = ssm.merge([parts[name] for name in PARTS], tmp_path / "all.zarr")
    xr.testing.assert_equal(merged.load(), whole)
    assert sum(origin["runs"] for origin in origins(tmp_path / "all.zarr")) == 6


def test_one_store_is_copied(parts, tmp_path):
    copy = ssm.merge([parts["last"]], tmp_path / "copy.zarr")
    xr.testing.assert_identical(copy.load(), ssm.load(parts["last"]).load())
    assert contents(tmp_path / "copy.zarr") == contents(parts["last"])


def test_merging_is_associative_and_its_order_changes_nothing(base, parts, whole, tmp_path):
    a, b, c = parts["low"], parts["first"], parts["last"]
    left, right = tmp_path / "left.zarr", tmp_path / "right.zarr"
    with pytest.warns(digests.StoreWarning, match="4 of its 6 runs are there"):
        ssm.merge([a, b], left)
    ssm.merge([b, c], right)
    grouped = [[left, c], [a, right], [c, b, a]]
    for i, paths in enumerate(grouped):
        found = ssm.merge(paths, tmp_path / f"{i}.zarr").load()
        xr.testing.assert_equal(found, whole)
        xr.testing.assert_identical(ssm.load(tmp_path / f"{i}.zarr").load(), found)
        known = json.loads(found.attrs["sweep"])["axes"]
        assert known == GRID and list(known) == list(GRID)


@pytest.mark.slow
def test_values_in_no_order_stay_as_they_appear(base, tmp_path):
    axis = "imbalance_ratio, seed"
    one, other = [[4.0, 1], [2.0, 0]], [[2.0, 1], [4.0, 1]]
    for name, values in (("one", one), ("other", other)):
        ssm.sweep({axis: [tuple(value) for value in values]}, base, tmp_path / f"{name}.zarr")
    both = ssm.merge([tmp_path / "one.zarr", tmp_path / "other.zarr"], tmp_path / "both.zarr")
    assert json.loads(both.attrs["sweep"])["axes"] == {axis: [*one, [2.0, 1]]}
    assert both["imbalance_ratio"].values.tolist() == [4.0, 2.0, 2.0]
    ssm.sweep({"seed": [1, 0]}, base, tmp_path / "down.zarr")
    ssm.sweep({"seed": [2]}, base, tmp_path / "two.zarr")
    down = ssm.merge([tmp_path / "down.zarr", tmp_path / "two.zarr"], tmp_path / "three.zarr")
    assert down["seed"].values.tolist() == [1, 0, 2]


def test_what_no_store_has_is_left_and_computed_when_the_sweep_goes_on(base, whole, tmp_path, ran):
    """Of an unfinished store and of one in another corner: two runs of the first, one of the second."""

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        ssm.sweep(
            GRID | {"seed": [0, 1]}, base, tmp_path / "a.zarr", chunk_size=1, progress=interrupt
        )
    ssm.sweep({"imbalance_ratio": [4.0], "seed": [2]}, base, tmp_path / "b.zarr")
    there = sum(json.loads(m.read_text())["runs"] for m in (tmp_path / "a.zarr/chunks").iterdir())
    assert 0 < there < 4
    path = tmp_path / "all.zarr"
    with pytest.warns(digests.StoreWarning, match=f"{there + 1} of its 6 runs are there"):
        part = ssm.merge([tmp_path / "a.zarr", tmp_path / "b.zarr"], path)
    done = (part["status"] != "not computed").values
    assert done.sum() == there + 1 and done[1, 2] and not done[0, 2]
    np.testing.assert_array_equal(part["loss"].values[done], whole["loss"].values[done])
    ran.clear()
    xr.testing.assert_equal(ssm.sweep(GRID, base, path).load(), whole)
    assert len(ran) == 5 - there and (4.0, 2) not in ran


def test_a_store_without_an_axis_is_at_the_value_of_its_base(base, parts, tmp_path, ran):
    grid = {"coupling": [0.5, 0.9], "imbalance_ratio": [2.0], "seed": SEEDS}
    ssm.sweep(grid, base, tmp_path / "coupled.zarr")
    path, ratio_first = tmp_path / "all.zarr", {"imbalance_ratio": [2.0], "seed": SEEDS}
    merged = ssm.merge([parts["low"], tmp_path / "coupled.zarr"], path)
    axes = json.loads(merged.attrs["sweep"])["axes"]
    assert list(axes.items()) == list((ratio_first | {"coupling": [0.0, 0.5, 0.9]}).items())
    ran.clear()
    ssm.sweep(axes, base, path)
    assert not ran
    xr.testing.assert_equal(merged.load(), ssm.sweep(axes, base))


@pytest.mark.slow
def test_stores_of_other_numbers_of_classes_are_padded(base, tmp_path):
    for classes in (4, 5):
        ssm.sweep({"num_classes": [classes], "seed": [0]}, base, tmp_path / f"{classes}.zarr")
    merged = ssm.merge([tmp_path / "5.zarr", tmp_path / "4.zarr"], tmp_path / "all.zarr")
    together = ssm.sweep({"num_classes": [4, 5], "seed": [0]}, base)
    xr.testing.assert_equal(merged.load(), together)


def altered(source, path, change):
    """A copy of a store of one chunk, whose values are changed, under a digest that is right."""
    shutil.copytree(source, path)
    store = stores.SweepStore(path)
    _, arrays = store.read(0)
    axes = len(store.axes)
    runs = {name: values.reshape(-1, *values.shape[axes:]) for name, values in arrays.items()}
    change(runs)
    (origin,) = store.origins()
    store = stores.SweepStore(path)
    store.write(0, runs, [origin])
    return path


def test_a_cell_that_differs_is_refused_by_name(base, parts, tmp_path):
    ssm.sweep({"imbalance_ratio": [4.0], "seed": [0, 1]}, base, tmp_path / "more.zarr")

    def last_bit(runs):
        runs["loss"][1, 3] = np.nextafter(runs["loss"][1, 3], 1)

    wrong = altered(tmp_path / "more.zarr", tmp_path / "wrong.zarr", last_bit)
    with pytest.raises(ssm.InputError) as caught:
        ssm.merge([parts["high"], wrong], tmp_path / "all.zarr")
    assert str(caught.value) == (
        f"stores='{wrong}': must be stores that agree to the bit where they overlap; loss differs at "
        "imbalance_ratio=4.0, seed=1"
    )

    def sign_of_zero(runs):
        runs["flow_time"][0, 0] = -runs["flow_time"][0, 0]

    assert ssm.load(tmp_path / "more.zarr")["time"][0] == 0
    wrong = altered(tmp_path / "more.zarr", tmp_path / "signed.zarr", sign_of_zero)
    with pytest.raises(ssm.InputError, match="flow_time differs at imbalance_ratio=4"):
        ssm.merge([parts["high"], wrong], tmp_path / "all.zarr")
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {"more.zarr", "wrong.zarr", "signed.zarr"}


def test_what_is_not_of_one_sweep_is_refused_with_the_difference(base, tiny, parts, tmp_path):
    """Another base, a sweep that has no one value of an axis, other versions, and what is given."""
    ssm.sweep({"seed": [0]}, tiny(loss="squared", rtol=1e-7), tmp_path / "rtol.zarr")
    ssm.sweep({"imbalance_ratio, seed": [(2.0, 0)]}, base, tmp_path / "joint.zarr")
    later = tmp_path / "later.zarr"
    ssm.sweep({"imbalance_ratio": [4.0], "seed": [5]}, base, later)
    (mark,) = (later / stores.MARKS).iterdir()
    origin = json.loads(mark.read_text())
    del origin["digest"]
    store = stores.SweepStore(later)
    _, arrays = store.read(0)
    runs = {name: values.reshape(-1, *values.shape[2:]) for name, values in arrays.items()}
    versions = origin["versions"].replace("numpy==", "numpy==9.")
    stores.SweepStore(later).write(0, runs, [origin | {"versions": versions}])
    ssm.sweep(PARTS["low"], base, tmp_path / "own.zarr", observables={"risk": Risk()})
    out = tmp_path / "all.zarr"
    for one, other, said in [
        (parts["low"], tmp_path / "rtol.zarr", "rtol is 1e-06 there, 1e-07 here"),
        (parts["low"], tmp_path / "joint.zarr", "one value of "),
        (parts["low"], later, f"numpy is {np.__version__} there, 9.{np.__version__} here"),
        (parts["low"], tmp_path / "own.zarr", "observables is not given there"),
    ]:
        with pytest.raises(ssm.InputError, match=r"^stores=") as caught:
            ssm.merge([one, other], out)
        assert said in str(caught.value) and "\n" not in str(caught.value)
        assert not out.exists()


def test_bad_arguments_are_refused(base, parts, tmp_path):
    damaged = shutil.copytree(parts["last"], tmp_path / "damaged.zarr")
    (damaged / "loss" / "0.0.0").unlink()
    out = tmp_path / "all.zarr"
    for paths, target, said in [
        ([], out, "stores=.*at least one path"),
        ("a.zarr", out, "stores='a.zarr': must be paths of stores"),
        ([tmp_path / "none.zarr"], out, "store=.*none.zarr': must be a store that exists"),
        ([parts["low"], damaged], out, "store=.*chunks are missing or damaged"),
        ([parts["low"]], damaged, "out=.*must be a path that does not exist yet"),
        ([5], out, "store=5: must be a path"),
    ]:
        with pytest.raises(ssm.InputError, match=said):
            ssm.merge(paths, target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["damaged.zarr"]
    merged = ssm.merge([parts["low"]], damaged, overwrite=True)
    assert merged.sizes["seed"] == 3


@pytest.mark.slow
def test_stores_of_own_losses_and_observables_merge(tmp_path, ran):
    own = {"loss": OwnCrossEntropy(), "observables": {"risk": Risk()}}
    base, paths = (
        ssm.Config(**SMALL, t1=20.0, num_saves=6),
        [tmp_path / "a.zarr", tmp_path / "b.zarr"],
    )
    for path, scale in zip(paths, ([0.5, 1.0], [2.0]), strict=True):
        ssm.sweep({"loss.scale": scale, "seed": [0, 1]}, base, path, **own)
    grid = {"loss.scale": [0.5, 1.0, 2.0], "seed": [0, 1]}
    merged = ssm.merge(paths, tmp_path / "all.zarr").load()
    xr.testing.assert_equal(merged, ssm.sweep(grid, base, **own))
    ran.clear()
    ssm.sweep(grid, base, tmp_path / "all.zarr", **own)
    assert not ran
