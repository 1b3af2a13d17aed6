"""Validation without bad parts: good images held out of the training, and defective copies of them."""

from anomalib_plus.validation.datamodule import SyntheticValidation
from anomalib_plus.validation.holding_out import hold_out

__all__ = ["SyntheticValidation", "hold_out"]
