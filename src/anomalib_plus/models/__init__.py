"""The models of anomalib-plus: ``__all__`` is the one list of them."""

from anomalib_plus.models.fear import FEAR
from anomalib_plus.models.ramfae import RamFAE
from anomalib_plus.models.rbae import RbAE

__all__ = ["FEAR", "RamFAE", "RbAE"]
