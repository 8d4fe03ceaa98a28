"""Below which recall of a class to act: exact limits for a window of labelled cases, beside the held-out ones."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from scipy import stats

from ssm.practice.deployment.measured import AlarmLimits, Performance, Proportion
from ssm.support import checks
from ssm.support.errors import invalid

WINDOWS = (20, 50, 100, 200, 500, 1000)
"""Labelled cases of one class for which a card says when to act, unless others are asked for."""


def most_right(reference: Proportion, num_cases: int, level: float = 0.05) -> int | None:
    """The most right decisions among so many new cases of a class that show a lower recall than held-out cases had.

    With x of n held-out cases right, s of w new ones are an alarm where P(S <= s) <= level, S hypergeometric: the right
    ones among w cases drawn from all n + w, of which x + s are right. That is Fisher's exact test to one side. If the
    recall is the same it alarms with a probability of at most `level`, whatever the recall, and although x is noisy too.

    Example:
        >>> most_right(Proportion(90, 100), 50)
        39

    Args:
        reference: the right ones of the held-out cases of the class.
        num_cases: w, new cases of the class whose true class is known.
        level: the most probability of a false alarm.

    Returns:
        s; None where even no right decision is no alarm, since there are too few cases.

    Raises:
        ssm.InputError: anything else.

    Source: Fisher 1935.
    """
    if not isinstance(reference, Proportion):
        raise invalid("reference", reference, "a Proportion of the held-out cases of a class")
    w = checks.integer("num_cases", num_cases, 0, 10**9)
    level = checks.real("level", level, 0, 1, open_ends="()")
    x, n = reference.count, reference.of

    def is_no_alarm(s: int) -> bool:
        return bool(stats.hypergeom.cdf(s, n + w, x + s, w) > level)

    # The probability grows with s, and is 1 at s = w.
    first = bisect.bisect_left(range(w), True, key=is_no_alarm)
    return first - 1 if first else None


def alarm_limits(
    performance: Performance, level: float = 0.05, windows: Sequence[int] = WINDOWS
) -> AlarmLimits:
    """The limits of all classes, for windows of several sizes: `most_right` at level / k for each of k classes, so that
    in a window in which nothing has changed any of them alarms with a probability of at most `level`.

    Who looks at many windows sees false alarms all the same, in at most a share `level` of the windows.

    Args:
        performance: on held-out cases.
        level: in (0, 1).
        windows: labelled cases of one class, w, of each at least 1.

    Raises:
        ssm.InputError: anything else.
    """
    if not isinstance(performance, Performance):
        raise invalid("performance", performance, "an ssm.practice.cards.Performance")
    level = checks.real("level", level, 0, 1, open_ends="()")
    sizes = [
        checks.integer("windows", w, 1, 10**9)
        for w in checks.items("windows", windows, "whole numbers, at least 1")
    ]
    each = level / len(performance.confusion)
    rows = [tuple(most_right(recall, w, each) for w in sizes) for recall in performance.recall]
    return AlarmLimits(level, tuple(sizes), tuple(rows))
