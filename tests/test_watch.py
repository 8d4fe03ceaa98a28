"""A watch from log to page: what is found and how soon, that it goes on after any kill, and what it says."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ssm
from ssm.cli import main
from ssm.practice.decisions import shares
from ssm.practice.deployment import cards
from ssm.practice.watching import advice, records, states, summaries
from ssm.practice.watching import watch as watching
from ssm.practice.watching.models import Model
from ssm.practice.watching.progress import Settings
from ssm.practice.watching.watch import Watch

WEEK, START = 7 * 86400, 1704067200  # the first is Monday, 2024-01-01
FAR = 2.6  # between the means of the two classes


def year(rng, weeks, a_week, share=lambda week: 1 / 11, distance=lambda week: FAR, lag=0):
    """Cases of two normal classes, whose probabilities are calibrated for shares 1 to 10 and means 2.6 apart: a table of
    times, probabilities and labels, which come `lag` seconds later."""
    parts = []
    for week in range(weeks):
        ill = rng.random(a_week) < share(week)
        x = rng.normal(size=a_week) + distance(week) * ill
        odds = 0.1 * np.exp(FAR * x - FAR**2 / 2)
        seconds = np.sort(rng.integers(0, WEEK, a_week)) + START + week * WEEK
        parts.append(pd.DataFrame({"seconds": seconds, "p": odds / (1 + odds), "ill": ill}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(id=np.arange(len(table)), known=table["seconds"] + lag)


def written(table, path, labelled=True):
    """The log of a table: a line for each case, and later one more with its label, if that lags."""
    cases = table.assign(at=table["seconds"], label=np.where(table["ill"], "ill", "well"))
    lagging = bool((table["known"] > table["seconds"]).any())
    lines = [cases.assign(label="") if lagging or not labelled else cases]
    if lagging:
        lines.append(cases.assign(at=table["known"])[table["known"] <= table["seconds"].max()])
    lines = pd.concat(lines).sort_values(["at", "id"], kind="stable")
    p = lines["p"].round(6)
    pd.DataFrame(
        {
            "time": pd.to_datetime(lines["seconds"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S"),
            "id": lines["id"],
            "p_ill": p,
            "p_well": (1 - p).round(6),
            "label": lines["label"],
        }
    ).to_csv(path, index=False)
    return path


def watched(log, out, model=None, **settings):
    watch = Watch(log, out, Settings(**settings), model)
    with watch.kept():
        watch.read()
    return summaries.summary(watch)


@pytest.fixture(scope="module")
def lagging(tmp_path_factory):
    """Ten weeks whose labels come ten days later; recall falls after the sixth."""
    rng = np.random.default_rng(0)
    table = year(rng, 12, 800, distance=lambda week: FAR if week < 6 else 1.0, lag=10 * 86400)
    return written(table, tmp_path_factory.mktemp("lagging") / "log.csv")


@pytest.fixture(scope="module")
def expected(lagging, tmp_path_factory):
    return watched(lagging, tmp_path_factory.mktemp("expected"))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(watching, "BLOCK", 20_000)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a line; its exit code and what it prints."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ssm", *map(str, words)])
        before = signal.getsignal(signal.SIGINT)
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            signal.signal(signal.SIGINT, before)
        return code, capsys.readouterr()

    return call


def test_windows_hold_what_the_table_has(tmp_path):
    """Counted by pandas, against the log read in blocks."""
    table = year(np.random.default_rng(1), 6, 500)
    found = watched(written(table, tmp_path / "log.csv"), tmp_path / "out", reference_windows=2)
    assert len(found["windows"]) == 6 and not found["windows"][-1]["closed"]
    for week, row in enumerate(found["windows"]):
        part = table[(table["seconds"] - START) // WEEK == week]
        decided = part["p"].round(6) > 0.5
        p, ill = part["p"].round(6), part["ill"]
        assert row["start"] == f"{pd.Timestamp(START + week * WEEK, unit='s'):%Y-%m-%d}"
        assert row["rows"] == 500 and row["labelled"] == [ill.sum(), (~ill).sum()]
        assert row["recall"][0][0] == pytest.approx((decided & ill).sum() / ill.sum())
        assert row["precision"][0][0] == pytest.approx((decided & ill).sum() / decided.sum())
        assert row["gap"][0][0] == pytest.approx((ill - p).mean(), abs=1e-6)
    first = table[table["seconds"] < START + 2 * WEEK]
    right = ((first["p"] > 0.5) & first["ill"]).sum() / first["ill"].sum()
    assert found["reference"]["recall"][0][0] == pytest.approx(right)


def test_blocks_and_restarts_make_no_difference(lagging, expected, small_blocks, tmp_path):
    """A log that grows by parts which end anywhere, each read by a new process, as it were."""
    assert watched(lagging, tmp_path / "blocks") == expected
    content, log = lagging.read_bytes(), tmp_path / lagging.name
    rng = np.random.default_rng(2)
    for end in [*np.sort(rng.integers(100, len(content), 7)), len(content)]:
        log.write_bytes(content[:end])
        found = watched(log, tmp_path / "parts")
    assert found == expected


def test_a_watch_that_breaks_off_anywhere_goes_on_to_the_same(
    lagging, expected, small_blocks, monkeypatch, tmp_path
):
    """Before and after each of the two writes of a block."""
    rng = np.random.default_rng(3)

    class Killed(Exception):
        pass

    def breaking(write):
        def wrapped(*arguments):
            when = rng.random()
            if when < 0.1:
                raise Killed
            write(*arguments)
            if when > 0.9:
                raise Killed

        return wrapped

    kills = 0
    with monkeypatch.context() as patched:
        patched.setattr(states, "write", breaking(states.write))
        append = watching.Cases.append
        patched.setattr(watching.Cases, "append", staticmethod(breaking(append)))
        while True:
            try:
                found = watched(lagging, tmp_path)
                break
            except Killed:
                kills += 1
    assert kills > 3 and found == expected


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from ssm.practice.watching import watch as watching
from ssm.practice.watching.progress import Settings
watching.BLOCK = 50_000
def kill():
    time.sleep(float(sys.argv[3])); os.kill(os.getpid(), signal.SIGKILL)
watch = watching.Watch(Path(sys.argv[1]), Path(sys.argv[2]), Settings(), None)
threading.Thread(target=kill, daemon=True).start()
with watch.kept():
    watch.read(lambda: time.sleep(0.02))
"""


