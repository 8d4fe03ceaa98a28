"""One file per claim; `python -m experiments` runs them all and prints the table of claims."""
