"""Studies: strategies compared over seeds and folds, their records, and what is found in them."""