@pytest.mark.slow
def test_a_watch_that_is_killed_goes_on_to_the_same(lagging, expected, tmp_path):
    """By SIGKILL, each time a little later, until it comes to the end."""
    rng, codes = np.random.default_rng(4), []
    while 0 not in codes:
        delay = str(rng.uniform(0.05, 0.1) * 2 ** len(codes))
        words = [sys.executable, "-c", KILLED, str(lagging), str(tmp_path), delay]
        root = Path(__file__).parents[1]
        codes.append(subprocess.run(words, cwd=root).returncode)
    assert -signal.SIGKILL in codes
    assert watched(lagging, tmp_path) == expected


def test_disorder_is_counted_and_changes_nothing_else(lagging, expected, tmp_path):
    """Rows that cannot be read, that repeat, that contradict, that come late or out of order, and one from the far future."""
    lines = lagging.read_text().splitlines()
    body = lines[1:]
    case = body[4000].split(",")
    broken = {
        10: ["no line at all", "2024-01-01T00:00:00,,0.5,0.5,", "2024-01-01,xa,0.9,0.9,"],
        500: ["soon,xb,0.5,0.5,", "2024-01-02T00:00:00,xc,0.5,0.5,sick"],
        900: ["2099-01-01T00:00:00,future,0.5,0.5,ill"],
        4001: [",".join(case), ",".join(case)],
        6000: [",".join([*case[:4], "neither"])],
    }
    last = next(line.split(",") for line in body[::-1] if not line.endswith(","))
    other = "ill" if last[4] == "well" else "well"
    messy = []
    for i, line in enumerate(body):
        messy += [line, *broken.get(i, [])]
    messy.append(",".join([*last[:4], other]))
    log = tmp_path / lagging.name
    log.write_text("\n".join([lines[0], *messy]) + "\n")
    found = watched(log, tmp_path / "out")
    assert found["rows"]["unreadable"] == {
        "line": 1,
        "id": 1,
        "time": 1,
        "probabilities": 1,
        "prediction": 0,
        "label": 2,
    }
    rows = found["rows"]
    assert (rows["duplicated"], rows["conflicting"], rows["ahead"]) == (2, 1, 1)
    assert rows["out_of_order"] == 1  # the row after the one from the future
    for part in ("alarms", "reference"):
        assert found[part] == expected[part]
    for ours, theirs in zip(found["windows"], expected["windows"], strict=True):
        # One more row in the log changes the order in which a sample is summed.
        if ours["shares"]:
            np.testing.assert_allclose(ours["shares"], theirs["shares"], rtol=1e-6)
        assert ours | {"shares": None} == theirs | {"shares": None}


