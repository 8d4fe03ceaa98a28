"""Where two sweeps differ, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differences_of(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Where two sweeps differ, a phrase for each difference."""
    phrases = []
    for part, missing in (("base", "no axis"), ("axes", "no axis"), ("given", "not given")):
        of_store, of_call = stored.get(part, {}), asked.get(part, {})
        for field in sorted({*of_store, *of_call}):
            there, here = of_store.get(field, missing), of_call.get(field, missing)
            if there != here and (part != "base" or missing not in (there, here)):
                phrases.append(f"{field} is {_shown(there)} there, {_shown(here)} here")
    if not phrases and list(stored["axes"]) != list(asked["axes"]):
        phrases.append(f"its axes are in the order {', '.join(stored['axes'])}")
    return phrases


def _shown(value: Any) -> str:
    """A value as it is shown in a message: of a long axis only its ends."""
    if isinstance(value, list) and len(value) > 6:
        return f"{json.dumps(value[:2])[:-1]}, ... {json.dumps(value[-1])}] ({len(value)} values)"
    return value if value in ("no axis", "not given") else json.dumps(value)
