"""The harness of the benchmarks: its table, its medians, its accuracies, and what it refuses."""

import json
import re
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import ssm
from benchmarks import __main__ as main
from benchmarks import (
    classifiers,
    following,
    gpu,
    machine,
    many_classes,
    table,
    timing,
    tracking,
    training,
    uncertainty,
    watching,
)
from benchmarks.limits import copies_moved
from benchmarks.peers import by_torch, matching, numpy_model
from benchmarks.table import Row
from ssm import Config, geometry, preparation
from ssm.practice.options import SCORES


def test_a_target_is_met_or_not():
    assert Row("a", "1 ms", 1.5, "limit", at_most=2).met is True
    assert Row("a", "1 ms", 2.5, "limit", at_most=2).met is False
    assert Row("a", "1 ms", 12.0, "ours", at_least=10).met is True
    assert Row("a", "1 ms", 8.0, "ours", at_least=10).met is False
    assert Row("a", "1 ms", 8.0, "ours").met is None
    assert Row("a", "1 ms", at_most=2).cells() == ("a", "1 ms", "", "", "", "")
    assert Row("a", "> 1 s", 8.0, "ours", lower_bound=True).cells()[2:4] == ("> 8", "ours")


def test_the_file_has_the_machine_and_every_row():
    found = {"batch": [Row("ours", "3 ms a run", 1.5, "limit", at_most=2)], "many": [Row("x", "1")]}
    text = table.markdown(found, {"memory": "8 GiB"}, {"batch": "said.", "many": "told."})
    assert "- memory: 8 GiB" in text
    assert "## batch\n\nsaid.\n\n| what | measured | ratio | to | target | met |" in text
    assert "| ours | 3 ms a run | 1.5 | limit | <= 2 | yes |" in text
    assert table.screen(found).row_count == 2


def test_the_machine_is_described_without_its_name():
    described = machine.describe()
    assert {"processor", "memory", "versions"} <= set(described)
    assert "numpy" in described["versions"]


def test_medians_leave_out_the_first_call(monkeypatch):
    took = iter([5.0, 1.0, 3.0])
    monkeypatch.setattr(timing, "seconds", lambda work: next(took))
    calls = []
    assert timing.medians({"a": lambda: calls.append(1)}, 3) == {"a": 3.0}
    assert len(calls) == 1


def test_medians_are_of_the_measure_that_is_asked_for():
    took = iter([1.0, 7.0, 3.0])

    def measure(work):
        work()
        return next(took)

    calls = []
    assert timing.medians({"a": lambda: calls.append(1)}, 3, measure) == {"a": 3.0}
    assert len(calls) == 4


def test_processor_seconds_leave_out_what_is_waited_for():
    assert timing.processor_seconds(lambda: time.sleep(0.2)) < 0.1
    assert timing.processor_seconds(lambda: sum(range(10**5))) > 0


def test_a_log_to_be_tracked_has_every_class_and_is_centred(tmp_path):
    path = tmp_path / "log.npy"
    tracking.write_log(path, 3, 60, 5)
    log, counts = np.load(path), np.bincount(tracking.labels_of(60, 5), minlength=5)
    assert log.shape == (3, 60, 5) and counts.min() > 0 and len(set(counts)) > 1
    np.testing.assert_allclose(log.sum(axis=2), 0, atol=1e-14)  # rounding, of numbers of size 3
    assert set(tracking.measure_seconds(str(path), 1, 1)) == {"ours", "plain", "limit"}


def test_a_loop_is_priced_by_the_parts_of_each_round():
    """Medians of ratios, not ratios of medians: of rounds in which the machine was slow as a whole both parts were."""
    seconds = {"training": [1.0, 10.0, 2.0], "probe": [0.5, 5.0, 1.0], "add": [0.01, 0.2, 0.06]}
    seconds["logits"] = seconds["add"]
    found = following._medians(seconds)
    assert found["add"] == 0.06 and found["training"] == 2.0
    assert found["add over training"] == pytest.approx(0.02)
    assert found["probe over training"] == pytest.approx(0.5)


