"""What helps on the shell: `ssm doctor`, completion, and the picture that suits a store."""

import importlib.metadata
import shutil
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

import ssm
from ssm.cli import commands, doctor
from ssm.plots import runs
from ssm.support import machine


def verdicts(part):
    return {finding.what: finding.verdict for finding in part()}


def examined(monkeypatch, capsys, *parts):
    """Print the findings of some parts alone: exit code and lines."""
    monkeypatch.setattr(doctor, "findings", lambda: (each for part in parts for each in part()))
    code = 0
    try:
        doctor.Doctor()()
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().out.splitlines()


def test_a_sound_installation_has_no_fault(monkeypatch, capsys):
    """But for the smoke run, which is held to its closed form in the next test."""
    parts = (doctor._versions, doctor._imports, doctor._extras, doctor._machine, doctor._devices)
    code, lines = examined(monkeypatch, capsys, *parts, doctor._explorer, doctor._store)
    assert code == 0 and lines[-1] == "no faults"
    for name in ("ssm", "jax", "numpy", "xarray", "zarr", "matplotlib"):
        own = "small-scale-model" if name == "ssm" else name
        assert f"ok     {name:<18} {importlib.metadata.version(own)}" in lines
    assert all(line[:7] in ("ok     ", "note   ") for line in lines[:-2])
    assert any(line.split()[:2] == ["ok", "store"] for line in lines)


def test_the_smoke_run_is_held_against_the_closed_form(monkeypatch, capsys):
    """It is right; with a start that is not the run's, or with no numbers at all, it is a fault."""
    from ssm.theory import exact

    (finding,) = doctor._smoke_run()
    assert finding.verdict == "ok" and "s cold" in finding.found
    right = exact.balanced_flow
    for wrong in (lambda *given: 1.01 * right(*given), lambda *given: np.nan * right(*given)):
        with monkeypatch.context() as patch:
            patch.setattr(exact, "balanced_flow", wrong)
            (finding,) = doctor._smoke_run()
        assert finding.verdict == "fault" and finding.remedy


def test_a_missing_package_is_a_fault_and_a_missing_extra_a_note(monkeypatch, capsys):
    def version(name):
        if name in ("zarr", "distributed"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    code, lines = examined(monkeypatch, capsys, doctor._versions, doctor._extras)
    assert code == 1 and lines[-1] == "1 fault"
    where = lines.index(f"fault  {'zarr':<18} not installed")
    assert lines[where + 1].split()[:2] == ["->", "python"]
    assert any(
        line.startswith("note   distributed") and "pip install distributed" in line
        for line in lines
    )


def test_a_package_that_cannot_be_imported_is_a_fault(monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    found = verdicts(doctor._imports)
    assert found == {"import zarr": "fault"}


def test_a_folder_of_compiled_programs_that_cannot_be_used(monkeypatch, tmp_path):
    """A file stands in its place, which stops root as well."""
    (tmp_path / "taken").write_text("")
    config: Any = jax.config  # whose fields are made at run time
    before = config.jax_compilation_cache_dir
    monkeypatch.setattr(machine, "use_compilation_cache", lambda: None)
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "taken"))
        (finding,) = doctor._cache()
        assert finding.verdict == "fault" and str(tmp_path / "taken") in finding.remedy
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "new"))
        assert verdicts(doctor._cache) == {"compiled programs": "ok"}
        jax.config.update("jax_compilation_cache_dir", None)
        assert verdicts(doctor._cache) == {"compiled programs": "fault"}
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_whatever_breaks_is_a_finding_and_the_rest_is_looked_at(monkeypatch):
    def broken():
        raise RuntimeError("of any kind")

    names = [name for name in vars(doctor) if name.startswith("_") and name[1:2].isalpha()]
    parts = [name for name in names if name not in ("_words",)]
    for name in parts:
        broken.__name__ = name
        monkeypatch.setattr(doctor, name, broken)
    found = list(doctor.findings())
    assert len(found) == 9 and {finding.verdict for finding in found} == {"fault"}
    assert all("of any kind" in finding.found and finding.remedy for finding in found)


def completions(script, *words):
    """What bash offers for the last of some words."""
    drive = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ssm; '
    drive += 'printf "%s\\n" "${COMPREPLY[@]}"'
    arguments = ["bash", "-c", drive, "bash", str(script), "ssm", *words]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split("\n")) - {""}


