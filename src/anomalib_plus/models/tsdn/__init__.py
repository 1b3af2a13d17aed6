"""TSDN: two-stream decoder network with feature normality estimation."""

from anomalib_plus.models.tsdn.lightning_model import TSDN

__all__ = ["TSDN"]
