"""How a run can end."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """How a run has ended. Each is equal to the words that a result keeps as its `status`."""

    FINISHED = "finished"
    """It reached its last time."""
    MARGIN_REACHED = "margin reached"
    """Its least margin reached `stop_margin`, which ended it before its last time."""
    OUT_OF_STEPS = "out of steps"
    """Its solver had taken `max_steps` steps before the last time."""
    STEP_TOO_SMALL = "step too small"
    """Its solver needed a step so short that time in floating point did not move on."""
    INTERRUPTED = "interrupted"
    """Ctrl-C ended it before its last time."""
    NOT_FINITE = "not finite"
    """Something that is observed became infinite or NaN."""
    NOT_LEARNED = "not learned"
    """It reached its last time, but something that was predicted to be learned by then was not."""
    NOT_COMPUTED = "not computed"
    """There is no such run yet, in a sweep whose store is not finished."""
    TRACKED = "tracked"
    """There was no run, since the logits that were followed come from elsewhere."""

    @property
    def remedy(self) -> str:
        """What to do about the status, in words; empty where nothing is amiss."""
        return _REMEDIES.get(self, "")

    @property
    def warning(self) -> str:
        """A line that says what is amiss and what to do about it; empty where nothing is."""
        if not self.remedy:
            return ""
        if self in (Status.NOT_LEARNED, Status.NOT_COMPUTED):
            return f"{self}: {self.remedy}"
        return f"the run ended early: {self}; {self.remedy}"


_REMEDIES = {
    Status.OUT_OF_STEPS: "raise max_steps, or ask for less accuracy by a larger rtol",
    Status.STEP_TOO_SMALL: "it moves faster than its clock can tell: try a smaller init_scale",
    Status.INTERRUPTED: "run it again to its end, or take a time that it reached as a start",
    Status.NOT_FINITE: (
        "its numbers grew too large: try a smaller init_scale or learning_rate, or dtype float64"
    ),
    Status.NOT_COMPUTED: "the same command or call goes on with its sweep",
    Status.NOT_LEARNED: "something was predicted to be, a longer t1 may be enough",
}
