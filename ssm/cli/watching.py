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
Summary = dict[str, Any]
"""The summary of a watch in JSON types (`summaries.summary`)."""


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
    """The largest probability of any false alarm, over all the time that the classifier is watched."""
    reference_windows: int = 4
    """The number of first windows with labels that are the reference for what no card says."""
    classes: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...")] = ""
    """The classes, where there is neither a card nor columns p_CLASS."""
    follow: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Look for new lines every so many seconds, until Ctrl-C."""

    def __call__(self) -> None:
        if self.follow is not None:
            checks.real("follow", self.follow, 0, 86400, open_ends="(")
        watch = self._watch()
        message = f"ssm: interrupted; the same command goes on with {self.out}"
        with interrupts.last_part(lambda: message), watch.kept():
            summary = self._brought_up_to_date(watch)
            if self.follow is not None:
                summary = self._followed(watch, summary)
        if summary["alarms"]:
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

    def _brought_up_to_date(self, watch: Watch) -> Summary:
        """Read the new lines of the log, write the page, and print the summary."""
        from ssm.practice.reporting import watch_page
        from ssm.practice.watching import summaries

        watch.read()
        summary = summaries.summary(watch)
        path = watch_page.write_page(summary, self.out)
        _print(summary, path)
        return summary

    def _followed(self, watch: Watch, summary: Summary) -> Summary:
        """Bring the page up to date whenever there are new lines, until Ctrl-C."""
        from ssm.practice.reporting import watch_page
        from ssm.practice.watching import summaries

        assert self.follow is not None  # This is only called with --follow.
        try:
            while True:
                time.sleep(self.follow)
                if watch.read():
                    summary, before = summaries.summary(watch), summary
                    if _news(summary) != _news(before):
                        _print(summary, None)
                    watch_page.write_page(summary, self.out)
        except KeyboardInterrupt:
            # The same command goes on later with what was not written, as after any kill.
            return summary


def _news(summary: Summary) -> tuple[str, list[tuple[str, str]]]:
    """The parts of a summary whose change is printed: the headline of the advice, and the metric and class of each alarm."""
    alarms = [(alarm["metric"], alarm["class"]) for alarm in summary["alarms"]]
    return summary["advice"]["headline"], alarms


def _print(summary: Summary, path: Path | None) -> None:
    """Print what to do, the alarms, and what became of the rows of the log."""
    from ssm.practice.reporting import watch_words

    for line in watch_words.lines(summary):
        print(line)
    if path is not None:
        print(f"page: {path}", flush=True)
