"""What other programs read is what was computed, to the bit."""

import io
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ssm
from ssm.results import digests, exports

# The default parser of numbers is exact from pandas 3.1 on, where another is not to be asked for.
RECENT = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)
EXACT: dict[str, Any] = {} if RECENT else {"float_precision": "round_trip"}
AXES = {"imbalance_ratio": [2.0, 4.0], "seed": [0, 1, 2]}


@pytest.fixture(scope="module")
def stored(tiny, tmp_path_factory):
    """A sweep on disk, over ratio and seed."""
    path = tmp_path_factory.mktemp("stored") / "sweep.zarr"
    ssm.sweep(AXES, tiny(loss="squared"), path)
    return path


@pytest.fixture
def tracked(rng):
    return ssm.track(rng.normal(size=(4, 9, 3)), np.array([0] * 5 + [1] * 3 + [2]))


def table(dataset, tmp_path, *variables):
    path = tmp_path / "table.csv"
    ssm.export(dataset, path, variables=variables or None, overwrite=True)
    return pd.read_csv(path, **EXACT)


def assert_column(column, values):
    """Equal to the bit, NaN in the same places, words as words."""
    values = np.asarray(values).ravel()
    kind = str if values.dtype.kind == "U" else values.dtype
    np.testing.assert_array_equal(column.to_numpy().astype(kind), values)


def test_a_sweep_is_a_row_for_each_run(stored, tmp_path):
    sweep, rows = ssm.load(stored), table(stored, tmp_path)
    assert list(rows)[:2] == ["imbalance_ratio", "seed"] and len(rows) == 6
    facts = {name for name, v in sweep.data_vars.items() if v.dims == ("imbalance_ratio", "seed")}
    assert set(rows) == {"imbalance_ratio", "seed", *facts} and {"status", "t1"} <= facts
    for name in facts:
        assert_column(rows[name], sweep[name])
    assert_column(rows["imbalance_ratio"], np.repeat(AXES["imbalance_ratio"], 3))
    assert_column(rows["seed"], np.tile(AXES["seed"], 2))


@pytest.mark.parametrize("most", [1, 4, 7, 2**16])
def test_a_variable_has_a_row_for_each_value(stored, tmp_path, monkeypatch, most):
    """However many rows are held at once; what has fewer dimensions is repeated."""
    monkeypatch.setattr(exports, "MOST_ROWS", most)
    sweep = ssm.load(stored)
    rows = table(stored, tmp_path, "block_learning_time", "status")
    assert list(rows)[:3] == ["imbalance_ratio", "seed", "block"] and len(rows) == 6 * 3
    assert_column(rows["block_learning_time"], sweep["block_learning_time"])
    assert_column(rows["status"], np.repeat(sweep["status"].values.ravel(), 3))
    assert_column(rows["block"], np.tile(sweep["block"], 6))


def test_blocks_cover_every_row_once_in_order():
    for sizes in ([], [1], [3], [2, 3, 4], [70_000, 2], [3, 70_000], [5, 300, 300]):
        numbers = np.arange(np.prod(sizes, dtype=int)).reshape(sizes)
        parts = [numbers[block].ravel() for block in exports._blocks(sizes)]
        np.testing.assert_array_equal(np.concatenate(parts), numbers.ravel())
        assert max(map(len, parts)) <= exports.MOST_ROWS


def test_a_run_is_a_row_for_each_time(run, tmp_path):
    done = run(loss="squared")
    rows = table(done, tmp_path)
    assert len(rows) == done.sizes["time"] and {"time", "loss", "residual", "drift"} <= set(rows)
    for name in rows:
        assert_column(rows[name], done[name])
    rows = table(done, tmp_path, "class_loss", "loss")
    assert_column(rows["class_loss"], done["class_loss"])
    assert_column(rows["loss"], np.repeat(done["loss"].values, 4))
    assert_column(rows["class_group"], np.tile(done["class_group"].values, len(done["time"])))


def test_single_precision_and_tracked_logs_are_exact(tiny, tracked, tmp_path):
    done = ssm.simulate(tiny(loss="squared", dtype="float32"))
    rows = table(done, tmp_path, "singular_value")
    assert done["singular_value"].dtype == np.float32
    assert_column(rows["singular_value"], done["singular_value"])
    for name in ("strength", "class_strength"):
        assert_column(table(tracked, tmp_path, name)[name], tracked[name])