def test_late_rows_are_counted_in_their_windows(tmp_path):
    """Rows of the second week that come in the fourth, and neighbours that are swapped."""
    table = year(np.random.default_rng(5), 5, 300)
    log = written(table, tmp_path / "log.csv")
    lines = log.read_text().splitlines()
    late, rest = lines[400:420], lines[:400] + lines[420:]
    rest[50], rest[51] = rest[51], rest[50]
    moved = rest[:1000] + late + rest[1000:]
    log.write_text("\n".join(moved) + "\n")
    found = watched(log, tmp_path / "out")
    assert found["rows"]["late"] == 20
    times = [line.split(",")[0] for line in moved[1:]]
    late_rows = range(999, 1019)
    earlier = [i for i in range(1, len(times)) if times[i] < times[i - 1] and i not in late_rows]
    assert found["rows"]["out_of_order"] == len(earlier) > 0
    assert [row["rows"] for row in found["windows"]] == [300] * 5


def test_shares_that_drift_are_known_two_windows_later(tmp_path):
    """From 1 : 10 to 1 : 30 at once, without labels since then: `test_watch_drift` has the error of many such windows."""
    rng = np.random.default_rng(6)
    table = year(rng, 7, 10_000, share=lambda week: 1 / 11 if week < 4 else 1 / 31)
    table.loc[table["seconds"] >= START + 4 * WEEK, "known"] += 10**9
    found = watched(written(table, tmp_path / "log.csv"), tmp_path / "out")
    row = found["windows"][5]  # the second of the new share; the third is open
    assert row["closed"] and not any(row["labelled"])
    assert row["shares"][0][0] == pytest.approx(1 / 31, rel=0.2)
    assert found["advice"]["action"] == "shares"
    assert found["advice"]["now"]["factors"][0] == pytest.approx(11 / 31, rel=0.25)


@pytest.mark.slow
def test_clean_years_seldom_alarm(tmp_path):
    """Five whole years from log to alarm: at a level of 5 % more than one has a probability of 2 %."""
    rng, alarmed = np.random.default_rng(7), 0
    for i in range(5):
        table = year(rng, 52, 300)
        found = watched(written(table, tmp_path / f"{i}.csv"), tmp_path / str(i))
        alarmed += bool(found["alarms"])
        assert found["advice"]["action"] == "nothing"
    assert alarmed <= 1


def card_of(path, **changed):
    performance = cards.Performance(confusion=((300, 100), (40, 3960)))
    parts: dict[str, Any] = {
        "model": "LogisticRegression()",
        "classes": ["ill", "well"],
        "data": cards.Data("a ward", num_rows=4400, class_counts=(400, 4000)),
        "training": cards.Training(class_shares=(1 / 11, 10 / 11), class_weights=(1, 1)),
        "probabilities_for": (1 / 11, 10 / 11),
        "performance": performance,
    }
    cards.write_card(cards.Card(**parts | changed), path)
    return path


