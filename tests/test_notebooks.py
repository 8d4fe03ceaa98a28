"""Progress bars of calls: silent in scripts, in a kernel a display that is updated and goes away."""

import io
import sys
import time
import types
from typing import Any

import pytest

import ssm
from ssm.support import notebooks


class Handle:
    def __init__(self, shown):
        self.shown = shown

    def update(self, data, raw):
        assert raw
        self.shown.append(data["text/html"])


@pytest.fixture
def kernel(monkeypatch):
    """An IPython in a kernel, and what it is asked to display."""
    shown = []

    def display(data, raw, display_id):
        assert raw and display_id and not shown, "one display, which is updated"
        shown.append(data["text/html"])
        return Handle(shown)

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    displays: Any = types.ModuleType("IPython.display")
    displays.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    return shown


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing was shown")


def test_a_kernel_is_known_without_importing_it(kernel, monkeypatch):
    assert notebooks.in_kernel()
    in_terminal: Any = types.ModuleType("IPython")  # whose shell has no kernel
    in_terminal.get_ipython = lambda: types.SimpleNamespace()
    for other in (in_terminal, types.ModuleType("IPython"), None):
        monkeypatch.setitem(sys.modules, "IPython", other)
        assert not notebooks.in_kernel()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not notebooks.in_kernel() and "IPython" not in sys.modules


def test_a_bar_is_shown_moves_and_goes_away(kernel, monkeypatch):
    monkeypatch.setattr(notebooks, "PATIENCE", 0.0)
    monkeypatch.setattr(notebooks, "PAUSE", 0.01)
    with notebooks.shown("a & b", None) as report:
        assert report is not None
        report(0.25)
        wait_for(lambda: any("a &amp; b: 25%" in bar for bar in kernel))
        assert 'value="0.25" max="1"' in kernel[-1]
        report(0.5)
        wait_for(lambda: "50%" in kernel[-1] and "left" in kernel[-1])
    assert kernel[-1] == ""


def test_short_work_shows_none(kernel):
    with notebooks.shown("simulating", None) as report:
        assert report is not None
        report(0.5)
    assert not kernel


def test_it_goes_away_where_work_is_broken_off(kernel, monkeypatch):
    monkeypatch.setattr(notebooks, "PATIENCE", 0.0)
    with pytest.raises(KeyboardInterrupt), notebooks.shown("simulating", True):
        wait_for(lambda: kernel)
        raise KeyboardInterrupt
    assert kernel[-1] == ""


def test_words_of_a_sweep_have_runs_rate_and_time_left():
    bar = notebooks.Bar("sweeping", runs=True)
    assert bar.words(0.0).startswith("sweeping: 0 of 1 runs")
    bar.report(100, 1000)
    assert bar.first is not None
    bar.report(300, 1000)  # 200 runs in 8 s; 700 are left, at 25 a second 28 s
    words = bar.words(bar.first[0] + 8.0)
    assert words == "sweeping: 300 of 1000 runs, 25 runs/s, 0:00:28 left"


def test_silent_in_scripts_and_where_it_is_not_wanted(kernel, monkeypatch):
    with notebooks.shown("simulating", False) as report:
        assert report is None
    monkeypatch.delitem(sys.modules, "IPython")
    with notebooks.shown("simulating", None) as report:
        assert report is None


def test_a_function_stays_a_function(kernel):
    with notebooks.shown("simulating", print) as report:
        assert report is print


@pytest.mark.parametrize(("runs", "done"), [(False, (0.5,)), (True, (3, 7))])
def test_a_terminal_has_the_bar_of_the_commands(monkeypatch, runs, done):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with notebooks.shown("going on", True, runs=runs) as report:
        assert report is not None
        report(*done)
    assert "going on" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    with notebooks.shown("going on", True, runs=runs) as report:
        assert report is not None
        report(*done)
    assert "going on" not in pipe.getvalue()


@pytest.mark.parametrize(
    "call", [ssm.simulate, lambda _, progress: ssm.sweep({"seed": [0]}, progress=progress)]
)
def test_progress_is_a_function_or_a_choice(untyped, call):
    with pytest.raises(
        ssm.InputError, match=r"^progress='yes': must be a function.*True or False$"
    ):
        call(ssm.Config(), progress="yes")


def test_runs_and_sweeps_show_theirs(kernel, monkeypatch, tiny):
    monkeypatch.setattr(notebooks, "PATIENCE", 0.0)
    monkeypatch.setattr(notebooks, "PAUSE", 0.01)
    ssm.simulate(tiny(loss="squared"))
    assert any("simulating" in bar for bar in kernel) and kernel[-1] == ""
    kernel.clear()
    ssm.sweep({"seed": range(3)}, tiny(loss="squared"))
    assert any("of 3 runs" in bar for bar in kernel) and kernel[-1] == ""


@pytest.mark.slow
def test_a_real_kernel_shows_the_bar():
    """One display, made once and updated, then emptied; what the run returns is shown after it."""
    reason = "no notebook can be run without it"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    code = (
        "import ssm\nfrom ssm.support import notebooks\nnotebooks.PATIENCE, notebooks.PAUSE = 0.0, 0.05\n"
        "config = ssm.Config(num_classes=4, feature_dim=6, num_saves=20, loss='squared')\n"
        "run = ssm.simulate(config)\nconfig"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    changes = []
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3")
    hear = client.process_message

    def process(msg, cell, cell_index):
        if msg["msg_type"] in ("display_data", "update_display_data"):
            changes.append((msg["msg_type"], msg["content"]["data"]["text/html"]))
        return hear(msg, cell, cell_index)

    client.process_message = process
    client.execute()
    kinds, texts = zip(*changes, strict=True)
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"}
    assert "<progress" in texts[0] and "simulating" in texts[0] and texts[-1] == ""
    *_, last = notebook.cells[0].outputs
    assert last.output_type == "execute_result" and "<table>" in last.data["text/html"]
