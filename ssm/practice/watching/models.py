"""What is known of the classifier that is watched: its classes, its reference, and how it decides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ssm.practice.deployment import cards
from ssm.practice.deployment.cards import Card
from ssm.support.errors import invalid


@dataclasses.dataclass(frozen=True)
class Model:
    """A classifier, as its card describes it; without a card, nothing is known of it but its classes."""

    classes: tuple[str, ...]
    card: Card | None = None

    @classmethod
    def of_card(cls, path: Path) -> Model:
        """The classifier of a card.

        Raises:
            ssm.InputError: a file that is no card, or a card without held-out performance.
        """
        card = cards.read_card(path)
        if card.performance is None:
            raise invalid("card", str(path), "one with the performance on held-out cases")
        classes = tuple(str(label) for label in card.classes)
        if len(set(classes)) < len(classes):
            raise invalid("classes", classes, "names that differ as text, as a log has them")
        return cls(classes, card)

    @property
    def confusion(self) -> Int[np.ndarray, "k k"] | None:
        """The held-out cases by true class (rows) and decision; None without a card."""
        if self.card is None or self.card.performance is None:
            return None
        return np.array(self.card.performance.confusion, dtype=np.int64)

    @property
    def prior(self) -> Float[np.ndarray, " k"] | None:
        """The class shares that the probabilities are for, shape (k,); None where no card says it."""
        known = None if self.card is None else self.card.probabilities_for
        return None if known is None else np.array(known)

    def decide(self, p: Float[np.ndarray, "m k"]) -> Int[np.ndarray, " m"]:
        """The decisions by the card's rule; without a card, or where the rule is `trained`, the most probable classes."""
        rule = None if self.card is None else self.card.rule
        if rule is None or rule.kind == "trained":
            return p.argmax(axis=1)
        if rule.kind == "costs":
            return (p @ np.array(rule.costs)).argmin(axis=1)
        if rule.kind == "shares":
            prior = np.full(len(self.classes), 1.0) if self.prior is None else self.prior
            return (p * (np.array(rule.shares) / prior)).argmax(axis=1)
        assert (
            self.card is not None and rule.threshold is not None
        )  # since the rule is of this kind
        c = self.card.classes.index(rule.label)
        others = p.copy()
        others[:, c] = -1
        return np.where(p[:, c] >= rule.threshold, c, others.argmax(axis=1))
