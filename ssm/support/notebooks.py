"""Progress bars of work that is called in Python: in a notebook, or on a terminal where they are asked for."""

from __future__ import annotations

import contextlib
import html
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ssm.support import errors, progress

Report = Callable[..., None]
Given = TypeVar("Given")
PATIENCE, PAUSE = 2.0, 0.3
"""Seconds until a bar is shown in a notebook, and between two updates of it."""


def in_kernel() -> bool:
    """Whether this process is the kernel of a notebook. IPython is not imported to find that out."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and getattr(get_shell(), "kernel", None) is not None


def checked(given: Given, function: str) -> Given:
    """The argument `progress`, if it is None, True, False or a function; raises InputError for anything else."""
    if given is None or isinstance(given, bool) or callable(given):
        return given
    raise errors.invalid("progress", given, f"{function}, True or False")


@contextlib.contextmanager
def shown(what: str, given: Report | bool | None, *, runs: bool = False) -> Iterator[Report | None]:
    """A context that yields the function by which work reports on itself, or None where nobody asks for reports.

    Args:
        what: the words beside the bar.
        given: a function, which is yielded as it is; True for a bar; False for no bar; None for a bar in notebooks,
            where the work takes longer than `PATIENCE`.
        runs: whether the number of runs done and the number of all are reported, not the share done.
    """
    if given is False or (given is None and not in_kernel()):
        yield None
    elif callable(given):
        yield given
    elif in_kernel():
        with Bar(what, runs=runs) as bar:
            yield bar.report
    else:
        with _on_terminal(what, runs=runs) as report:
            yield report


@contextlib.contextmanager
def _on_terminal(what: str, *, runs: bool) -> Iterator[Report]:
    """The bar that commands show; it shows nothing where standard error is no terminal."""
    bar = progress.Runs(what) if runs else progress.Share(what)
    with bar.bar:

        def report(*done: Any) -> None:
            bar.count(*done)
            bar.update()

        yield report


class Bar:
    """A bar in a notebook, which goes away when the work is done.

    The bars of rich need ipywidgets in a kernel, and without these warn and show nothing; a display that is updated
    needs IPython only. The bar is shown by a thread of its own, so that it moves while a long piece of work is
    compiled or runs.
    """

    def __init__(self, what: str, *, runs: bool) -> None:
        self.what, self.runs = what, runs
        self.done: tuple[float, float] = (0.0, 1.0)
        self.first: tuple[float, float] | None = None
        self.handle: Any = None
        self.begun, self.ended = time.monotonic(), threading.Event()
        self.thread = threading.Thread(target=self._keep_showing, daemon=True)

    def __enter__(self) -> Bar:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        if self.handle is not None:
            with contextlib.suppress(Exception):  # the notebook may be closed already
                self.handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def report(self, done: float, total: float = 1.0) -> None:
        """Take note of how much is `done` of the `total`."""
        self.first = self.first or (
            time.monotonic(),
            done,
        )  # some runs are done when a sweep goes on
        self.done = (done, total)

    def words(self, now: float) -> str:
        """The words beside the bar: how much is done, the rate of runs, and the time left."""
        done, total = self.done
        parts = [f"{done:.0f} of {total:.0f} runs" if self.runs else f"{done / total:.0%}"]
        if self.first is not None and done > self.first[1] and now > self.first[0]:
            rate = (done - self.first[1]) / (now - self.first[0])
            parts += [f"{rate:.3g} runs/s"] if self.runs else []
            parts.append(f"{_clock((total - done) / rate)} left")
        return f"{self.what}: {', '.join(parts)}"

    def show(self, now: float) -> None:
        """Show the bar, or move the one that is shown."""
        words, (done, total) = self.words(now), self.done
        bar = f'<progress value="{done:g}" max="{total:g}"></progress> {html.escape(words)}'
        data = {"text/plain": words, "text/html": bar}
        if self.handle is None:
            display = importlib.import_module("IPython.display").display
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)

    def _keep_showing(self) -> None:
        if self.ended.wait(PATIENCE):
            return
        while True:
            with contextlib.suppress(Exception):  # an error of the notebook must not end the work
                self.show(time.monotonic())
            if self.ended.wait(PAUSE):
                return


def _clock(seconds: float) -> str:
    """A time in seconds, as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