def test_points_have_their_fields_beside_them(tiny, tmp_path):
    axis = {"imbalance_ratio, minority_count": [(2.0, 3), (4.0, 2)]}
    rows = table(ssm.sweep(axis, tiny(loss="squared")), tmp_path)
    assert list(rows)[:3] == ["point", "imbalance_ratio", "minority_count"]
    assert rows["minority_count"].tolist() == [3, 2]
    part = ssm.sweep(axis, tiny(loss="squared")).isel(point=1)
    rows = table(part, tmp_path)
    assert len(rows) == 1 and rows["minority_count"].tolist() == [2]


def test_netcdf_holds_the_same_dataset(stored, run, tracked, tmp_path):
    pytest.importorskip("h5netcdf")
    for name, dataset in {"sweep": stored, "run": run(loss="squared"), "log": tracked}.items():
        path = tmp_path / f"{name}.nc"
        ssm.export(dataset, path)
        expected = ssm.load(stored).load() if name == "sweep" else dataset
        with xr.open_dataset(path, engine="h5netcdf") as read:
            xr.testing.assert_identical(read.load(), expected)
            kinds = [
                {n: v.dtype.kind for n, v in each.variables.items()} for each in (read, expected)
            ]
            assert kinds[0] == kinds[1]
    ssm.export(stored, tmp_path / "part.nc", variables=["status", "class_loss"])
    with xr.open_dataset(tmp_path / "part.nc", engine="h5netcdf") as read:
        assert set(read.data_vars) == {"status", "class_loss"}


def test_an_unfinished_sweep_is_written_as_it_is(tiny, tmp_path):
    def interrupt(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ssm.sweep(AXES, tiny(loss="squared"), tmp_path / "s.zarr", chunk_size=1, progress=interrupt)
    with pytest.warns(digests.StoreWarning):
        rows = table(tmp_path / "s.zarr", tmp_path)
    assert len(rows) == 6 and "not computed" in set(rows["status"])


def test_what_cannot_be_written_is_refused_in_one_line(stored, run, tmp_path, monkeypatch):
    done, taken, folder = run(loss="squared"), tmp_path / "taken.csv", tmp_path / "folder.csv"
    taken.write_text("mine")
    folder.mkdir()
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    for dataset, out, names, said in [
        (done, "x.txt", None, r"^out=.*x.txt': must be a path ending in .nc or .csv"),
        (done, "taken.csv", None, "^out=.*must be a path that does not exist yet"),
        (done, "folder.csv", None, "^out=.*must be a file, not a folder"),
        (done, "no/x.csv", None, "^out=.*in a folder that exists"),
        (done, "x.csv", ["los"], r"^variables='los': must be one of .*did you mean loss\?"),
        (done, "x.csv", [], "^variables=.*at least one name"),
        (done, "x.csv", "loss", "^variables='loss': must be names of variables"),
        (
            done,
            "x.csv",
            ["class_loss", "strength"],
            "^variables='class_loss,strength': must be of dimensions that one of them has; strength is "
            "along component and class_loss is not",
        ),
        (tmp_path / "none.zarr", "x.csv", None, "^store=.*must be a store that exists"),
        (done, "x.nc", None, r"^out=.*are there: pip install h5netcdf h5py"),
    ]:
        with pytest.raises(ssm.InputError, match=said) as caught:
            ssm.export(dataset, tmp_path / out, variables=names)
        assert "\n" not in str(caught.value)
    assert {entry.name for entry in tmp_path.iterdir()} == {"taken.csv", "folder.csv"}
    ssm.export(done, taken, overwrite=True)
    assert pd.read_csv(io.StringIO(taken.read_text())).shape[0] == done.sizes["time"]


def test_nothing_is_left_where_writing_fails(run, tmp_path, monkeypatch):
    blocks = exports._blocks

    def interrupted(sizes):
        yield from blocks(sizes)
        raise KeyboardInterrupt

    monkeypatch.setattr(exports, "_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ssm.export(run(loss="squared"), tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())
