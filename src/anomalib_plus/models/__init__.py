"""The models of anomalib-plus: ``__all__`` is the one list of them."""

from anomalib_plus.models.astmfr import AstMFR
from anomalib_plus.models.fear import FEAR
from anomalib_plus.models.ramfae import RamFAE

__all__ = ["FEAR", "AstMFR", "RamFAE"]
