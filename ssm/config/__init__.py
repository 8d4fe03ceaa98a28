"""`Config` names every number of a run; profiles turn some of them into classes and their counts."""

from ssm.config.choices import Loss
from ssm.config.config import Config, check_config, field_names

__all__ = ["Config", "Loss", "check_config", "field_names"]
