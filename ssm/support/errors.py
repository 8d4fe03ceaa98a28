"""Errors of input in one line: the field, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_NAME, LONGEST_VALUE, LONGEST_ALLOWED = 80, 200, 600
"""Most characters that are shown of a field's name, of its value (most paths fit), and of what is
allowed."""


class InputError(ValueError):
    """A value from outside that cannot be used. The message is one line, fit to be shown to a user."""


def invalid(name: str, value: object, allowed: str) -> InputError:
    """The error, for the caller to raise, that says of a field `name` that its `value` is not what is
    `allowed`: one short line, whatever they are."""
    try:
        shown = repr(value)
    except Exception:  # an integer of thousands of digits, or an object that cannot be shown
        kind = type(value)
        shown = "a huge int" if kind is int else f"a {kind.__name__} that cannot be shown"
    name = one_line(name, LONGEST_NAME)
    allowed = one_line(allowed, LONGEST_ALLOWED)
    return InputError(f"{name}={one_line(shown, LONGEST_VALUE)}: must be {allowed}")


def one_line(text: str, longest: int) -> str:
    """`text` without line breaks and control characters, cut to the `longest` number of characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def nearest(word: object, known: Sequence[str], otherwise: str) -> str:
    """A hint for a name that is not `known`: the one that was probably meant, or `otherwise`."""
    import difflib

    close = []
    if isinstance(word, str):
        begun = [name for name in known if len(word) > 2 and name.startswith(word)]
        close = begun[:1] or difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise
