"""Marks that several files of tests share."""

import pytest

# For thousands of small steps in Python, which checks of shapes slow down fourfold; other tests have the same code checked.
UNCHECKED = pytest.mark.usefixtures("untyped")
