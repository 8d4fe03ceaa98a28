"""Stores: what is saved comes back, and what is not whole is refused."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

import ssm
from ssm.cli import summaries
from ssm.dynamics.statuses import Status
from ssm.results import datasets, schema


@pytest.fixture
def store(run, tmp_path):
    path = tmp_path / "run.zarr"
    ssm.save(run(), path)
    return path


@pytest.mark.parametrize(
    "changes", [{}, {"save_state": True}, {"coupling": 1.0, "save_state": True}, {"max_steps": 20}]
)
def test_what_is_saved_comes_back(run, tmp_path, changes):
    original = run(**changes)
    ssm.save(original, tmp_path / "run.zarr")
    xr.testing.assert_identical(original, ssm.load(tmp_path / "run.zarr"))


def test_a_store_can_be_opened_without_this_project_and_has_no_pickles(store, run):
    opened = xr.open_zarr(store)
    np.testing.assert_array_equal(opened["strength"], run().strength)
    for file in store.rglob("*"):
        assert file.is_dir() or b"pickle" not in file.read_bytes()


def test_an_existing_store_is_kept_unless_it_may_be_overwritten(store, run):
    with pytest.raises(ssm.InputError, match="out="):
        ssm.save(run(seed=1), store)
    xr.testing.assert_identical(ssm.load(store), run())
    ssm.save(run(seed=1), store, overwrite=True)
    xr.testing.assert_identical(ssm.load(store), run(seed=1))
    assert [p.name for p in store.parent.iterdir()] == ["run.zarr"]


def test_a_save_that_fails_leaves_what_was_there(store, run, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_zarr", fail)
    with pytest.raises(KeyboardInterrupt):
        ssm.save(run(seed=1), store, overwrite=True)
    xr.testing.assert_identical(ssm.load(store), run())
    assert [p.name for p in store.parent.iterdir()] == ["run.zarr"]


def test_a_run_of_nothing_but_nan_comes_back(run, tmp_path):
    ds = run(loss="squared", init_scale=1e70, t1=1.0)
    ssm.save(ds, tmp_path / "run.zarr")
    xr.testing.assert_identical(ssm.load(tmp_path / "run.zarr"), ds)


def test_overwriting_spares_what_is_no_store(run, tmp_path):
    folder, file = tmp_path / "precious", tmp_path / "file"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    file.write_text("years")
    for path in (folder, file, tmp_path / "x" / ".."):
        with pytest.raises(ssm.InputError, match="out="):
            ssm.save(run(), path, overwrite=True)
    assert (folder / "thesis.txt").read_text() == file.read_text() == "years"


def test_a_name_too_long_is_refused(run, tmp_path):
    with pytest.raises(ssm.InputError, match="name not too long"):
        ssm.save(run(), tmp_path / ("x" * 250))


def test_an_existing_output_says_how_to_replace_it(store, run):
    with pytest.raises(ssm.InputError, match=r"--overwrite in the shell, overwrite=True in Python"):
        ssm.save(run(), store)


def test_an_output_folder_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(ssm.InputError, match="must be in a folder that exists"):
        ssm.save(run(), tmp_path / "nowhere" / "run.zarr")


def chunks(store):
    return sorted(p for p in store.rglob("*") if p.is_file() and not p.name.startswith("."))


def truncate(store):
    file = next(p for p in chunks(store) if p.parent.name == "strength")
    file.write_bytes(file.read_bytes()[:-10])


def lose_a_chunk(store):
    next(p for p in chunks(store) if p.parent.name == "loss").unlink()


def lose_a_variable(store):
    shutil.rmtree(store / "learning_time")


def change_the_config(store):
    for name in (".zattrs", ".zmetadata"):
        file = store / name
        file.write_text(file.read_text().replace('\\"seed\\": 0', '\\"seed\\": 1'))


def garble(store):
    (store / ".zmetadata").write_text("{")


def change_the_status(store):
    for name in (".zattrs", ".zmetadata"):
        file = store / name
        file.write_text(file.read_text().replace('"finished"', '"fine"'))


def change_a_unit(store):
    file = store / ".zmetadata"
    file.write_text(file.read_text().replace('"logit"', '"bits"'))


def lose_an_attribute(store):
    for name in (".zattrs", ".zmetadata"):
        file = store / name
        content = json.loads(file.read_text())
        del content.get("metadata", {".zattrs": content})[".zattrs"]["created"]
        file.write_text(json.dumps(content))


def lose_the_metadata(store):
    (store / ".zmetadata").unlink()


DAMAGES = [
    truncate,
    lose_a_chunk,
    lose_a_variable,
    change_the_config,
    garble,
    change_the_status,
    change_a_unit,
    lose_an_attribute,
    lose_the_metadata,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_refused_in_one_line(store, damage):
    damage(store)
    with pytest.raises(ssm.InputError, match=r"run\.zarr.*must be") as caught:
        ssm.load(store)
    assert "\n" not in str(caught.value)


def test_foreign_things_are_refused(tmp_path):
    foreign = tmp_path / "foreign.zarr"
    xr.Dataset({"x": ("time", np.arange(3))}).to_zarr(foreign, zarr_format=2)
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file.txt"
    file.write_text("hello")
    bare = tmp_path / "bare.zarr"
    xr.Dataset({"x": ("time", np.arange(3))}).to_zarr(bare, zarr_format=2, consolidated=False)
    for path in (foreign, bare, empty, file, tmp_path / "missing"):
        with pytest.raises(ssm.InputError, match=path.name):
            ssm.load(path)


def test_descriptions_say_what_components_are(run):
    said = {name: run()[name].attrs["description"] for name in ("strength", "component_target")}
    assert "contrasts between classes, k - 1 of them" in said["strength"]
    assert "class_strength" in said["strength"]
    assert "cross-entropy goes on" in said["component_target"]


def test_a_sweep_tells_of_classes_alone_in_their_group(tiny, run):
    """One minority class in half of the runs: learned when single runs learn it."""
    swept = ssm.sweep({"minority_fraction": [0.25, 0.5], "seed": [0, 1]}, tiny(loss="squared"))
    rows = {row[0]: row[1:] for row in summaries.sweep_table(swept)}
    alone = [run(loss="squared", minority_fraction=0.25, seed=seed) for seed in (0, 1)]
    times = [float(one["class_learning_time"][3]) for one in alone]
    expected = [min(times), np.mean(times), max(times)]
    found = [float(time) for time in rows["minority, one class"][1:]]
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # four digits are shown
    assert rows["minority, one class"][0] == "2 of 2" and rows["minority"][0] == "2 of 4"
    assert rows["majority"][0] == "4 of 4" and "majority, one class" not in rows
    facts = summaries.sweep_facts(swept)
    assert facts["minority"].startswith("one class in 2 runs; one class has no contrasts")
    assert "majority" not in facts


def test_provenance_is_plain(run):
    facts = summaries.facts(run(weight_exponent=1.0))
    assert "weight_exponent=1.0" in facts["settings"] and "finished" in facts["status"]
    commit = run().attrs["git_commit"].split("+")[0]
    assert commit == "unknown" or len(commit) == 40
    assert json.loads(run().attrs["config"])["num_classes"] == 4


def test_times_say_how_they_are_spaced(tiny, run):
    """Also of runs and sweeps of earlier versions, whose times do not."""
    for spacing in ("linear", "log"):
        swept = ssm.sweep({"seed": [0, 1]}, tiny(loss="squared", save_spacing=spacing))
        for dataset in (run(loss="squared", save_spacing=spacing), swept):
            times = dataset["flow_time" if "flow_time" in dataset.coords else "time"]
            assert times.attrs["spacing"] == datasets.time_spacing(dataset) == spacing
            bare = dataset.assign_coords({times.name: times.drop_attrs()})
            assert datasets.time_spacing(bare) == spacing
    both = ssm.sweep({"save_spacing": ["linear", "log"]}, tiny(loss="squared"))
    assert "spacing" not in both["flow_time"].attrs and datasets.time_spacing(both) == "linear"
    tracked = ssm.track(np.eye(3)[None], [0, 1, 2])
    assert datasets.time_spacing(tracked) == "linear"


def test_statuses_are_their_words_and_say_what_to_do(run):
    assert Status.OUT_OF_STEPS == "out of steps" == str(Status("out of steps"))
    good = {Status.FINISHED, Status.MARGIN_REACHED, Status.TRACKED}
    assert {status for status in Status if not status.remedy} == good
    assert {status for status in Status if not status.warning} == good
    for status in set(Status) - good:
        assert status.warning.isprintable() and status.remedy in status.warning
    assert all(len(status) <= 14 for status in Status)  # which is what sweeps have room for
    few = run(max_steps=20)
    assert type(few.attrs["status"]) is str
    assert summaries.facts(few)["remedy"] == Status.OUT_OF_STEPS.remedy
    assert "remedy" not in summaries.facts(run())


def test_the_table_names_what_runs_have(run):
    """What is kept of a run, by its Config, and by the table."""
    for changes in (
        {},
        {"save_state": True},
        {"coupling": 1.0, "save_state": True},
        {
            "clock": "loss",
            "stop_margin": 20.0,
            "geometry": True,
            "solver": "rkl2",
            "save_state": True,
        },
    ):
        dataset = run(**changes)
        config = ssm.Config.from_json(dataset.attrs["config"])
        named = {name for name in schema.SWEPT if schema.has_variable(name, config)}
        found = {*map(str, dataset.variables), *dataset.attrs} & {*schema.VARIABLES}
        named |= {"last_parameters"} if config.save_state else set()
        if config.column_kind == "classes" and config.save_state:
            found = (found - {"H"}) | {"class_H"}
        assert found == (named - {"flow_time"}) | {"time"}
        for name in found & {*dataset.variables} - {"H"}:
            assert dataset[name].dims == schema.VARIABLES[name].dims