def printed_script(monkeypatch, capsys, shell):
    monkeypatch.setattr(sys, "argv", ["ssm", "completion", shell])
    commands.main()
    return capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_flags_and_choices(monkeypatch, capsys, tmp_path):
    script = tmp_path / "completion.bash"
    script.write_text(printed_script(monkeypatch, capsys, "bash"))
    assert {"run", "sweep", "plot", "doctor", "completion"} <= completions(script, "")
    assert completions(script, "sw") == {"sweep"}
    assert completions(script, "run", "--imb") == {"--imbalance-ratio"}
    fields = {f"--{name.replace('_', '-')}" for name in ssm.Config.__dataclass_fields__}
    flags = completions(script, "run", "--")
    assert fields <= flags and all(flag.startswith("--") for flag in flags)
    losses = {"cross_entropy", "squared", "logit_adjustment", "cdt", "vs", "ldam", "focal", "own"}
    assert completions(script, "run", "--loss", "") == losses
    assert completions(script, "plot", "x.zarr", "--kind", "he") == {"heatmap", "held_out"}
    assert completions(script, "show", "my") == set()  # left to the names of files
    registered = 'source "$1"; complete -p ssm'
    done = subprocess.run(
        ["bash", "-c", registered, "bash", str(script)], capture_output=True, text=True
    )
    assert "-o default" in done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_name_commands_and_flags(monkeypatch, capsys, tmp_path, shell):
    script = printed_script(monkeypatch, capsys, shell)
    assert "imbalance-ratio" in script and "doctor" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def stored(variables=(), axes=()):
    """A stand-in for a store: its axes and variables are all that a kind is picked by."""
    names = ("status", *(("time", "loss") if not axes else ()), *variables)
    sizes = dict(axes)
    values = {name: (tuple(sizes), np.zeros([len(v) for v in sizes.values()])) for name in names}
    if not axes:
        del values["status"]
    return xr.Dataset(values, coords=sizes)


OF_A_RUN = {"blocks", "classes", "accuracy", "loss", "singular_values"}
PICKED = [
    (stored(), "blocks", OF_A_RUN),
    (stored().drop_vars("loss"), "blocks", OF_A_RUN - {"loss"}),  # tracked logits
    (stored(["seli_distance"]), "geometry", OF_A_RUN | {"geometry"}),
    (stored(["held_out_accuracy"]), "held_out", OF_A_RUN | {"held_out"}),
    (stored(axes=[("coupling", [0.0, 1.0])]), "curves", {"curves"}),
    (stored(axes=[("seed", [0, 1])]), "curves", {"curves"}),
    (stored(axes=[("coupling", [0.0, 1.0]), ("seed", [0, 1])]), "curves", {"curves", "heatmap"}),
    (stored(axes=[("coupling", [0.0]), ("depth", [2, 3])]), "heatmap", {"curves", "heatmap"}),
    (stored(axes=[("loss", ["cdt", "vs"]), ("depth", [2, 3])]), "curves", {"curves"}),
    (stored(axes=[("loss", ["cdt", "vs"])]), None, set()),
]


@pytest.mark.parametrize(("dataset", "first", "allowed"), PICKED)
def test_the_kind_of_picture_that_suits_a_store(dataset, first, allowed):
    kinds = runs.kinds(dataset)
    assert next(iter(kinds), None) == first and set(kinds) == allowed


def test_the_number_of_axes_decides_between_the_pictures_of_a_sweep():
    dataset = stored(axes=[("coupling", [0.0, 1.0]), ("depth", [2, 3]), ("seed", [0, 1])])
    assert runs.kinds(dataset, ["depth"])[0] == "curves"
    assert runs.kinds(dataset, ["depth", "seed"])[0] == "heatmap"


def test_plot_says_what_it_picked(monkeypatch, capsys, tmp_path, rng):
    monkeypatch.chdir(tmp_path)
    ssm.save(ssm.track(rng.normal(size=(2, 4, 2)), [0, 0, 0, 1]), tmp_path / "log.zarr")
    monkeypatch.setattr(sys, "argv", ["ssm", "plot", "log.zarr"])
    commands.main()
    assert capsys.readouterr().out.splitlines() == [
        "log-blocks.png",
        "kind blocks, which suits this store best; --kind can also be classes, accuracy, singular_values, network",
    ]
