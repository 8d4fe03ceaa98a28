"""The table of definitions that differ: each is reached as it says, and is as far off as it says."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "definitions.md").read_text()
SECTION = PAGE.split("## Where definitions differ")[1].split("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][2:]
CALL = re.compile(r"`(\w[\w.]*\(.*?\)(?:\.\w+)?(?:\[-?\d\])?)`")


@pytest.fixture(scope="module")
def names():
    """What the block of the page defines."""
    found: dict = {}
    exec(re.findall(r"^```python\n(.*?)^```$", SECTION, re.M | re.S)[0], found)
    return found


def test_every_row_has_both_definitions():
    assert len(ROWS) >= 13
    for row in ROWS:
        assert len(row) == 4 and all(len(CALL.findall(cell)) == 1 for cell in row[2:]), row


def number_of(cell, names):
    return np.asarray(eval(CALL.findall(cell)[0], names), dtype=float)


@pytest.mark.parametrize("row", ROWS, ids=[f"{i} {row[0]}" for i, row in enumerate(ROWS)])
def test_how_far_apart_they_are(row, names):
    """To half of the last digit shown; one factor of all classes where there is a number for each."""
    here, elsewhere = (number_of(cell, names) for cell in row[2:])
    ratio = elsewhere / here
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-12)
    digits = len(row[1].partition(".")[2])
    assert abs(ratio.flat[0] - float(row[1])) <= 0.51 * 10**-digits


def test_what_results_hold_is_what_is_called_so(names):
    """NC1 to 1e-6, since the run averages deviations in another order; `tests/test_collapse.py` has more."""
    run, (W, H, y) = names["run"], (names["W"], names["H"], names["y"])
    np.testing.assert_allclose(names["nc1"](H, y), run.nc1[-1], rtol=1e-6)
    np.testing.assert_allclose(names["nc4"](*names["early"]), run.nc4[10], rtol=1e-12)
    found = names["etf_distances"](W, H, y)
    np.testing.assert_allclose(found, run.etf_distance[-1], atol=1e-7)
