"""Registration of the models and datamodules in anomalib."""

from importlib import import_module

from _anomalib_plus_autoload import PARTNERS


def register(*hosts: str) -> None:
    """Add our public names to the packages where ``get_model``, ``get_datamodule`` and pipelines search. Idempotent.

    Names that anomalib has itself are not replaced.

    Args:
        hosts: Packages to register in, ``"anomalib.data"`` or ``"anomalib.models"``; both by default.
    """
    for host_name in hosts or PARTNERS:
        host = import_module(host_name)
        for ours in map(import_module, PARTNERS[host_name]):
            for name in ours.__all__:
                if not hasattr(host, name):
                    setattr(host, name, getattr(ours, name))
            if hasattr(host, "ALLOWED_MODULES"):  # packages whose dotted paths get_model accepts
                host.ALLOWED_MODULES.update((__package__, ours.__name__))  # a saved config says anomalib_plus.RamFAE
