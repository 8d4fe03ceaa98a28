"""The page of `python -m benchmarks.practice`: rows of what was compared, sentences that each name their row, and tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks import ranks
from benchmarks.practice_scores import Advised, Choice, Scores
from benchmarks.ranks import Difference, Mean
from ssm.practice.options import OWN
from ssm.practice.study.models import BALANCED_FOREST

NAMES = {
    "logistic": "logistic regression",
    "boosting": "boosted trees",
    "forest": "random forests",
    "network": "the network",
}
METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_average_precision": "macro average precision",
    "log_loss": "log loss of the reported probabilities",
    "calibrated_log_loss": "log loss after weights are taken back and a temperature is fitted",
}
FEW, STEEP = 50, 15.0
"""A rarest class of fewer samples is small; a largest class of so many times the smallest is steeply imbalanced."""
FOREST = (BALANCED_FOREST, OWN, "argmax")
Key = tuple[str, ...]


class Facts(NamedTuple):
    """A data set."""

    parent: str
    classes: str
    counts: Sequence[int]
    num_features: int

    @property
    def ratio(self) -> float:
        """The largest class over the smallest."""
        return max(self.counts) / min(self.counts)


class Found(NamedTuple):
    """All that the page is written from, by data set."""

    facts: Mapping[str, Facts]
    scores: Scores
    choices: Mapping[str, Choice]
    advice: Mapping[str, Advised]
    origin: str
    """What it was computed with."""


class Row(NamedTuple):
    """One comparison of two candidates over data sets."""

    what: str
    """The candidate that is looked at, and in brackets which sets."""
    beside: str
    metric: str
    difference: Difference

    @property
    def question(self) -> str:
        """What it asks, whichever the model."""
        return re.sub(
            r" \((?:" + "|".join(NAMES.values()) + r")\)",
            "",
            f"{self.what} {self.metric} {self.beside}",
        )


def sentence(rows: Sequence[tuple[int, Row]]) -> str:
    """The rows of one question, each with its number, in words: `raises` and `lowers` only where an interval leaves out 0."""
    first = rows[0][1]
    what = (
        first.what
        if len(rows) == 1
        else re.sub(r" \((?:" + "|".join(NAMES.values()) + r")\)", "", first.what)
    )
    signs = [
        np.sign(row.difference.mean.value) if row.difference.is_shown else 0 for _, row in rows
    ]
    means = ", ".join(f"{row.difference.mean.value:+.3f}" for _, row in rows)
    numbers = ", ".join(str(number) for number, _ in rows)
    words = f"{what[0].upper()}{what[1:]} beside {first.beside}: {METRICS[first.metric]}"
    if len(rows) == 1:
        says = {1: "rises", -1: "falls", 0: "is not shown to change"}[int(signs[0])]
    else:
        counts = {
            "rises": signs.count(1),
            "falls": signs.count(-1),
            "is not shown to change": signs.count(0),
        }
        says = ", ".join(f"{verb} in {count}" for verb, count in counts.items() if count)
        says += f" of {len(rows)} models"
    return f"{words} {says} ({means}; row{'s' * (len(rows) > 1)} {numbers})."


def page(found: Found) -> str:
    """The whole page."""
    sections = _rows(found)
    numbered = [row for rows in sections.values() for row in rows]
    number = {id(row): i + 1 for i, row in enumerate(numbered)}
    parts = [_head(found), *_standing(found)]
    for title, rows in sections.items():
        by_question: dict[str, list[tuple[int, Row]]] = {}
        for row in rows:
            by_question.setdefault(row.question, []).append((number[id(row)], row))
        parts += [f"### {title}", "\n".join(f"- {sentence(x)}" for x in by_question.values())]
    parts += ["## Rows", ROWS_NOTE, _rows_table(numbered)]
    parts += ["## What each study recommends", CHOICE_NOTE, _choices(found)]
    parts += ["## What `ssm advise` says of the counts", ADVICE_NOTE, _advice(found)]
    parts += ["## Average ranks", RANKS_NOTE, *_rank_tables(found.scores)]
    parts += ["## The data sets", SETS_NOTE, _sets(found)]
    parts += ["## Every score", SCORES_NOTE, *_all_scores(found.scores)]
    return "\n\n".join(parts) + "\n"


def _head(found: Found) -> str:
    return HEAD.format(num=len(found.facts), origin=found.origin)


def compared(
    frame: pd.DataFrame, one: Key, other: Key, sets: Iterable[str] | None = None
) -> Difference | None:
    """How much more a row of scores has than another, over the sets where both have one; None without such sets."""
    both = frame.loc[[one, other]] if sets is None else frame.loc[[one, other], list(sets)]
    both = both.dropna(axis=1)
    return ranks.difference(both.loc[one], both.loc[other]) if both.shape[1] else None


def _rows(found: Found) -> dict[str, list[Row]]:
    """The comparisons under the three questions that they answer, asked of every model alike."""
    groups: dict[str, list[Row]] = {"When to reweight": [], "When to move the threshold": []}
    groups["When neither is worth it"] = []
    for model, name in NAMES.items():
        for title, what, beside, metric, one, other in _questions(model, name):
            frames = {**found.scores.decided, **found.scores.probabilities}
            row = compared(frames[metric], one, other)
            if row is not None:
                groups[title].append(Row(what, beside, metric, row))
    groups["When to move the threshold"] += _by_kind_of_set(
        found, "deciding as for equal class shares (the network)", ("network", "erm", "bayes")
    )
    groups["When to reweight"] += _by_kind_of_set(
        found, "inverse weights (the network)", ("network", "inverse", "argmax")
    )
    return groups


def _questions(model: str, name: str) -> list[tuple[str, str, str, str, Key, Key]]:
    """Title, candidate, what it is held beside, metric, and the keys of both."""
    reweight, threshold, neither = (
        "When to reweight",
        "When to move the threshold",
        "When neither is worth it",
    )
    plain, inverse, root = (
        "no weights",
        f"inverse weights ({name})",
        f"square-root weights ({name})",
    )
    moved = f"deciding as for equal class shares without weights ({name})"
    balanced = "balanced_accuracy"
    return [
        (
            reweight,
            inverse,
            plain,
            balanced,
            (model, "inverse", "argmax"),
            (model, "erm", "argmax"),
        ),
        (reweight, root, plain, balanced, (model, "sqrt", "argmax"), (model, "erm", "argmax")),
        (
            reweight,
            inverse,
            "no weights and deciding as for equal class shares",
            balanced,
            (model, "inverse", "argmax"),
            (model, "erm", "bayes"),
        ),
        (
            threshold,
            moved,
            "the most probable class",
            balanced,
            (model, "erm", "bayes"),
            (model, "erm", "argmax"),
        ),
        (
            threshold,
            f"a threshold chosen on held-out samples in sets of two classes ({name})",
            "deciding as for equal class shares",
            balanced,
            (model, "erm", "threshold"),
            (model, "erm", "bayes"),
        ),
        (
            neither,
            moved,
            "the most probable class",
            "accuracy",
            (model, "erm", "bayes"),
            (model, "erm", "argmax"),
        ),
        *(
            (neither, inverse, plain, metric, (model, "inverse"), (model, "erm"))
            for metric in ("macro_average_precision", "log_loss", "calibrated_log_loss")
        ),
    ]


def _by_kind_of_set(found: Found, what: str, one: Key) -> list[Row]:
    """The gain in balanced accuracy beside the plain model, in sets with a steep or a slight imbalance and with a small or a
    larger rarest class."""
    kinds: dict[str, Callable[[Facts], bool]] = {
        f"largest class at least {STEEP:g} times the smallest": lambda x: x.ratio >= STEEP,
        f"largest class less than {STEEP:g} times the smallest": lambda x: x.ratio < STEEP,
        f"rarest class of fewer than {FEW}": lambda x: min(x.counts) < FEW,
        f"rarest class of at least {FEW}": lambda x: min(x.counts) >= FEW,
    }
    rows, frame = [], found.scores.decided["balanced_accuracy"]
    for kind, is_of_kind in kinds.items():
        sets = [name for name, facts in found.facts.items() if is_of_kind(facts)]
        row = compared(frame, one, (one[0], "erm", "argmax"), sets)
        if row is not None:
            beside = "no weights and the most probable class"
            rows.append(Row(f"{what}, {kind}", beside, "balanced_accuracy", row))
    return rows


def _standing(found: Found) -> list[str]:
    """The claims that were named before anything was run, each with whether it holds."""
    balanced = found.scores.decided["balanced_accuracy"].dropna()
    precision = found.scores.probabilities["macro_average_precision"]
    ours = ("network", "erm")
    lines = []
    for label, frame, one, other in (
        (
            "balanced accuracy: the network without weights, deciding as for equal class shares, beside the balanced forest",
            balanced,
            (*ours, "bayes"),
            FOREST,
        ),
        (
            "macro average precision: the network without weights beside boosted trees without weights",
            precision,
            ours,
            ("boosting", "erm"),
        ),
    ):
        lines.append(_rank_claim(label, frame, one, other))
    choices = list(found.choices.values())
    at_least = sum(each.fold_by_fold >= each.forest for each in choices)
    flattered = sum(each.score >= each.forest for each in choices)
    gain = ranks.mean(np.array([each.difference for each in choices]))
    lines.append(
        f"- What the studies recommend, judged on folds that it was not chosen by, is at least as good as the balanced forest in "
        f"balanced accuracy in {at_least} of {len(choices)} sets ({flattered} on the folds that it was chosen by); the mean "
        f"difference is {_of(gain, '+.3f')}."
    )
    lines = [lines[-1], *lines[:-1], _advice_claim(found.advice)]  # what falls short comes first
    return ["## What it comes to", "\n".join(lines)]


def _rank_claim(label: str, frame: pd.DataFrame, one: Key, other: Key) -> str:
    """Whether one candidate's average rank is at least as good as another's."""
    by_set = ranks.ranks(frame)
    both = [ranks.mean(by_set.loc[key].to_numpy()) for key in (one, other)]
    gap = ranks.mean((by_set.loc[one] - by_set.loc[other]).to_numpy())
    holds = "holds" if both[0].value <= both[1].value else "DOES NOT HOLD"
    if gap.low <= 0 <= gap.high:
        holds += ", and the difference is within what sets differ by"
    ranked = f"average ranks {both[0].value:.1f} and {both[1].value:.1f} of {len(frame)}, difference {_of(gap, '+.1f')}"
    return f"- Claim, at least equal in {label}: {holds} ({ranked})."


def _advice_claim(advice: Mapping[str, Advised]) -> str:
    """How often the weighting that is advised did best, and how far the corrected plain network is behind it."""
    agree = sum(x.measured[x.nearest] >= max(x.measured.values()) - 5e-4 for x in advice.values())
    behind = np.array([x.measured[x.nearest] - x.corrected for x in advice.values()])
    gain = np.array([x.measured[x.nearest] - x.measured["erm"] for x in advice.values()])
    return (
        f"- The weighting nearest to what `ssm advise` says of the counts was the network's best of three by the most probable "
        f"class in {agree} of {len(advice)} sets, and gains {_of(ranks.mean(gain), '+.3f')} of balanced accuracy beside no "
        f"weights; beside no weights and decisions as for equal class shares it gains {_of(ranks.mean(behind), '+.3f')}."
    )


def _of(mean: Mean, form: str) -> str:
    return f"{mean.value:{form}} ({mean.low:{form}} to {mean.high:{form}})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows_table(rows: Sequence[Row]) -> str:
    head = ("row", "what", "beside", "metric", "mean difference", "95 %", "sets", "more", "less")
    cells = []
    for i, row in enumerate(rows):
        mean, each = row.difference.mean, row.difference
        interval = f"{mean.low:+.3f} to {mean.high:+.3f}"
        numbers = (f"{mean.value:+.3f}", interval, mean.num_sets, each.wins, each.losses)
        cells.append((str(i + 1), row.what, row.beside, METRICS[row.metric], *map(str, numbers)))
    return markdown(head, cells)


def _choices(found: Found) -> str:
    head = (
        "set",
        "recommended",
        "how sure",
        "there",
        "fold by fold",
        "balanced forest",
        "difference",
        "95 %",
        "at least it",
    )
    rows = []
    for name, each in found.choices.items():
        numbers = (
            f"{each.score:.3f}",
            f"{each.fold_by_fold:.3f}",
            f"{each.forest:.3f}",
            f"{each.difference:+.3f}",
        )
        yes = "yes" if each.fold_by_fold >= each.forest else "NO"
        rows.append(
            (name, each.name, each.certainty, *numbers, f"{each.low:+.3f} to {each.high:+.3f}", yes)
        )
    return markdown(head, rows)


def _advice(found: Found) -> str:
    head = (
        "set",
        "ratio",
        "rarest",
        "advised g",
        "nearest",
        "erm",
        "sqrt",
        "inverse",
        "erm, bayes",
        "best of three",
        "agrees",
    )
    rows = []
    for name, each in found.advice.items():
        facts = found.facts[name]
        advised = " and ".join(f"{exponent:.2f}" for exponent in each.exponents)
        measured = (f"{each.measured[x]:.3f}" for x in ("erm", "sqrt", "inverse"))
        agrees = "yes" if each.measured[each.nearest] >= each.measured[each.best] - 5e-4 else "NO"
        ends = (f"{each.corrected:.3f}", each.best, agrees)
        rows.append(
            (
                name,
                f"{facts.ratio:.1f}",
                str(min(facts.counts)),
                advised,
                each.nearest,
                *measured,
                *ends,
            )
        )
    return markdown(head, rows)


def _rank_tables(scores: Scores) -> list[str]:
    balanced = scores.decided["balanced_accuracy"]
    two_classes = balanced.dropna(axis=1)
    both_rules = balanced.dropna()
    frames = [("Balanced accuracy, all sets", both_rules, 1)]
    if two_classes.shape[1]:
        frames.append(
            ("Balanced accuracy, sets of two classes, with a chosen threshold", two_classes, 1)
        )
    for kind, frame in scores.probabilities.items():
        title = METRICS[kind][0].upper() + METRICS[kind][1:]
        frames.append((title, frame, 1 if kind == "macro_average_precision" else -1))
    parts = []
    for title, frame, direction in frames:
        average = frame.mean(axis=1)
        rows = [
            (
                ", ".join(key),
                f"{rank.value:.1f}",
                f"{rank.low:.1f} to {rank.high:.1f}",
                f"{average[key]:.3f}",
            )
            for key, rank in ranks.average_ranks(frame, direction)
        ]
        parts += [
            f"### {title}, {frame.shape[1]} sets",
            markdown(("candidate", "average rank", "95 %", "mean score"), rows),
        ]
    return parts


def _sets(found: Found) -> str:
    head = ("set", "made of (UCI; OpenML)", "classes", "class sizes", "features", "ratio")
    rows = []
    for name, facts in found.facts.items():
        sizes = ", ".join(map(str, sorted(facts.counts, reverse=True)))
        rows.append(
            (
                name,
                facts.parent,
                facts.classes,
                sizes,
                str(facts.num_features),
                f"{facts.ratio:.1f}",
            )
        )
    return markdown(head, rows)


def _all_scores(scores: Scores) -> list[str]:
    frames = {"balanced_accuracy": scores.decided["balanced_accuracy"], **scores.probabilities}
    parts = []
    for metric, frame in frames.items():
        head = ("candidate", *map(str, frame.columns))
        rows = [
            (", ".join(key), *("" if np.isnan(x) else f"{x:.3f}" for x in row))
            for key, row in zip(frame.index, frame.to_numpy(), strict=True)
        ]
        title = METRICS[metric][0].upper() + METRICS[metric][1:]
        parts += [f"### {title}", markdown(head, rows)]
    return parts


HEAD = """\
# Reweighting and thresholds on real tables

