"""RB-AE: an autoencoder for textures that repairs features with patches of a clean reference image."""

from anomalib_plus.models.rbae.lightning_model import RbAE

__all__ = ["RbAE"]
