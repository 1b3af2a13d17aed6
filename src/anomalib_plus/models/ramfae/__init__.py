"""RAMFAE: a repairing autoencoder with a multi-scale focused bottleneck."""

from anomalib_plus.models.ramfae.lightning_model import RamFAE

__all__ = ["RamFAE"]
