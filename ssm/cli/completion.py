"""The command that tells a shell what it can complete."""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro

AT_HAND = """
# What tyro has nothing for, such as a store, is completed from the files at hand.
_ssm() {
  _tyro_ssm "$@"
  [ -n "${COMPREPLY[*]}" ] || COMPREPLY=()
}
complete -o default -F _ssm ssm
"""
"""What bash needs beside tyro's script, which offers one empty word where it has none, and so takes away what was
typed."""


@dataclasses.dataclass
class Completion:
    """Print the script by which a shell completes commands, flags and their choices at the Tab key.

    $ ssm completion bash > ~/.local/share/bash-completion/completions/ssm
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Which shell."""

    def __call__(self) -> None:
        from ssm.cli.commands import Command
        from ssm.cli.parsing import parse

        try:
            parse(Command, "ssm", "", ["--tyro-print-completion", self.shell])
        except SystemExit:  # which is how tyro ends
            if self.shell == "bash":
                print(AT_HAND)
