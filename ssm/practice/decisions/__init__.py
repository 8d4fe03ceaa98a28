"""From weights to decisions: any classifier of scikit-learn, its probabilities, and what decisions cost."""