def test_a_card_is_the_reference_from_the_first_window_on(tmp_path):
    """A model that is worse than its card from the beginning is to be rolled back."""
    table = year(np.random.default_rng(8), 4, 3000, distance=lambda week: 1.6)
    model = Model.of_card(card_of(tmp_path / "card.json"))
    found = watched(written(table, tmp_path / "log.csv"), tmp_path / "out", model)
    assert found["reference"]["recall"][0][0] == pytest.approx(0.75)
    assert found["advice"]["action"] == "roll_back"
    recall = next(alarm for alarm in found["alarms"] if alarm["metric"] == "recall")
    assert recall["class"] == "ill" and recall["since"] == "2024-01-01"


@pytest.mark.parametrize(
    ("rule", "p_ill"),
    [
        (cards.Rule("threshold", label="ill", threshold=0.2), 0.2),
        (cards.Rule("costs", costs=((0, 4), (1, 0))), 0.2),
        (cards.Rule("shares", shares=(0.5, 0.5)), 1 / 11),
        (cards.Rule("trained"), 0.5),
    ],
)
def test_the_cards_rule_decides_where_the_log_does_not(tmp_path, rule, p_ill):
    """Just below and just above where it should."""
    model = Model.of_card(card_of(tmp_path / "card.json", rule=rule))
    p = np.array([p_ill - 1e-6, p_ill + 1e-6])
    assert model.decide(np.column_stack([p, 1 - p])).tolist() == [1, 0]


def test_a_log_of_decisions_alone(tmp_path):
    """Without probabilities or ids: recall, precision and shares by the confusion matrix; windows by numbers of rows."""
    rng = np.random.default_rng(9)
    share = np.where(np.arange(12_000) < 8000, 0.5, 0.2)
    true = np.where(rng.random(12_000) < share, "a", "b")
    wrong = rng.random(12_000) < 0.1
    decided = np.where(wrong, np.where(true == "a", "b", "a"), true)
    log = tmp_path / "log.csv"
    times = START + np.arange(12_000)
    table = pd.DataFrame({"time": times, "prediction": decided, "label": true})
    table.to_csv(log, index=False)
    found = watched(log, tmp_path / "out", Model(("a", "b")), window="1000")
    last = found["windows"][-2]
    assert last["closed"] and last["rows"] == 1000 and last["gap"] is None
    assert last["shares"][0][0] == pytest.approx(0.2, abs=0.06)
    assert last["shares"][0][1] < 0.2 < last["shares"][0][2]
    assert found["advice"]["action"] == "shares"


