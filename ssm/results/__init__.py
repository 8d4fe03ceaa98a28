"""Results of runs, sweeps and studies: labelled Datasets, and their stores on disk."""

from ssm.results.datasets import reached

__all__ = ["reached"]
