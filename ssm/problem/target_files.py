"""Targets and labels of one's own, which the shell reads from files for `ssm.simulate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssm.support import errors

FILES = "a .npy file of NumPy's, or a .csv file of numbers with commas between, that exists"


def read_numbers(name: str, path: Path) -> np.ndarray:
    """The numbers of a file: the array of a .npy file, or the lines of a .csv file as rows, whose first line may be a
    header. The numbers of a .csv file are integers where all of them are written as integers.

    Args:
        name: the name of the numbers, for messages.
        path: the file.

    Raises:
        ssm.InputError: a file of another kind, or one that cannot be read, in one line.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".csv") or not path.is_file():
        raise errors.invalid(name, str(path), FILES)
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        return _from_csv(path)
    except (ValueError, EOFError, OSError, IndexError) as error:
        why = str(error).partition("\n")[0].rstrip(".")
        raise errors.invalid(name, str(path), f"{FILES}; {why}") from None


def _from_csv(path: Path) -> np.ndarray:
    """The numbers as rows, shape (lines, columns), or as a vector where there is one column."""
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if lines and not _are_numbers(lines[0]):
        lines = lines[1:]
    if not lines:
        raise ValueError("it has no numbers")
    rows = [line.split(",") for line in lines]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("its rows are of several lengths")
    try:
        numbers = np.array([[int(entry) for entry in row] for row in rows])
    except ValueError:
        numbers = np.array([[float(entry) for entry in row] for row in rows])
    return numbers[:, 0] if numbers.shape[1] == 1 else numbers


def _are_numbers(line: str) -> bool:
    try:
        [float(entry) for entry in line.split(",")]
    except ValueError:
        return False
    return True
