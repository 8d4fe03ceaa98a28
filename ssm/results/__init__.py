"""What a run, a sweep or a study leaves behind: labelled Datasets, their stores, words about them."""

from ssm.results.datasets import reached

__all__ = ["reached"]
