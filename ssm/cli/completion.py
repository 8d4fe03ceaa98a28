"""What tells a shell what it can complete."""

from __future__ import annotations

from typing import Any

from ssm.cli.parsing import parse

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


def print_script(command: Any, shell: str) -> None:
    """Print the script by which a shell completes `ssm`, whose commands are those of the union `command`."""
    try:
        parse(command, "ssm", "", ["--tyro-print-completion", shell])
    except SystemExit:  # which is how tyro ends
        if shell == "bash":
            print(AT_HAND)
