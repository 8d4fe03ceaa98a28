"""A network followed while it is trained, in any training loop."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

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
"""The facts in which a log must agree with a tracker that continues it."""


class Tracker:
    """Follows how much of each class and of each spectral component a network learns while it is trained.

    At some steps of a training loop the network is given the same samples, the probe, and `add` is given its logits and,
    where they are known, the features before its last layer, the weights and the gradient of that layer, and the class
    weights in force. `dataset` returns a Dataset as that of `ssm.track`, with the variables of a run: strengths, accuracies,
    singular values, losses and gradient shares by class. From features and classifier come the measures NC1 to NC4 of
    neural collapse, the distances to the SELI and ETF geometries, the coupling and the exponent of class weights that
    balances it. Arrays may be of NumPy, JAX, PyTorch, Keras or any other library.

    Only numbers by class and component are kept, not the arrays from which they were computed. With a store they are on disk
    after each `add`, so that a training that is killed loses nothing that was added, and the same call then continues the
    log. The store is a folder that `ssm.load`, `ssm show` and `ssm plot` read at any time; `close`, or the end of a `with`
    block, makes a zarr store of it.

    Args:
        labels: the labels of the samples of the probe, shape (n,): integers from 0 on, words, or one-hot rows (n, k).
        store: the folder to write.
        classes: the number of classes, or their labels in the order of the columns of logits, where the probe lacks some or
            columns are not in the order of labels.
        class_counts: the number of samples of each class that the network is trained on, which decides which classes are
            majorities and where training ends; that of the probe when left out.
        held_out_labels: the labels of samples that the network is not trained on, whose logits may be added too.
        batch_size: the samples of a mini-batch, for a loss that is divided by the sum of their weights, as PyTorch's
            weighted cross-entropy is. It adds `effective_weight` (`weights.effective_class_weights`).
        on_alarm: called with each `Alarm` in place of a warning.

    Raises:
        ssm.InputError: anything else, and a store that holds something else or that another process writes.

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
        labels: object,
        store: str | Path | None = None,
        *,
        classes: object = None,
        class_counts: object = None,
        held_out_labels: object = None,
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
        self._step = -math.inf
        self._last: dict[str, np.ndarray] = {}
        self._raised: set[alarms.Key] = set()
        self._continue_log()
        if self._path is not None and not self._path.parent.is_dir():
            raise errors.invalid("store", str(self._path), "in a folder that exists")

    @property
    def _facts(self) -> dict[str, object]:
        held_out = None if self._held_out is None else _digest(self._held_out)
        return {
            "counts": self.probe.counts.tolist(),
            "training_counts": self.probe.training_counts.tolist(),
            "names": self._names,
            "labels": _digest(self._labels),
            "held_out": held_out,
            "batch_size": self._batch_size,
        }

    def _continue_log(self) -> None:
        """Continue the log of a store that exists, whether it was closed or its process was killed."""
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
        logits: object,
        features: object = None,
        classifier: object = None,
        gradient: object = None,
        weights: object = None,
        held_out_logits: object = None,
    ) -> list[Alarm]:
        """Observe the network at one step.

        The arguments that are given at the first step have to be given at every step. Where logits or features are not
        finite there is a gap: the variables that follow from them are NaN, and `not_finite` counts the samples.

        Args:
            step: a number above those before, in steps or any other unit.
            logits: the logits of the samples of the probe in the order of their labels, shape (n, k).
            features: the input of the last layer for each of these samples, shape (n, d).
            classifier: the weights of that layer, one row a class, shape (k, d).
            gradient: the gradient of the training loss in these weights, shape (k, d).
            weights: the weights of the classes in the loss now, shape (k,); ones when left out.
            held_out_logits: the logits of the held-out samples, shape (m, k).

        Returns:
            The alarms that hold now and did not at the step before: `class_behind` and `minority_collapse`, from the
            second step on, and `not_finite`. Each is a TrackerWarning too, unless `on_alarm` is given.

        Raises:
            ssm.InputError: a step that is not above the one before, and other shapes or kinds of numbers.
        """
        with self.batches(step, classifier, gradient, weights) as at:
            at.add(logits, features)
            if held_out_logits is not None:
                at.add_held_out(held_out_logits)
        return at.raised

    @contextlib.contextmanager
    def batches(
        self,
        step: float,
        classifier: object = None,
        gradient: object = None,
        weights: object = None,
    ) -> Iterator[Batches]:
        """Observe the network at one step, where the samples of the probe come in batches.

        The context yields an object with `add(logits, features=None)` and `add_held_out(logits)`, which are called with
        one batch after another in the order of the labels. Nothing is recorded where the block ends by an error. A copy
        of the features is kept until the end of the block.

        The arguments and the errors are those of `add`. Afterwards the attribute `raised` of the object holds the alarms.

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
        at.raised = self._alarms(step, self._last, is_first)

    def _record(self, step: float, observed: Mapping[str, np.ndarray | float]) -> None:
        observed = {name: np.asarray(value, np.float64) for name, value in observed.items()}
        layout = {name: list(value.shape) for name, value in observed.items()}
        self._continue_log()
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

    def _alarms(
        self, step: float, observed: Mapping[str, np.ndarray], is_first: bool
    ) -> list[Alarm]:
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
        """The last step in single numbers by name, for TensorBoard, Weights & Biases and the like: means over the classes
        of each group and over all, strengths of blocks as shares of their targets, and variables that are one number.
        The dict is empty where no step was added.

        Example:
            >>> import numpy as np
            >>> tracker = Tracker([0, 1, 1])
            >>> _ = tracker.add(0, np.eye(2)[[0, 1, 1]])
            >>> tracker.scalars()["accuracy/all"]
            1.0
        """
        return scalars.of_step(self._last, self.probe)

    def dataset(self) -> xr.Dataset:
        """All observations: the variables of `ssm.track`, and those of features and classifier where these were given.
        Raises ssm.InputError where nothing was added."""
        if self._rows is None and self._path is not None and self._path.exists():
            return stores.load(self._path)  # This log was closed.
        if self._rows is None:
            raise errors.invalid("tracker", "no step", "a tracker to which a step was added")
        return logs.of_rows(self._rows.header, self._rows.rows())

    def report(self) -> str:
        """The observations in words, one paragraph a line, as `ssm show` prints them: which blocks and classes were
        learned in which order, compared with the small-scale model, the coupling and the balancing exponent now, shares of
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
        """Forget the observations of `step` and later, as where a training goes on from a checkpoint of that time."""
        step = checks.real("step", step, -math.inf)
        self._continue_log()
        if self._rows is not None:
            rows = self._rows.rows()
            kept = int((rows[:, 0] < step).sum())
            self._rows.truncate(kept)
            self._step = float(rows[kept - 1, 0]) if kept else -math.inf
            self._last, self._raised = {}, set()

    def close(self) -> None:
        """Make a zarr store of the log, if it is on disk. `add` may continue it afterwards."""
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


def _training_counts(class_counts: object, counts: np.ndarray) -> np.ndarray:
    """The number of training samples of each class; raises ssm.InputError where a class has none."""
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
    """The error for a step with other arguments than those of the first step."""
    changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
    allowed = (
        f"what was given at the first step; {', '.join(changed)} would come, go or change shape"
    )
    return errors.invalid("add", "other arguments", allowed)
