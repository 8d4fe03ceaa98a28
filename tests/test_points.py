"""Fields of a sweep that move together: the diagonal of the full grid, in memory, in stores, on a cluster."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

import ssm
from ssm.results import schema, stores
from ssm.sweeps import grids

PAIRS = [(4.0, 2), (2.0, 3), (8.0, 1)]
RATIOS, COUNTS = (list(values) for values in zip(*PAIRS, strict=True))
GRID = {"imbalance_ratio, minority_count": PAIRS, "seed": [0, 1]}
COORDINATES = ("point", "imbalance_ratio", "minority_count", "seed")


@pytest.fixture(scope="module")
def whole(base):
    return ssm.sweep(GRID, base)


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "sweep.zarr"
    ssm.sweep(GRID, base, path, chunk_size=2)
    return path


@pytest.fixture
def store(finished, tmp_path):
    """The same, to damage."""
    return shutil.copytree(finished, tmp_path / "sweep.zarr")


def test_points_are_the_diagonal_of_the_full_grid(base, whole):
    """To the bit: a run does not depend on what runs beside it."""
    full = ssm.sweep({"imbalance_ratio": RATIOS, "minority_count": COUNTS, "seed": [0, 1]}, base)
    diagonal = full.isel({name: xr.Variable("point", range(3)) for name in list(full.dims)[:2]})
    assert whole.status.dims == ("point", "seed") and whole.point.values.tolist() == [0, 1, 2]
    for name in set(full.variables) - {"imbalance_ratio", "minority_count"}:
        expected = xr.broadcast(diagonal[name], whole[name])[0].transpose(*whole[name].dims)
        np.testing.assert_array_equal(whole[name].values, expected.values, str(name))
    for name, values in (("imbalance_ratio", RATIOS), ("minority_count", COUNTS)):
        assert whole[name].dims == ("point",) and whole[name].values.tolist() == values


def test_neither_the_order_of_points_nor_chunks_change_a_bit(base, whole):
    turned = {"minority_count,imbalance_ratio": [pair[::-1] for pair in reversed(PAIRS)]}
    other = ssm.sweep({**turned, "seed": [0, 1]}, base, chunk_size=1)
    again = other.isel(point=slice(None, None, -1)).assign_coords(point=range(3))
    xr.testing.assert_equal(again, whole)


def test_any_fields_move_together(tiny):
    """Words, lists of numbers, `loss`, whose name a variable has, and `t1`, whose name a fact has."""
    points = [("squared", (5, 2, 2, 1), 3.0, 0), ("cross_entropy", (8, 9, 2, 1), 4.0, 1)]
    base = ssm.Config(feature_dim=6, num_saves=50)
    swept = ssm.sweep({"loss, counts, t1, seed": points}, base)
    assert swept.loss.dims == ("point", "time") and swept.t1.values.tolist() == [3.0, 4.0]
    assert swept.loss_name.values.tolist() == ["squared", "cross_entropy"]
    assert swept.counts.values.tolist() == ["5,2,2,1", "8,9,2,1"]
    np.testing.assert_array_equal(swept.class_count, [[5, 2, 2, 1], [8, 9, 2, 1]])
    np.testing.assert_array_equal(swept.flow_time[:, -1], [3.0, 4.0])


def test_times_say_what_they_count_where_points_differ_in_it(tiny):
    base = tiny(loss="squared", num_saves=3)
    points = [("flow", 0), ("gd", 1)]
    swept = ssm.sweep({"optimizer, seed": points}, base)
    assert swept.flow_time.attrs["description"] == schema.CLOCK_WORDS["mixed"]
    assert swept.flow_time.attrs["spacing"] == "linear"


def test_a_store_of_points_is_the_one_in_memory(finished, whole):
    loaded = ssm.load(finished).load()
    xr.testing.assert_equal(loaded, whole)
    assert json.loads(loaded.attrs["sweep"])["axes"] == {
        "imbalance_ratio, minority_count": [list(pair) for pair in PAIRS],
        "seed": [0, 1],
    }
    attributes = json.loads((finished / ".zattrs").read_text())
    assert json.loads(attributes["dimensions"]) == ["point", "seed"]
    for name in COORDINATES:
        described = json.loads((finished / name / ".zattrs").read_text())
        assert described == {"_ARRAY_DIMENSIONS": ["seed" if name == "seed" else "point"]}


def test_an_interrupted_sweep_of_points_goes_on_to_the_same_bits(base, tmp_path, whole):
    path = tmp_path / "sweep.zarr"

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ssm.sweep(GRID, base, path, chunk_size=2, progress=interrupt)
    kept = {mark.name: mark.read_bytes() for mark in (path / stores.MARKS).iterdir()}
    assert len(kept) < 3
    told = []
    spaced = {" imbalance_ratio ,minority_count": PAIRS, "seed": [0, 1]}
    found = ssm.sweep(spaced, base, path, progress=lambda *now: told.append(now))
    xr.testing.assert_equal(found.load(), whole)
    assert told[0] == (2 * len(kept), 6)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("point", "seed") else pytest.param(name, marks=pytest.mark.slow)
        for name in COORDINATES
    ],
)
def test_a_damaged_coordinate_is_found_and_written_again(base, store, whole, name):
    (store / name / "0").unlink()
    with pytest.raises(ssm.InputError, match="must be an undamaged store"):
        ssm.load(store)
    told = []
    ssm.sweep(GRID, base, store, progress=lambda *now: told.append(now))
    assert told == [(6, 6)]  # nothing was run
    xr.testing.assert_equal(ssm.load(store).load(), whole)


def test_other_points_are_refused_with_the_difference(base, store):
    key = "imbalance_ratio, minority_count"
    others = [
        ({**GRID, key: PAIRS[:2]}, rf"{key} is \[\[4.0, 2\], \[2.0, 3\], \[8.0, 1\]\] there"),
        ({"imbalance_ratio": RATIOS, "seed": [0, 1]}, f"{key} is .* there, no axis here"),
        (dict(reversed(GRID.items())), f"its axes are in the order {key}, seed"),
    ]
    for grid, difference in others:
        with pytest.raises(ssm.InputError, match=difference) as caught:
            ssm.sweep(grid, base, store)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [('"point"', '"seed"'), ("minority_count", "feature_dim")])
def test_a_store_without_a_digest_of_its_layout_is_held_to_its_axes(store, old, new):
    """Dimensions and coordinates have to be those of the axes."""
    path = store / ".zmetadata"
    document = json.loads(path.read_text())
    attributes = document["metadata"][".zattrs"]
    attributes["digest"] = attributes["digest"].partition(".")[2]
    path.write_text(json.dumps(document))
    assert stores.SweepStore(store).axes == ["point", "seed"]
    part = "dimensions" if old == '"point"' else "sweep"
    attributes[part] = attributes[part].replace(old, new)
    path.write_text(json.dumps(document))
    with pytest.raises(ssm.InputError, match="must be an undamaged store"):
        stores.SweepStore(store)


def test_a_store_of_points_is_replaced_and_takes_nothing_else_along(store, run):
    other = run(loss="squared")
    (store / "notes.txt").write_text("mine")
    with pytest.raises(ssm.InputError, match=r"not notes.txt"):
        ssm.save(other, store, overwrite=True)
    (store / "notes.txt").unlink()
    (store / ".zmetadata").write_text((store / ".zmetadata").read_text().replace("Zstd", "zstd "))
    ssm.save(other, store, overwrite=True)
    xr.testing.assert_equal(ssm.load(store), other)


BAD = {
    "imbalance_ratio, speed": ([(1, 2)], "grid='speed': must be one of the fields of Config"),
    "imbalance_ratio,": ([(1,)], "grid='': must be one of the fields of Config"),
    "imbalance_ratio, imbalance_ratio": ([(1, 2)], "imbalance_ratio is there twice"),
    "seed, imbalance_ratio": ([(1, 2)], "an axis of fields of its own: seed is there twice"),
    "imbalance_ratio, minority_count": ([(1, 2), (3, 4), (1, 2)], "one or more different values"),
    "minority_count, imbalance_ratio": (
        [(1, 2), (3, 4, 5)],
        r"^grid\[minority_count, imbalance_ratio\]\[1\]=\(3, 4, 5\): must be 2 values, one for each field$",
    ),
    "minority_count, num_classes": ([(1, 2), 3], r"\[1\]=3: must be 2 values, one for each field"),
    "minority_count, coupling": ([], "one or more different values"),
    "minority_count, depth": ({(1, 2)}, "one or more different values"),
}


@pytest.mark.parametrize("key", BAD)
def test_what_are_no_points_is_refused_in_one_line(base, key):
    values, said = BAD[key]
    with pytest.raises(ssm.InputError, match=said) as caught:
        grids.make_grid({"seed": [0], key: values}, base)
    assert "\n" not in str(caught.value)


def test_a_second_axis_of_several_fields_is_refused(base):
    grid = {"imbalance_ratio,seed": [(1, 2)], "minority_count,depth": [(1, 2)]}
    with pytest.raises(ssm.InputError, match="one axis of several fields; the grid has two"):
        grids.make_grid(grid, base)


def test_a_point_that_is_not_allowed_is_named(base):
    grid = {"imbalance_ratio, minority_count": [(2, 1), (0.5, 1)], "seed": [3]}
    with pytest.raises(ssm.InputError) as caught:
        ssm.sweep(grid, base)
    assert str(caught.value).endswith("(at imbalance_ratio=0.5, minority_count=1, seed=3)")


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        (
            "imbalance_ratio,minority_count=10,50;100,5",
            ("imbalance_ratio, minority_count", [(10, 50), (100, 5)]),
        ),
        ("loss, t1=squared,none", ("loss, t1", [("squared", None)])),
        ("weight-exponent,seed=.5,1;1,2;", ("weight_exponent, seed", [(0.5, 1), (1, 2)])),
    ],
)
def test_points_on_the_command_line(text, axis):
    assert grids.parse_axis(text) == axis


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_points_on_a_cluster_are_the_same_bits(base, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "localhost:0"}
    with (
        distributed.LocalCluster(host="127.0.0.1", **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = ssm.sweep(GRID, base, tmp_path / "sweep.zarr", client, chunk_size=2)
        xr.testing.assert_equal(found.load(), whole)
