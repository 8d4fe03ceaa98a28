"""`Config` names every number of a run; profiles turn some of them into classes and their counts."""

from ssm.config.config import Config, DType, check_config, field_names
from ssm.config.loss import Loss
from ssm.config.optimizer import Optimizer
from ssm.config.weights import Reduction

__all__ = ["Config", "DType", "Loss", "Optimizer", "Reduction", "check_config", "field_names"]
