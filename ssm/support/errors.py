"""Errors of input in one line: the field, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

LONGEST_NAME, LONGEST_VALUE, LONGEST_ALLOWED = 80, 200, 600
"""The most characters that are shown of a field's name, of its value (most paths fit), and of what is
allowed."""


class InputError(ValueError):
    """A value from outside that cannot be used. The message is one line, fit to be shown to a user."""


def invalid(name: str, value: object, allowed: str) -> InputError:
    """The error, for the caller to raise, which says in one short line that the `value` of the field `name` is not what
    is `allowed`."""
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
    """The words for `invalid` on a value that has to be one of the names `known`: these names, the reason `why` there are
    no others, and the name that was probably meant."""
    names = one_line(", ".join(known), LONGEST_ALLOWED - 200)  # so that there is room for the rest
    return f"one of {names}{why}{did_you_mean(value, known)}"


def did_you_mean(word: object, known: Sequence[str], shown: Callable[[str], str] = str) -> str:
    """The end of a message on a word that is not `known`: the name that was probably meant, as `shown` writes it, or
    nothing where no name is near."""
    close = nearest(word, known)
    return "" if close is None else f"; did you mean {shown(close)}?"


def no_attribute(module: str, name: str, known: Sequence[str]) -> AttributeError:
    """The error, for the caller to raise, that a module has no attribute of this name, with the one that was probably
    meant. Python adds no suggestion of its own in a traceback, since the error has no `obj`."""
    text = f"module {module!r} has no attribute {name!r}{did_you_mean(name, known)}"
    return AttributeError(text, name=name)


def nearest(word: object, known: Sequence[str]) -> str | None:
    """The one of the `known` names that was probably meant by a word: a name that differs in capitals, blanks and hyphens
    only, else one that begins with the word, else one that has most letters of it in the same order."""
    import difflib  # only here, since right names do not need it

    if not isinstance(word, str):
        return None
    by_letters = {_letters(name): name for name in reversed(known)}  # the first of equal names
    sought = _letters(word)
    close = [sought] if sought in by_letters else []
    if not close and len(sought) > 2:
        close = [letters for letters in by_letters if letters.startswith(sought)][-1:]
    close = close or difflib.get_close_matches(sought, by_letters, n=1)
    return by_letters[close[0]] if close else None


def _letters(name: str) -> str:
    return "".join(name.casefold().split()).replace("-", "_")
