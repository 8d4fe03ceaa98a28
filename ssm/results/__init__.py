"""Results of runs, sweeps and studies: labelled Datasets, their stores on disk, and words about them."""

from ssm.results.datasets import reached

__all__ = ["reached"]
