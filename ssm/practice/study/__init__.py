"""Studies: strategies compared over seeds and folds, their records, and the report of them."""
