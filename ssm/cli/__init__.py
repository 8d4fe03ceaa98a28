"""The command `ssm`: it does what the other rooms do, and says in words what they return."""

from ssm.cli.commands import main

__all__ = ["main"]
