"""Progress bars on a terminal, while work goes on in a thread in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ssm.support import interrupts

T = TypeVar("T")
Name = TypeVar("Name", bound=str)
Report = Callable[[float], None]


def with_bar(what: str, work: Callable[[Report], T]) -> T:
    """Do `work`, and show a progress bar once it has taken two seconds.

    Args:
        what: the words beside the bar.
        work: a function, which is given one to call with the share that is done.
    """
    from rich.console import Console
    from rich.progress import Progress

    share, begun, console = [0.0], time.monotonic(), Console(stderr=True)

    def report(done: float) -> None:
        share[0] = done

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0, visible=False)
        return interrupts.run(
            lambda: work(report),
            lambda: bar.update(task, completed=share[0], visible=time.monotonic() - begun > 2),
        )


class Share:
    """A progress bar over the share of one piece of work that is done."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self.bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task(what, total=1.0)
        self.done = 0.0

    def count(self, done: float) -> None:
        """Take note of the share that is done."""
        self.done = done

    def update(self) -> None:
        """Show the share that is done."""
        self.bar.update(self.task, completed=self.done)


class Runs:
    """A progress bar over the runs of a sweep or study, with their rate and the time left."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(what, total=None, rate="")
        self.done = self.total = 0
        self.begun: tuple[float, int] | None = None

    def count(self, done: int, total: int) -> None:
        """Take note that `done` runs of `total` are done. It may be called from another thread."""
        self.begun = self.begun or (time.monotonic(), done)
        self.done, self.total = done, total

    def update(self) -> None:
        """Show how many runs are done."""
        if self.begun is not None:
            seconds, fresh = time.monotonic() - self.begun[0], self.done - self.begun[1]
            rate = f"{fresh / seconds:.3g} runs/s" if fresh and seconds > 1 else ""
            self.bar.update(self.task, completed=self.done, total=self.total, rate=rate)


def each(
    names: Sequence[Name], work: Callable[[Name, Report], T], refresh_per_second: float = 10
) -> dict[Name, T]:
    """Do `work` on each name, one after the other, with a progress bar for each, and return the
    results by name."""
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    shares: dict[Name, float] = dict.fromkeys(names, 0.0)
    columns = [*Progress.get_default_columns(), TimeElapsedColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, refresh_per_second=refresh_per_second) as bar:
        tasks = {name: bar.add_task(name, total=1.0, start=False) for name in names}

        def work_through() -> dict[Name, T]:
            results = {}
            for name in names:
                bar.start_task(tasks[name])
                results[name] = work(name, lambda share, name=name: shares.__setitem__(name, share))
                shares[name] = 1.0
            return results

        def show() -> None:
            for name, task in tasks.items():
                bar.update(task, completed=shares[name])

        results = interrupts.run(work_through, show)
        show()
    return results
