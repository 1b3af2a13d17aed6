"""FEAR: foreground enhancement and autoencoder reconstruction."""

from anomalib_plus.models.fear.lightning_model import FEAR

__all__ = ["FEAR"]
