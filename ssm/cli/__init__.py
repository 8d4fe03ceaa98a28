"""The command `ssm`, which calls the other rooms and prints their results in words."""

from ssm.cli.commands import main

__all__ = ["main"]