Written by `python -m benchmarks.practice DIR`: {num} data sets, five models, three weightings, up to three rules of decision, one
repetition of five stratified folds, by the study of `ssm study`. Scaling, temperatures, thresholds and stopping rules see training parts
alone. Intervals are 95 % over data sets (bootstrap), each by itself, so that of 20 that show something one may be chance; sets of one
parent (yeast) are counted as two. The network is `ReweightedClassifier` as it comes: one hidden layer of 64, stopped early.
"Deciding as for equal class shares" is the rule `bayes`: probabilities of training shares, divided by these shares.

Computed with {origin}."""
ROWS_NOTE = "Differences of means over folds, averaged over sets; `more` and `less` count the sets where the first has more, and less."
CHOICE_NOTE = """\
`recommended` is the study's verdict on all five folds and `there` its mean balanced accuracy on them, which flatters the best of many
candidates. `fold by fold` judges each fold by what the verdict on the other four recommends; the difference from imbalanced-learn's
balanced forest, taking the most probable class, has the interval of the corrected resampled t-test over folds."""
ADVICE_NOTE = """\
`advised g` are the weights 1 / n^g that balance the small-scale model at couplings of 0.1 and 0.4, `nearest` the strategy nearest to their
mean. It is about when classes are learned in training, not about held-out scores: that is what this table holds it against. The
numbers are balanced accuracies of the network, by the most probable class but for `erm, bayes`; `agrees` where no other is better by 0.0005."""
RANKS_NOTE = "1 is best. Candidates are a model, a weighting, and for decisions a rule. Intervals are over data sets."
SETS_NOTE = """\
The sets are no part of this project. Twelve are groupings of the KEEL repository (Alcala-Fdez et al. 2011), whose sources are UCI data sets
(Dua, Graff; CC BY 4.0), here with the name at UCI and at OpenML; class sizes tell whether a set that you make is the same, give or
take a few rows. Balanced sets were cut to a long tail of 10 to 1 (`StudyOptions(imbalance_ratio=10, profile="long_tailed")`)."""
SCORES_NOTE = "Means over five folds."
