"""Models that leave the workshop: files of a fitted classifier, and the card that says what it is and how well it does."""
