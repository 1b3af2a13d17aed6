"""AstMFR: asymmetric student and teacher with masked feature regeneration."""

from anomalib_plus.models.astmfr.lightning_model import AstMFR

__all__ = ["AstMFR"]
