"""What the model says of given class counts, in tables and sentences."""

from ssm.advice.advice import Advice, advise, render

__all__ = ["Advice", "advise", "render"]
