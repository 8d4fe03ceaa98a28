"""Numbers of experiments that pages written by hand quote are those of the table of claims."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLAIMS = (ROOT / "figures" / "claims.md").read_text()
# Of each page the words that quote, with the experiment and words of its claim's statement that name one row each.
BRIDGE = ("bridge", "convolutional network, plain digits", "exponent, distance from 1/2")
SLOPES = "power of R by which an exponent's unit moves the ratio of times, worst"
QUOTED = {
    "docs/explanations/real_networks.md": [
        ("takes 1.6 times as long, which fails", "mnist", "[D] weighted CE", "cross block"),
        ("to 0.04 in the mean over seeds", "bridge", "standard start, noise 0.9,", "start's kernel"),
        ("balances at 0.80 to 1.21 by seed", *BRIDGE),
        ("R^(-0.52 g) to R^(-0.77 g)", "bridge", f"small start: {SLOPES}"),
        ("R^(-0.83 g) to R^(-0.88 g)", "bridge", f"standard start: {SLOPES}"),
        ("9.5 times where the digits network has 3.3", "network_gap", "by size of the start and optimiser"),
        ("by 0.62 of minority recall", "practice", "digits: early lead of weights in minority"),
        ("by 0.62 of minority recall", "practice", "digit 8: early lead of weights in minority"),
        ("by 0.01 of balanced accuracy", "practice", "digits: balanced accuracy at the end, weights"),
        ("by 0.01 of balanced accuracy", "practice", "digit 8: balanced accuracy at the end, weights"),
        ("pays 0.033 at 100:1 (interval -0.005 to 0.070)", "stop_or_train", "MNIST, R = 100", "balanced log loss over the end"),
        ("stopping pays 0.018 (0.012 to 0.024)", "practice", "breast cancer, 50 draws", "best on other seeds"),
        ("best early at couplings above 0.1 alone", "bridge", "small start", "worst of c > 0.1"),
        ("best early at couplings above 0.1 alone", "bridge", "standard start", "worst of c > 0.1"),
    ],
    "docs/explanations/stop_early.md": [
        ("have a balanced accuracy of 0.86", "held_out", "best of g = 1 over its accuracy at a margin"),
        ("ERM is 0.30 behind", "overview", "fresh samples: balanced accuracy of weights"),
    ],
    "README.md": [
        ("best the weighted runs have 0.86", "held_out", "best of g = 1 over its accuracy at a margin"),
        ("ERM is 0.30 behind", "overview", "fresh samples: balanced accuracy of weights"),
    ],
    "docs/how-to/weights.md": [
        ("had 0.01 to 0.4 when training began", "bridge", "small start: the exponent rises with c"),
    ],
}  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?")


def row(experiment: str, *words: str) -> str:
    """The one claim of an experiment with these words."""
    rows = CLAIMS.split(f"\n## {experiment}\n")[1].split("\n## ")[0].splitlines()
    found = [line for line in rows if all(word in line for word in words)]
    assert len(found) == 1, (experiment, words, found)
    return found[0]


def text(page: str) -> str:
    """A page without its code, on one line."""
    return " ".join(
        re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S).split()
    )


def decimals(words: str) -> list[str]:
    return [number for number in NUMBER.findall(words) if "." in number]


@pytest.mark.parametrize(
    ("page", "quote"), [(page, quote) for page, quotes in QUOTED.items() for quote in quotes]
)
def test_a_quoted_number_is_the_claims(page, quote):
    """Rounded as it is written: half of its last digit, and as much of the claim's own last digit."""
    words, *where = quote
    assert words in text(page)
    claimed = NUMBER.findall(row(*where))
    for number in decimals(words):
        near = [
            c for c in claimed if abs(float(c) - float(number)) <= half(number) + half(c) + 1e-12
        ]
        assert near, (number, claimed)


def half(number: str) -> float:
    """Half a unit of a number's last digit."""
    mantissa, _, exponent = number.partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


@pytest.mark.parametrize(
    "page",
    sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs/explanations").glob("*.md")),
)
def test_the_explanations_have_no_other_numbers(page):
    """Every decimal number there is quoted from a claim; others would go stale unseen."""
    rest = text(page)
    for words, *_ in QUOTED.get(page, []):
        rest = rest.replace(words, "")
    assert decimals(rest) == []
