"""Outputs appear whole or not at all, one process writes each, and what is killed leaves nothing
for long."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ssm
from ssm.support import files, interrupts, locks

ROOT = Path(__file__).parents[1]


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def hold(path, begun):
    """Write something into the scratch of `path`, and go on for ever."""
    with files.replacing(path) as scratch:
        scratch.mkdir()
        (scratch / "part").write_text("half")
        begun.touch()
        time.sleep(1000)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_second_process_is_told_and_a_killed_one_is_swept_up_after(start, tmp_path):
    out, begun = tmp_path / "out" / "run.zarr", tmp_path / "begun"
    out.parent.mkdir()
    first = start(hold, out, begun)
    wait_for(begun.exists)
    with pytest.raises(ssm.InputError, match=r"^out=.*: must be a path that no other process"):
        files.check_output(out, overwrite=False)
    with pytest.raises(ssm.InputError, match="no other process"), files.replacing(out):
        pytest.fail("it is held")
    files.check_output(out.with_name("another.zarr"), overwrite=False)  # which sweeps
    assert names(out.parent) == [".run.zarr.ssm-writing"] and first.is_alive()
    first.kill()
    first.join()
    assert names(out.parent) == [".run.zarr.ssm-writing"]  # which nobody could remove
    files.check_output(out.with_name("another.zarr"), overwrite=False)
    assert names(out.parent) == []


def test_what_a_killed_process_was_replacing_is_put_back(tmp_path):
    """Killed between one move and the next: by hand, as that moment is short."""
    hidden = tmp_path / ".run.zarr.ssm-writing"
    (hidden / files.NEW / "run.zarr").mkdir(parents=True)
    (hidden / files.OLD).mkdir()
    (hidden / files.OLD / "precious").write_text("years")
    (hidden / files.LOCK).touch()
    files.sweep(tmp_path)
    assert names(tmp_path) == ["run.zarr"]
    assert (tmp_path / "run.zarr" / "precious").read_text() == "years"


def test_other_hidden_things_are_not_swept(tmp_path):
    for name in (".run.zarr.settings", ".git", "x.ssm-writing", ".run.zarr.abcdefgh"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    files.check_output(tmp_path / "run.zarr", overwrite=False)
    assert names(tmp_path) == before


def test_two_threads_are_two(tmp_path):
    failures = []

    def work():
        try:
            with files.replacing(tmp_path / "a"):
                pass
        except ssm.InputError as error:
            failures.append(str(error))

    with files.reserved(tmp_path / "a"), files.reserved(tmp_path / "a"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with files.replacing(tmp_path / "a") as scratch:  # of this thread
            scratch.write_text("new")
    assert len(failures) == 1 and "no other process" in failures[0]
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "new"


def test_many_threads_that_take_turns_leave_nothing(tmp_path):
    """The lock is made and removed all the time."""
    written, refused = [], []

    def work(number):
        for i in range(100):
            try:
                with files.replacing(tmp_path / "a") as scratch:
                    scratch.write_text(f"{number} {i}")
                    written.append(number)
            except ssm.InputError:
                refused.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) + len(refused) == 400 and written
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_symlink_stays_one(tmp_path, folder):
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link.txt"
    target.parent.mkdir()
    target.mkdir() if folder else target.write_text("old")
    link.symlink_to(target)
    with files.replacing(link) as scratch:
        assert scratch.name == "link.txt"  # whose suffix may say how to write
        scratch.mkdir() if folder else scratch.write_text("new")
        (scratch / "new").touch() if folder else None
    assert link.is_symlink() and link.readlink() == target
    assert names(target) == ["new"] if folder else target.read_text() == "new"
    assert names(tmp_path) == ["elsewhere", "link.txt"] and names(target.parent) == ["target"]


def test_a_dangling_symlink_is_refused(tmp_path):
    link, loop = tmp_path / "link", tmp_path / "loop"
    link.symlink_to(tmp_path / "nothing")
    loop.symlink_to(loop)
    for path in (link, loop):
        for overwrite in (False, True):
            with pytest.raises(ssm.InputError, match="must be no symlink to something that does"):
                files.check_output(path, overwrite)
    assert names(tmp_path) == ["link", "loop"] and link.is_symlink()


def test_any_name_can_be_written(tmp_path):
    """Those of what is in the hidden folder, too."""
    for name in (files.LOCK, files.NEW, files.OLD, ".hidden"):
        for _ in range(2):
            with files.replacing(tmp_path / name) as scratch:
                scratch.mkdir()
                (scratch / name).write_text(name)
    assert names(tmp_path) == sorted([files.LOCK, files.NEW, files.OLD, ".hidden"])


def press():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # it comes between one step of Python and the next


def test_ctrl_c_is_heard_when_all_is_written(tmp_path):
    """What was there before stays."""
    path, steps = tmp_path / "a", []
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as scratch:
        press()
        scratch.write_text("new")
        steps.append("written")
    assert steps == ["written"] and path.read_text() == "old" and names(tmp_path) == ["a"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_a_lock_is_taken_leaves_nothing(tmp_path, monkeypatch):
    """It is heard when the lock is there, which is removed all the same."""
    lock = locks.try_lock

    def press_and_lock(file, **options):
        press()
        lock(file, **options)

    monkeypatch.setattr(locks, "try_lock", press_and_lock)
    with pytest.raises(KeyboardInterrupt), files.reserved(tmp_path / "a"):
        pytest.fail("it was not heard")
    assert names(tmp_path) == []


def test_a_second_ctrl_c_is_heard_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "a"):
        press()
        press()
        pytest.fail("it was not heard")
    assert names(tmp_path) == []


def test_ctrl_c_inside_such_work_is_heard_at_the_end_of_the_outer(tmp_path):
    steps = []
    with pytest.raises(KeyboardInterrupt), interrupts.undivided():
        with interrupts.undivided():
            press()
        steps.append("inner")
        with interrupts.undivided() as hear:
            hear()
        steps.append("more")
    assert steps == ["inner"]


SCRIPT = """
import sys, threading, time
from pathlib import Path
from ssm.support import files, interrupts
folder = Path(sys.argv[1])
reserved, inside = threading.Event(), threading.Event()
def work():
    with files.reserved(folder / "kept"):
        reserved.set()
        with files.replacing(folder / "a") as scratch:
            inside.set()
            time.sleep(0.3)
            scratch.write_text("whole")
        time.sleep(1000)
threading.Thread(target=work, daemon=True).start()
inside.wait()
interrupts.leave_interrupted("left")
"""


def test_a_process_is_left_when_its_threads_have_written(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "left\n")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "whole"


def test_ctrl_c_is_ignored_from_now_on():
    interrupts.ignore_from_now_on()
    press()
    with interrupts.undivided() as hear:  # as such work may still be done
        press()
        hear()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_does_not_ignore_ctrl_c():
    """Only the main thread hears it, and only that may change what it does about it."""
    thread = threading.Thread(target=interrupts.ignore_from_now_on)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
