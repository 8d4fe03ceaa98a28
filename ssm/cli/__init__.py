"""The command `ssm`: faces of what the other rooms do, nothing else."""

from ssm.cli.commands import main

__all__ = ["main"]