def test_without_torch_only_the_memory_of_a_probe_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(following.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(timing, "in_fresh_process", lambda *given, **more: 2**29)
    (row,) = following.rows(True, str(tmp_path))
    assert row.ratio == 0.5 and row.met is True
    assert following.measure_memory(n=400, k=5, batches=3, d=8) >= 0


@pytest.mark.parametrize("network", ["wide", "narrow"])
def test_a_loop_in_torch_is_followed(network, monkeypatch, tmp_path):
    """A probe of few images, of which the log holds each step."""
    pytest.importorskip("torch")
    monkeypatch.setattr(following, "PROBE", 30)
    monkeypatch.setattr(following, "EVERY", 1)
    parts = following._loop(network, tmp_path / "log.zarr")
    for _ in range(2):
        for part in parts.values():
            part()
    assert {"nc1", "seli_distance"} <= {*ssm.load(tmp_path / "log.zarr").data_vars}


def test_every_item_meets_one_core():
    seen = []
    timing.on_all_cores(seen.append, range(7))
    assert sorted(seen) == list(range(7))


def test_a_peer_gets_the_loosest_tolerance_that_is_accurate_enough():
    reference = np.linspace(0, 2, 5)[:, None]
    rtol, error = matching.match(lambda r: [reference + r], [reference], 1e-2, [1e-1, 1e-2, 1e-3])
    assert rtol == 1e-2
    np.testing.assert_allclose(error, 0.5e-2, rtol=1e-12)
    assert matching.match(lambda r: [reference + r], [reference], 0.0, [1e-1, 1e-2])[0] == 1e-2


def test_bytes_moved_grow_with_the_steps():
    limits = pytest.importorskip("benchmarks.limits")
    assert limits.num_evaluations(10) == 62
    # six stages read the state, 1 to 6 slopes, and write one: 33; and the new state: 34
    assert limits.copies_moved(10, 0) == 340
    assert limits.copies_moved(0, 20) == 160


def test_dense_matrices_give_the_same_distance_to_seli():
    counts = np.array([4, 1, 2])
    generator = np.random.default_rng(0)
    W, H = generator.normal(size=(3, 5)), generator.normal(size=(5, 7))
    indicators = np.repeat(np.eye(3), counts, axis=0)
    means = H @ indicators / counts
    apart = H - means @ indicators.T
    own = geometry.distances(W, means, apart @ apart.T, counts, geometry.seli(counts))
    # both are sums of some 50 products of numbers of order 1, each rounded to 1e-16
    np.testing.assert_allclose(numpy_model.seli_distance(W, H, counts.tolist()), own, rtol=1e-13)


def test_a_process_of_its_own_answers(tmp_path):
    assert timing.in_fresh_process("math:gcd", tmp_path) == 0
    with pytest.raises(RuntimeError, match="failed in its own process"):
        timing.in_fresh_process("math:nothing", tmp_path)


def test_bad_names_are_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(main.sys, "argv", ["benchmarks", "nonsense", "--quick"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert "nonsense" in said.err


def test_missing_peers_are_named(monkeypatch):
    from benchmarks import peers
    from ssm import InputError

    monkeypatch.setattr(peers, "PACKAGES", ("json", "no_such_package"))
    with pytest.raises(InputError, match="not installed: no_such_package"):
        peers.require()
    assert json  # the one that is there is not named


def test_an_accelerator_is_asked_for_before_anything_is_measured(monkeypatch, capsys):
    found = {"device": "cpu", "platform": "cpu"}
    monkeypatch.setattr(gpu.timing, "in_fresh_process", lambda *names, **asked: found)
    monkeypatch.setattr(main.sys, "argv", ["benchmarks", "gpu"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said == ("benchmarks: benchmark='gpu': must be left out where JAX finds no accelerator")


def test_the_operations_of_a_program_are_those_that_are_not_merged():
    def program(x):
        return jax.lax.while_loop(lambda x: (x < 9).all(), lambda x: jnp.sin(x @ x) @ x, x)

    text = jax.jit(program).lower(np.eye(4)).compile().as_text()
    assert text is not None
    counted = gpu._operations(text, least=1)
    # the loop itself, and in it two products and a sine, of whose result newer versions of XLA make a copy
    assert "main" in "".join(counted) and max(counted.values()) in (3, 4)


def test_bytes_of_a_batch_are_those_of_its_runs():
    found = {"runs": 7, "state_bytes": 80, "observed_bytes": 300.0, "most_steps": 5}
    bytes_moved = gpu._bytes(found)
    assert bytes_moved["chip"] == 7 * 380
    assert bytes_moved["memory"] == 7 * 380 + 7 * 80 * copies_moved(5, 0)


def test_a_score_to_stop_by_is_chosen_on_one_half_and_judged_on_the_other():
    """Of merits made up: the best on the first half is the worst on the second."""
    first, second = classifiers.HALVES
    assert len({*first, *second}) == 12
    merits = {"to the end": (0.5, 0.5)} | dict.fromkeys(SCORES, (0.6, 0.6))
    merits[SCORES[1]] = (0.9, 0.1)
    rows = [
        dict.fromkeys(classifiers.MEASURES, merits[score][half])
        | {"data": data, "model": f"{weights}, {score}"}
        for weights in classifiers.WEIGHTS
        for score in merits
        for half, names in enumerate(classifiers.HALVES)
        for data in names
    ]
    said = classifiers.report(pd.DataFrame(rows))
    assert f"chosen: {SCORES[1]}; on the other half 0.1000, to the end 0.5000" in said
    assert f"chosen: {SCORES[0]}; on the other half 0.6000, to the end 0.5000" in said


def test_both_classifiers_make_as_many_steps_with_the_same_network():
    X, y = training._data(200)
    ours, theirs = training.fit_ours(X, y, 3), training.fit_theirs(X, y, 3)
    assert ours.n_steps_ == theirs.t_ / 200 * 2 == 6
    shapes = [layer.kernel.shape for layer in ours.params_]
    # features are padded to eights; scikit-learn has one logit for two classes
    assert shapes == [(32, 64), (64, 2)]
    assert [kernel.shape for kernel in theirs.coefs_] == [(30, 64), (64, 1)]


def test_torch_takes_the_same_step_and_gives_the_parameters_back():
    """Without a step the parameters come back as they were; the step itself is checked in each run."""
    pytest.importorskip("torch")
    images = np.random.default_rng(0).random((8, 28 * 28), np.float32)
    with jax.enable_x64(False):
        begun = training._begun(images, np.arange(8), 1)
        theirs = by_torch.Convolutional(begun.params, 28, 1)
        found = theirs.params()
        for one, other in zip(jax.tree.leaves(begun.params), found, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_peer_of_a_descent_takes_its_steps_from_its_start():
    config = Config(num_classes=4, minority_count=2, optimizer="gd", num_steps=30, num_saves=4)
    made, ours = numpy_model.NumpyModel(config), preparation.prepare(config)
    assert made.times[-1] == 30
    np.testing.assert_array_equal(made.W, ours.flow.params.W)


def test_a_benchmark_that_fails_costs_no_other(monkeypatch, tmp_path, capsys):
    def run_one(name, quick, report):
        if name == "many":
            raise ValueError("out of luck")
        return [Row("ours", "3 ms a run", 1.5, "limit", at_most=2)], "said."

    monkeypatch.setattr(main, "run_one", run_one)
    out = tmp_path / "results.md"
    monkeypatch.setattr(sys, "argv", ["", "work", "many", "large", "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert stop.value.code == 1
    assert re.findall("^## (.*)", out.read_text(), re.MULTILINE) == ["work", "large"]
    shown = capsys.readouterr()
    assert "out of luck" in shown.err and "2 of 2 targets met" in shown.out


def test_the_log_that_is_watched_has_each_case_twice(tmp_path):
    """Once without and once with its label; nothing is amiss in it."""
    rows = watching.write_log(tmp_path / "log.csv", 10_400)
    log = pd.read_csv(tmp_path / "log.csv")
    assert len(log) == rows == 10_400
    assert np.sum(log["label"].notna().to_numpy()) == log["id"].nunique() == 5200
    found = watching.measure(str(tmp_path / "log.csv"))
    assert found["seconds"] > 0 and found["memory"] > 2**20
    said = json.loads((tmp_path / "page" / "watch.json").read_text())
    assert said["rows"]["labelled_later"] == 5200 and said["advice"]["action"] == "nothing"


@pytest.mark.parametrize("loss", ["cross_entropy", pytest.param("squared", marks=pytest.mark.slow)])
def test_every_class_of_a_dense_run_is_held_against_theory(loss):
    """As many classes as take a second: what is measured of a thousand holds of these."""
    found = many_classes.measure_dense(20, loss)
    assert found["num_steps"] > 10 and found["difference"] < 1e-7


def test_uncertainty_is_held_against_the_same_draws():
    """One draw of the smaller data: each weighting has its scores, and decisions for equal shares those of the same probabilities."""
    found = uncertainty.scores("breast cancer", False, 0)
    assert set(found) == {*uncertainty.SCHEDULES, "none, for equal shares"}
    assert all(0.5 < right <= 1 and 0.5 < precision <= 1 for right, precision in found.values())
    assert found["none"][1] == found["none, for equal shares"][1]
    assert uncertainty.difference(np.array([0.3, 0.5]), np.array([0.2, 0.4])).startswith("+0.100 (")


def test_the_network_that_is_trained_beside_torch_is_prepared(rng):
    images, labels = rng.normal(size=(10, training.SIDE**2)).astype("float32"), np.arange(10)
    task, options, params = training._begun(images, labels, 7)
    assert options.evaluate_every == 7 and task.num_samples == 10
    # two convolutions of 3 x 3 with 16 and 32 channels, and a layer from 7 x 7 places to 10 classes
    number = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert number == (9 + 1) * 16 + (9 * 16 + 1) * 32 + (7 * 7 * 32 + 1) * 10
