"""A network followed while it is trained, in anybody's loop."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xarray as xr

from ssm.measures.probes import Probe
from ssm.problem import weights as class_weightings
from ssm.results import journals, logs, stores, writing
from ssm.results.provenance import provenance
from ssm.results.schema import LOG_FORMAT
from ssm.support import arrays, checks, errors
from ssm.tracking import alarms, reports, scalars
from ssm.tracking.alarms import Alarm, TrackerWarning
from ssm.tracking.batches import Batches, Layer
from ssm.tracking.labels import numbered

FACTS = ("counts", "training_counts", "names", "labels", "held_out", "batch_size")
"""What a log must have in common with a tracker that goes on with it."""


class Tracker:
    """Follows what a network learns of each class and of each spectral component while it is trained.

    At some steps of a training loop the network is given the same samples, the probe, and `add` is told its logits and,
    where there are any, the features before its last layer, that layer's weights and gradient, and the class weights
    in force. `dataset` returns what `ssm.track` returns of logits, with the variables of a run: strengths, accuracies,
    singular values, losses and gradient shares by class; of features and classifier the measures NC1 to NC4 of neural
    collapse, the distances to the SELI and ETF geometries, the coupling and the exponent of class weights that balances it. Arrays may be
    of NumPy, JAX, PyTorch, Keras or any other library.

    Only numbers by class and component are kept, not what they were computed from. With a store they are on disk after each `add`, so
    that a training that is killed keeps all that was added; the same call then goes on with it. It is a folder that
    `ssm.load`, `ssm show` and `ssm plot` read at any time; `close`, or the end of a `with` block, makes a zarr store of it.

    Args:
        labels: of the samples of the probe, shape (n,): integers from 0 on, words, or one-hot rows (n, k).
        store: the folder to write.
        classes: number of classes, or their labels in the order of the columns of logits, where the probe lacks some or
            columns are not in the order of labels.
        class_counts: samples of each class that the network is trained on, which say what is a majority and where training
            ends; those of the probe when left out.
        held_out_labels: of samples that the network is not trained on, whose logits may be added too.
        batch_size: samples of a mini-batch whose mean loss is divided by the sum of their weights, as PyTorch's weighted
            cross-entropy is: adds `effective_weight` (`weights.effective_class_weights`).
        on_alarm: called with each `Alarm` in place of a warning.

    Raises:
        ssm.InputError: anything else, and a store that is of something else or that another process writes.

    Example:
        >>> import numpy as np
        >>> tracker = Tracker(["cat", "cat", "cat", "dog"])
        >>> for step in range(3):
        ...     _ = tracker.add(step, logits=step * np.eye(2)[[0, 0, 0, 1]])
        >>> tracker.dataset()["class_strength"].values.tolist()
        [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    """

    def __init__(
        self,
        labels: Any,
        store: str | Path | None = None,
        *,
        classes: Any = None,
        class_counts: Any = None,
        held_out_labels: Any = None,
        batch_size: int | None = None,
        on_alarm: Callable[[Alarm], object] | None = None,
    ):
        known = numbered(labels, classes)
        k = known.num_classes
        self._labels = known.classes
        counts = np.bincount(known.classes, minlength=k)
        if (counts > 0).sum() < 2:
            raise errors.invalid("labels", "samples of one class", "of at least two classes")
        training = _training_counts(class_counts, counts)
        self.probe = Probe(counts, training)
        self._held_out = None
        if held_out_labels is not None:
            names = known.names if known.names is not None else k
            self._held_out = numbered(held_out_labels, names, "held_out_labels").classes
        self._batch_size = (
            None if batch_size is None else checks.integer("batch_size", batch_size, 1, 10**9)
        )
        if on_alarm is not None and not callable(on_alarm):
            raise errors.invalid("on_alarm", on_alarm, "a function of an Alarm")
        self._on_alarm = on_alarm
        self._names = known.names
        self._path = None if store is None else stores.checked_path(store)
        self._rows: journals.Journal | journals.Rows | None = None
        self._step, self._last = -math.inf, {}
        self._raised: set[alarms.Key] = set()
        self._take_up()
        if self._path is not None and not self._path.parent.is_dir():
            raise errors.invalid("store", str(self._path), "in a folder that exists")

    @property
    def _facts(self) -> dict[str, Any]:
        held_out = None if self._held_out is None else _digest(self._held_out)
        return {
            "counts": self.probe.counts.tolist(),
            "training_counts": self.probe.training_counts.tolist(),
            "names": self._names,
            "labels": _digest(self._labels),
            "held_out": held_out,
            "batch_size": self._batch_size,
        }

    def _take_up(self) -> None:
        """Take up the log of a store that is there, whether it was closed or its process was killed."""
        path = self._path
        if path is None or self._rows is not None or not path.exists():
            return
        if journals.is_journal(path):
            header, rows = journals.read(path)
        else:
            dataset = stores.load(path)
            if "log" not in dataset.attrs:
                raise errors.invalid("store", str(path), "a new folder, or the log of a network")
            header = json.loads(dataset.attrs["log"])
            parts = [
                dataset[name].values.reshape(dataset.sizes["time"], -1) for name in header["layout"]
            ]
            rows = np.hstack(parts)
        for name, here in self._facts.items():
            if header[name] != here:
                allowed = f"a log of the same probe: its {name} differ"
                raise errors.invalid("store", str(path), allowed)
        self._rows = journals.Journal(path, header, rows)
        if len(rows):
            self._step = float(rows[-1, 0])

    def add(
        self,
        step: float,
        logits: Any,
        features: Any = None,
        classifier: Any = None,
        gradient: Any = None,
        weights: Any = None,
        held_out_logits: Any = None,
    ) -> list[Alarm]:
        """Observe the network at one step.

        What is given at the first step has to be given at every one. Logits or features that are not finite are kept as
        gaps: the variables that follow from them are NaN, and `not_finite` counts the samples.

        Args:
            step: a number above those before, in steps or any other unit.
            logits: of the probe's samples in the order of their labels, shape (n, k).
            features: what the last layer is given of each of them, shape (n, d).
            classifier: the weights of that layer, one row a class, shape (k, d).
            gradient: of the training loss in these weights, shape (k, d).
            weights: of the classes in the loss now, shape (k,); ones when left out.
            held_out_logits: of the held-out samples, shape (m, k).

        Returns:
            The alarms that are raised now, which were not at the step before: `class_behind` and `minority_collapse`, from the
            second step on, and `not_finite`. Each is a TrackerWarning too, unless `on_alarm` is there.

        Raises:
            ssm.InputError: a step that is not above the one before, other shapes or kinds of numbers.
        """
        with self.batches(step, classifier, gradient, weights) as at:
            at.add(logits, features)
            if held_out_logits is not None:
                at.add_held_out(held_out_logits)
        return at.raised

    @contextlib.contextmanager
    def batches(
        self, step: float, classifier: Any = None, gradient: Any = None, weights: Any = None
    ) -> Iterator[Batches]:
        """Observe the network at one step, of whose probe samples some arrive at a time.

        The context yields an object with `add(logits, features=None)` and `add_held_out(logits)`, which are called with
        one batch after another in the order of the labels. Nothing is recorded where the block ends by an error. Of features a copy is kept
        until its end.

        Arguments and what is raised are as for `add`; `raised` of the object has its alarms afterwards.

        Example:
            >>> import numpy as np
            >>> tracker = Tracker([0, 1, 0, 1])
            >>> with tracker.batches(step=0) as at:
            ...     for logits in np.eye(2)[[0, 1, 0, 0]].reshape(2, 2, 2):
            ...         at.add(logits)
            >>> tracker.dataset()["class_accuracy"].values.tolist()
            [[1.0, 0.5]]
        """
        step = checks.real("step", step, -math.inf)
        if step <= self._step:
            allowed = (
                f"above {self._step:g}, the last one; rewind(step) forgets those from a step on"
            )
            raise errors.invalid("step", step, allowed)
        k = len(self.probe.counts)
        last = Layer.of(k, classifier, gradient, weights)
        at = Batches(self._labels, self._held_out, k)
        yield at
        observed = {"time": np.array(step)} | at.observed(self.probe, last)
        if self._batch_size is not None:
            observed["effective_weight"] = class_weightings.effective_class_weights(
                self.probe.training_counts, last.weights, self._batch_size
            )
        is_first = self._step == -math.inf
        self._record(step, observed)
        at.raised = self._alarms(step, observed, is_first)

    def _record(self, step: float, observed: dict[str, Any]) -> None:
        observed = {name: np.asarray(value, np.float64) for name, value in observed.items()}
        layout = {name: list(value.shape) for name, value in observed.items()}
        self._take_up()
        if self._rows is None:
            header = (
                {"format": LOG_FORMAT} | self._facts | {"layout": layout, "origin": provenance()}
            )
            if self._path is None:
                self._rows = journals.Rows(header)
            else:
                self._rows = journals.Journal(self._path, header, np.empty((0, 0)))
        before = self._rows.header["layout"]
        if layout != before:
            raise _other_layout(layout, before)
        self._rows.append(np.concatenate([value.ravel() for value in observed.values()]))
        self._step, self._last = step, observed

    def _alarms(self, step: float, observed: dict[str, Any], is_first: bool) -> list[Alarm]:
        """The alarms that hold now and did not at the step before."""
        names = self._names or list(map(str, range(len(self.probe.counts))))
        now = alarms.present(step, observed, self.probe, names, is_first)
        raised = [alarm for key, alarm in now.items() if key not in self._raised]
        self._raised = set(now)
        for alarm in raised:
            if self._on_alarm is not None:
                self._on_alarm(alarm)
            else:
                message = f"step {alarm.step:g}: {alarm.alarm}: {alarm.reason}"
                warnings.warn(message, TrackerWarning, stacklevel=5)
        return raised

    def scalars(self) -> dict[str, float]:
        """The last step in single numbers by name, for TensorBoard, Weights & Biases and their like: means over the classes
        of each group and over all, strengths of blocks as shares of their targets, and what is one number anyway.
        Nothing where no step was added.

        Example:
            >>> import numpy as np
            >>> tracker = Tracker([0, 1, 1])
            >>> _ = tracker.add(0, np.eye(2)[[0, 1, 1]])
            >>> tracker.scalars()["accuracy/all"]
            1.0
        """
        return scalars.of_step(self._last, self.probe)

    def dataset(self) -> xr.Dataset:
        """All that was observed: the Dataset of `ssm.track`, and variables of features and classifier where these were
        given. Raises ssm.InputError where nothing was added."""
        if self._rows is None and self._path is not None and self._path.exists():
            return stores.load(self._path)  # which was closed
        if self._rows is None:
            raise errors.invalid("tracker", "no step", "a tracker to which a step was added")
        return logs.of_rows(self._rows.header, self._rows.rows())

    def report(self) -> str:
        """What was observed, in words, one paragraph a line, as `ssm show` prints them: which blocks and classes were
        learned in which order, held against the small-scale model, the coupling and the balancing exponent now, shares of
        the gradient, class weights, alarms and gaps. Raises ssm.InputError where nothing was added.

        Example:
            >>> import numpy as np
            >>> tracker = Tracker(["cat", "cat", "cat", "dog"])
            >>> for step in range(3):
            ...     _ = tracker.add(step, logits=step * np.eye(2)[[0, 0, 0, 1]])
            >>> print(tracker.report().splitlines()[0])
            Blocks, half of the target reached: cross at 0.5.
        """
        return "\n".join(reports.lines(self.dataset()))

    def rewind(self, step: float) -> None:
        """Forget what was observed at `step` and later, as where a training goes on from a checkpoint of then."""
        step = checks.real("step", step, -math.inf)
        self._take_up()
        if self._rows is not None:
            rows = self._rows.rows()
            kept = int((rows[:, 0] < step).sum())
            self._rows.truncate(kept)
            self._step = float(rows[kept - 1, 0]) if kept else -math.inf
            self._last, self._raised = {}, set()

    def close(self) -> None:
        """Make a zarr store of the log, if there is one on disk. `add` may go on with it afterwards."""
        if self._path is not None and isinstance(self._rows, journals.Journal):
            writing.write(self.dataset(), self._path)
            self._rows.close()
            self._rows = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _training_counts(class_counts: Any, counts: np.ndarray) -> np.ndarray:
    """The training samples of each class; raises ssm.InputError where there is none of a class."""
    if class_counts is None:
        if not counts.all():
            allowed = "of all classes, or class_counts has to be given, since the probe lacks some"
            raise errors.invalid("labels", f"no sample of class {int(counts.argmin())}", allowed)
        return counts
    what = f"{len(counts)} positive integers, one a class"
    given = checks.positive(
        "class_counts", arrays.as_numpy("class_counts", class_counts, what), what
    )
    if len(given) != len(counts) or (given != np.floor(given)).any():
        raise errors.invalid("class_counts", given.tolist(), what)
    return given.astype(np.int64)


def _digest(labels: np.ndarray) -> str:
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def _other_layout(now: dict[str, list[int]], before: dict[str, list[int]]) -> errors.InputError:
    """The error for a step at which other things are given than at the first one."""
    changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
    allowed = (
        f"what was given at the first step; {', '.join(changed)} would come, go or change shape"
    )
    return errors.invalid("add", "other arguments", allowed)
