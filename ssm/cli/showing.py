"""The commands that show the content of a store: `show` in words, `plot` as a picture."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ssm.cli import following, printing
from ssm.cli.outputs import last_part
from ssm.support.errors import did_you_mean, invalid

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass
class Show:
    """Print what a store holds: how it was made, how it ended, and when each block was learned; of the log of a network
    also whether that is as the model has it, its coupling, gradients, weights, alarms and gaps."""

    store: tyro.conf.Positional[Path]
    """A store written by `ssm run`, `ssm sweep`, `ssm track` or a `Tracker`, which may still be writing it."""

    def __call__(self) -> None:
        from ssm.results import schema

        dataset = load_runs(self.store)
        if dataset.attrs["format"] == schema.SWEEP_FORMAT:
            printing.print_sweep(dataset, self.store)
        else:
            printing.print_run(dataset, self.store)


@dataclasses.dataclass
class Plot:
    """Draw one picture of a store.

    $ ssm plot balanced.zarr --kind accuracy --out accuracy.png
    $ ssm plot sweep.zarr --kind heatmap --axes imbalance_ratio weight_exponent
    $ ssm plot log.zarr --kind network --follow
    """

    store: tyro.conf.Positional[Path]
    """A store written by `ssm run`, `ssm sweep`, `ssm track` or a `Tracker`, which may still be writing it."""
    kind: (
        Literal[
            "blocks",
            "classes",
            "accuracy",
            "loss",
            "singular_values",
            "geometry",
            "held_out",
            "groups",
            "network",
            "heatmap",
            "curves",
            "scatter",
        ]
        | None
    ) = None
    """What to draw: over time (`geometry`: distances over the margin; `held_out`: accuracy on held-out beside training data;
    `groups`: accuracy of the groups inside classes, core and spurious strength; `network`: a page of all that the log of
    a network holds), and for a sweep a `heatmap` over two axes of the ratio of learning times, a `scatter` of it over
    one or two fields that move together, or `curves` for each value of one axis. Left out: the kind that suits the store best, which is printed."""
    axes: tuple[str, ...] = ()
    """Axes of a sweep, two for `heatmap`, one for `curves`, one or two for `scatter`. Left out: the first that will do."""
    at: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FIELD=VALUE, once for each axis of a sweep to be held at one of its values."""
    out: Path | None = None
    """The picture to write, .png, .pdf or .svg. Left out: STORE-KIND.png in this folder."""
    overwrite: bool = False
    """Replace the picture if it exists."""
    follow: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="[SECONDS]")] = None
    """Of a log that a `Tracker` is writing: look every so many seconds, 5 where no number is given, whether it has grown,
    and draw the `network` picture again, until the log is closed, or Ctrl-C."""

    def __call__(self) -> None:
        from ssm.plots import runs

        seconds = following.checked_seconds(self.follow, self.kind)
        if self.out is not None:
            runs.check_picture(self.out, self.overwrite)
        dataset = load_runs(self.store)
        if seconds is not None:
            self._follow(dataset, seconds)
            return
        for held in self.at:
            dataset = _held(dataset, held)
        kind, *others = (self.kind,) if self.kind else runs.kinds(dataset, self.axes) or ("curves",)
        out = Path(f"{self.store.stem}-{kind}.png") if self.out is None else self.out
        runs.check_picture(out, self.overwrite)
        with last_part(out):
            runs.save_figure(runs.figure(dataset, kind, axes=self.axes), out)
            print(out)
            if self.kind is None:
                rest = f"; --kind can also be {', '.join(others)}" if others else ""
                print(f"kind {kind}, which suits this store best{rest}")

    def _follow(self, dataset: xr.Dataset, seconds: float) -> None:
        from ssm.plots import runs

        for name in ("axes", "at"):
            if value := getattr(self, name):
                raise invalid(name, value, "left out with --follow")
        following.check_store(dataset, self.store)
        out = Path(f"{self.store.stem}-{following.KIND}.png") if self.out is None else self.out
        runs.check_picture(out, self.overwrite)
        with last_part(out):
            following.draw(self.store, seconds, out)


def load_runs(store: Path) -> xr.Dataset:
    """Read a run or a sweep; raises ssm.InputError for a study, which says what to open instead."""
    from ssm.results import schema, stores

    if (store / "study.json").is_file():
        report = store / "report.html"
        unfinished = "the same `ssm study` goes on and writes its report"
        instead = f"open {report}" if report.is_file() else unfinished
        raise invalid("store", str(store), f"a run or a sweep; this is a study's folder: {instead}")
    dataset = stores.load(store)
    if dataset.attrs["format"] == schema.STUDY_FORMAT:
        allowed = f"a run or a sweep; this is a study's record: open {store.parent / 'report.html'}"
        raise invalid("store", str(store), allowed)
    return dataset


def _held(dataset: xr.Dataset, held: str) -> xr.Dataset:
    """The part of a sweep at one value of one axis, written FIELD=VALUE."""
    from ssm.plots import sweeps

    name, _, value = held.partition("=")
    axes = sweeps.sweep_axes(dataset)
    if name not in axes:
        hint = did_you_mean(name, axes)
        allowed = f"FIELD=VALUE with an axis of the sweep ({', '.join(axes)}){hint}"
        raise invalid("at", held, allowed)
    values = dataset[name].values
    number = values.dtype.kind in "if" and re.fullmatch(r"[-+.\deE]+", value)
    matching = [i for i, v in enumerate(values) if v == (float(value) if number else value)]
    if not matching:
        hint = did_you_mean(value, [str(known) for known in values]) if not number else ""
        raise invalid("at", held, f"one of {name}'s values {values.tolist()[:10]}{hint}")
    return dataset.isel({name: matching[0]})
