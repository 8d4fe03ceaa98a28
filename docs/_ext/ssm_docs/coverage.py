"""The build fails where a public name has no entry in the reference."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any

from sphinx.util import logging

import ssm
from ssm.addresses import ADDRESSES
from ssm_docs.reference import public_names

logger = logging.getLogger(__name__)


def public() -> set[str]:
    """All public names: of `ssm`, of `ssm.practice`, of the modules at public addresses, and the fields of a Config."""
    modules = {*ADDRESSES, *(f"ssm.practice.{name}" for name in ssm.practice.__all__)}
    found = {f"ssm.Config.{field.name}" for field in dataclasses.fields(ssm.Config)}
    for name in ssm.__all__:
        if inspect.ismodule(getattr(ssm, name)):
            modules.add(f"ssm.{name}")
        else:
            found.add(f"ssm.{name}")
    for address in modules:
        module = importlib.import_module(address)
        names = public_names(module)
        found |= {f"{address}.{n}" for n in names if not inspect.ismodule(getattr(module, n))}
    return found | modules


def check(app: Any, env: Any) -> None:
    """Warn, which fails a strict build, of every public name that the reference lacks."""
    described = set(env.domains["py"].objects)
    for name in sorted(public() - described):
        logger.warning("%s is public and has no entry in the reference", name)
