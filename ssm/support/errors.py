"""Errors of input in one line: the field, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def one_of(value: object, known: Sequence[str], why: str = "") -> str:
    """What is allowed where a name has to be one of those `known`, for `invalid`, `why` no others are, and the one that
    was probably meant."""
    names = one_line(", ".join(known), LONGEST_ALLOWED - 200)  # so that there is room for the rest
    return f"one of {names}{why}{did_you_mean(value, known)}"


def did_you_mean(word: object, known: Sequence[str], shown: Callable[[str], str] = str) -> str:
    """The end of a message on a name that is not `known`: the one that was probably meant, as it is to be `shown`, if
    any comes near."""
    close = nearest(word, known)
    return "" if close is None else f"; did you mean {shown(close)}?"


def no_attribute(module: str, name: str, known: Sequence[str]) -> AttributeError:
    """The error, for the caller to raise, that a module has no attribute of this name, with the one that was probably
    meant. Python's own suggestion, which only a traceback on a terminal has, is left out, as the error has no `obj`."""
    text = f"module {module!r} has no attribute {name!r}{did_you_mean(name, known)}"
    return AttributeError(text, name=name)


def nearest(word: object, known: Sequence[str]) -> str | None:
    """The name of those `known` that was probably meant by a word: one that differs in capitals, blanks and hyphens
    only, else one that it begins, else one of which most letters stand in it in the same order."""
    import difflib  # here, since what is right does not need it

    if not isinstance(word, str):
        return None
    by_letters = {_letters(name): name for name in reversed(known)}  # of equals the first
    sought = _letters(word)
    close = [sought] if sought in by_letters else []
    if not close and len(sought) > 2:
        close = [letters for letters in by_letters if letters.startswith(sought)][-1:]
    close = close or difflib.get_close_matches(sought, by_letters, n=1)
    return by_letters[close[0]] if close else None


def _letters(name: str) -> str:
    return "".join(name.casefold().split()).replace("-", "_")
