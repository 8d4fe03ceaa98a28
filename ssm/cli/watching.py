"""The command that watches a classifier in use, `watch`, which the `ssm` command offers."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ssm.support import checks, interrupts
from ssm.support.errors import invalid

if TYPE_CHECKING:
    from ssm.practice.watching.watch import Watch

ALARMED = 3
"""The exit code of an alarm."""


@dataclasses.dataclass
class WatchCommand:
    """Watch a classifier in use by the log of its predictions: alarms where a class got worse, class shares before labels
    come, and what to do next, on a page that stands alone. The same command goes on where it ended, or was killed.
    The exit code is 0 without an alarm, 3 with one, and 2 for bad input.

    $ ssm watch predictions.csv --card card.json --out page/
    $ ssm watch predictions.csv --window day --follow 60
    """

    log: tyro.conf.Positional[Path]
    """A CSV file that only grows, with columns `time`; `prediction`, or `p_CLASS` of every class, or both; `label`, empty until it is
    known; and, if you like, `id`, by which rows of one case are known: one that repeats a case brings its label; and `feature_NAME`,
    numbers that are held against those of the first windows."""
    out: Path = Path("watch")
    """The folder to write to: index.html, watch.json, and what is needed to go on."""
    card: Path | None = None
    """The card of the model, card.json: its classes, its rule and how well it did on held-out cases. Left out: it is held against
    the first windows of the log."""
    window: str = "week"
    """`week`, `day`, `hour`, or a number of rows."""
    level: float = 0.05
    """The most probability of any false alarm, in all the time that the classifier is watched."""
    reference_windows: int = 4
    """So many first windows with labels are the reference of what no card says."""
    classes: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...")] = ""
    """The classes, where there is neither a card nor columns p_CLASS."""
    follow: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Look for new lines so often, until Ctrl-C."""

    def __call__(self) -> None:
        if self.follow is not None:
            checks.real("follow", self.follow, 0, 86400, open_ends="(")
        watch = self._watch()
        kept = f"ssm: interrupted; the same command goes on with {self.out}"
        with interrupts.last_part(lambda: kept), watch.kept():
            found = self._brought_up_to_date(watch)
            if self.follow is not None:
                found = self._followed(watch, found)
        if found["alarms"]:
            raise SystemExit(ALARMED)

    def _watch(self) -> Watch:
        from ssm.practice.watching.models import Model
        from ssm.practice.watching.progress import Settings
        from ssm.practice.watching.watch import Watch

        names = tuple(name.strip() for name in self.classes.split(",") if name.strip())
        if names and self.card is not None:
            raise invalid("classes", self.classes, "left out where a card has them")
        model = Model(names) if names else None
        if self.card is not None:
            model = Model.of_card(self.card)
        settings = Settings(self.window, self.level, self.reference_windows)
        return Watch(self.log, self.out, settings, model)

    def _brought_up_to_date(self, watch: Watch) -> dict[str, Any]:
        """Read what is new, write the page, and print what it says."""
        from ssm.practice.reporting import watch_page
        from ssm.practice.watching import summaries

        watch.read()
        found = summaries.summary(watch)
        path = watch_page.write_page(found, self.out)
        _print(found, path)
        return found

    def _followed(self, watch: Watch, found: dict[str, Any]) -> dict[str, Any]:
        """Bring the page up to date whenever there are new lines, until Ctrl-C."""
        from ssm.practice.reporting import watch_page
        from ssm.practice.watching import summaries

        assert self.follow is not None  # or nobody asked
        try:
            while True:
                time.sleep(self.follow)
                if watch.read():
                    found, before = summaries.summary(watch), found
                    if _said(found) != _said(before):
                        _print(found, None)
                    watch_page.write_page(found, self.out)
        except KeyboardInterrupt:
            # What was not written goes on with the same command, as after any kill.
            return found


def _said(found: dict[str, Any]) -> tuple[Any, ...]:
    """What of a summary is worth another line on the terminal."""
    alarms = [(alarm["metric"], alarm["class"]) for alarm in found["alarms"]]
    return found["advice"]["headline"], alarms


def _print(found: dict[str, Any], path: Path | None) -> None:
    """Print what to do, the alarms, and what became of the rows."""
    from ssm.practice.reporting import watch_words

    for line in watch_words.lines(found):
        print(line)
    if path is not None:
        print(f"page: {path}", flush=True)
