"""Counts of each class, and who is a minority."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssm.config import profiles


def test_step():
    assert profiles.step_counts(10, 10, 0.3, 5) == (50,) * 7 + (5,) * 3
    assert profiles.step_counts(2, 1.5, 0.5, 2) == (3, 2)


@given(st.integers(2, 40), st.floats(1, 1000), st.integers(1, 50))
def test_long_tail_falls_from_the_ratio_to_one(k, ratio, smallest):
    counts = profiles.long_tailed_counts(k, ratio, smallest)
    assert len(counts) == k and list(counts) == sorted(counts, reverse=True)
    assert counts[0] == round(ratio * smallest) and counts[-1] == smallest


@pytest.mark.parametrize(
    ("counts", "head"), [((50, 50, 5, 5), 2), ((100, 46, 21, 10), 2), ((9, 9), 2)]
)
def test_groups_split_at_the_geometric_mean(counts, head):
    groups = profiles.class_groups(counts)
    assert groups == ("majority",) * head + ("minority",) * (len(counts) - head)


@pytest.mark.parametrize("smallest", [1, 3, 5, 7, 10, 10**15])
def test_a_class_of_the_geometric_mean_is_of_the_majority(smallest):
    """Exactly: no rounding of logarithms tells one size from another."""
    for factor in (2, 3, 10, 30):
        counts = (smallest * factor**2, smallest * factor, smallest)
        assert profiles.class_groups(counts) == ("majority", "majority", "minority")
