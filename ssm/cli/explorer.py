"""The command that opens the explorer, a page of the browser for experiments with the model."""

from __future__ import annotations

import dataclasses
import webbrowser
from pathlib import Path

from ssm.support.errors import InputError

PAGE = Path(__file__).parents[1] / "explorer.html"
"""The page, which `make explorer` builds from explorer/ and which packages contain."""


@dataclasses.dataclass
class Explore:
    """Open the explorer in the browser: sliders for imbalance, class weights, coupling, start and loss, and the
    model's exact curves, ERM beside weights. It is one file and needs no network. Prints its address, for where
    there is no browser."""

    def __call__(self) -> None:
        if not PAGE.is_file():
            raise InputError(
                "the explorer is not built here: `make explorer` in a checkout does it, with Node.js 20 or newer"
            )
        print(PAGE.as_uri())
        webbrowser.open(PAGE.as_uri())
