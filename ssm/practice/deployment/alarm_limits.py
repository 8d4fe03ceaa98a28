"""At which recall of a class to act: exact limits for a window of labelled cases, given how the held-out cases went."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from scipy import stats

from ssm.practice.deployment.measured import AlarmLimits, Performance, Proportion
from ssm.support import checks
from ssm.support.errors import invalid

WINDOWS = (20, 50, 100, 200, 500, 1000)
"""The numbers of labelled cases of one class for which a card says when to act, unless others are asked for."""


def most_right(reference: Proportion, num_cases: int, level: float = 0.05) -> int | None:
    """The largest number of right decisions about new cases of a class that shows a lower recall than that of held-out cases.

    With x of n held-out cases right, s right decisions about w new cases are an alarm where P(S <= s) <= level. Here S is
    hypergeometric: the number of right ones among w cases that are drawn from all n + w, of which x + s are right. This is Fisher's
    exact test to one side. Where the recall has stayed the same, the probability of an alarm is at most `level`, whatever that
    recall is, and the noise of x is accounted for.

    Example:
        >>> most_right(Proportion(90, 100), 50)
        39

    Args:
        reference: the right decisions about the held-out cases of the class.
        num_cases: w, the number of new cases of the class, whose true class is known.
        level: the highest probability of a false alarm.

    Returns:
        The largest such s; None where there are too few cases for an alarm, even without any right decision.

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
    in a window in which nothing has changed the probability of any alarm is at most `level`.

    Over many windows there are false alarms all the same, on average in at most a share `level` of the windows.

    Args:
        performance: how well the classifier did on held-out cases.
        level: the highest probability of a false alarm in one window, in (0, 1).
        windows: numbers of labelled cases of one class, w, each at least 1.

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
