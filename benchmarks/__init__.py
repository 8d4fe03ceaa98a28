"""This project beside its peers and beside the machine's limit: `python -m benchmarks`."""
