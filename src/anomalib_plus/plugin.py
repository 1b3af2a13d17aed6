"""Makes the models and datamodules of anomalib-plus known to anomalib."""

from importlib import import_module

from _anomalib_plus_autoload import PARTNERS


def register(*hosts: str) -> None:
    """Enter our public names where ``get_model``, ``get_datamodule`` and pipelines look them up. Idempotent.

    A name that anomalib itself has is left alone.

    Args:
        hosts: Packages of anomalib to register in, ``"anomalib.data"`` or ``"anomalib.models"``. Both by default.
    """
    for host_name in hosts or PARTNERS:
        host, ours = import_module(host_name), import_module(PARTNERS[host_name])
        for name in ours.__all__:
            if not hasattr(host, name):
                setattr(host, name, getattr(ours, name))
        if hasattr(host, "ALLOWED_MODULES"):  # the packages of which get_model accepts dotted paths
            host.ALLOWED_MODULES.update((__package__, ours.__name__))  # a saved config says anomalib_plus.RamFAE
