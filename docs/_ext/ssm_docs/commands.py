"""A page of all commands, each as its own `--help` has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from ssm.cli.commands import Command
from ssm.cli.parsing import command_names

WIDTH = "80"  # characters, which a page of text has room for


def _help(words: tuple[str, ...]) -> str:
    """What a command prints of itself, without colours."""
    environment = os.environ | {"COLUMNS": WIDTH, "NO_COLOR": "1", "TERM": "dumb"}
    main = "from ssm.cli import main; main()"
    if words[:1] == ("experiments",):
        main, words = "from experiments.__main__ import main; main()", words[1:]
    code = f"import sys; sys.argv = ['ssm', *sys.argv[1:]]; {main}"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).rstrip()


def pages() -> dict[str, str]:
    """The text of the page by its path."""
    commands = [(), *((name,) for name in command_names(Command)), ("experiments",)]
    with ThreadPoolExecutor(2) as pool:
        printed = list(pool.map(_help, commands))
    rows = [
        "# Commands",
        "",
        "What each command prints with `--help`. The exit code is 0, 2 for bad input with one line on standard error, "
        "130 on Ctrl-C. Every flag of a run is a field of a [Config](config.rst).",
        "",
    ]
    for words, text in zip(commands, printed, strict=True):
        title = "python -m experiments" if words == ("experiments",) else " ".join(("ssm", *words))
        rows += [f"## `{title}`", "", "```text", text, "```", ""]
    return {"reference/commands.md": "\n".join(rows)}