def test_the_exit_code_says_whether_there_is_an_alarm(command, lagging, tmp_path):
    rng = np.random.default_rng(10)
    clean = written(year(rng, 6, 300), tmp_path / "clean.csv")
    code, said = command("watch", clean, "--out", tmp_path / "clean")
    assert code == 0 and said.out.startswith("Nothing to do.")
    code, said = command("watch", lagging, "--out", tmp_path / "page")
    assert code == 3 and "alarm: recall of ill" in said.out
    assert command("watch", lagging, "--out", tmp_path / "page")[0] == 3
    found = json.loads((tmp_path / "page" / "watch.json").read_text())
    assert found["alarms"]


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ("--window month", "window"),
        ("--window 0", "window"),
        ("--level 1", "level"),
        ("--follow 0", "follow"),
        ("--card none.json", "card"),
        ("--classes a,b", "with p_a, p_b"),
        ("--reference-windows 0", "reference_windows"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(command, lagging, tmp_path, flags, what):
    code, said = command("watch", lagging, "--out", tmp_path / "out", *flags.split())
    assert code == 2 and what in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_watch_of_the_same_folder_is_refused(command, lagging, tmp_path):
    out = tmp_path / "out"
    command("watch", lagging, "--out", out)
    code, said = command("watch", lagging, "--out", out, "--level", "0.01")
    assert code == 2 and "0.05" in said.err
    log = tmp_path / "changed.csv"
    content = bytearray(lagging.read_bytes())
    content[5000:5001] = b"9" if content[5000:5001] != b"9" else b"8"
    log.write_bytes(content)
    code, said = command("watch", log, "--out", out)
    assert code == 2 and "only grow" in said.err
    log.write_bytes(lagging.read_bytes()[:-1000])
    assert command("watch", log, "--out", out)[0] == 2
    (out / states.STATE).write_bytes(b"PK nonsense")
    assert command("watch", lagging, "--out", out)[0] == 2


def test_a_log_is_followed_until_ctrl_c(command, lagging, tmp_path):
    """It grows meanwhile past the alarm; the page is that of all of it, and the exit code says so."""
    content, log, page = lagging.read_bytes(), tmp_path / lagging.name, tmp_path / "page"
    log.write_bytes(content[: len(content) // 3])
    sizes = []

    def grow():
        while not (page / "index.html").exists():
            time.sleep(0.01)
        with log.open("ab") as file:
            file.write(content[len(content) // 3 :])
        while log.stat().st_size > (sizes[-1] if sizes else 0):
            sizes.append(json.loads((page / "watch.json").read_text())["rows"]["read"])
            time.sleep(0.02)
            if sizes[-1] == content.count(b"\n") - 1:
                break
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=grow)
    thread.start()
    code, said = command("watch", log, "--out", page, "--follow", "0.05")
    thread.join()
    assert code == 3 and sizes[-1] == content.count(b"\n") - 1
    assert said.out.splitlines().count("Nothing to do.") <= 1 and "alarm: recall" in said.out


def test_the_page_stands_alone_and_shows_names_as_they_are(command, tmp_path):
    table = year(np.random.default_rng(11), 6, 300)
    log = written(table, tmp_path / "log.csv")
    log.write_text(log.read_text().replace("ill", "<b>&ill</b>").replace("p_well", "p_w$ell$"))
    log.write_text(log.read_text().replace(",well", ",w$ell$"))
    assert command("watch", log, "--out", tmp_path / "page")[0] == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;&amp;ill" in page
    assert "http" not in page and page.count("data:image/png;base64") == 4


def test_a_log_without_rows_waits(command, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("time,p_a,p_b,label\n2024-01-01,0.5")
    code, said = command("watch", log, "--out", tmp_path / "page")
    assert code == 0 and said.out.startswith("Too early to judge")
    assert records.read_header(log, None).classes == ("a", "b")


def test_python_has_the_same_watch(lagging, tmp_path):
    with pytest.raises(ssm.InputError, match="reference_windows"):
        Settings(reference_windows=0)
    assert watched(lagging, tmp_path)["advice"]["action"] in ("retrain", "roll_back")


@pytest.mark.parametrize(
    "rule",
    [
        cards.Rule("trained"),
        cards.Rule("costs", costs=((0, 4), (1, 0))),
        cards.Rule("threshold", label="ill", threshold=0.2),
        cards.Rule("threshold", label="well", threshold=0.2),
        cards.Rule("shares", shares=(0.5, 0.5)),
    ],
)
def test_a_moved_threshold_decides_as_the_rule_for_the_shares_of_now(tmp_path, rule):
    """Probabilities brought to the shares of now by Bayes' rule, and the same rule for them, against the threshold on the
    probabilities as they are. A rule that decides for given shares stays."""
    usual, now = np.array([1 / 11, 10 / 11]), np.array([0.03, 0.97])
    model = Model.of_card(card_of(tmp_path / "card.json", rule=rule))
    values = advice.now(now, usual, usual, model)
    p = np.linspace(0.001, 0.999, 2001)
    rows = np.column_stack([p, 1 - p])
    moved = rows if rule.kind == "shares" else shares.shifted(rows, values.factors)
    assert values.rare == 0 and values.threshold is not None
    assert ((p >= values.threshold) == (model.decide(moved) == 0)).all()
