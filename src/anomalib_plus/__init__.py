"""Five published anomaly detection methods as models of anomalib.

Models, transforms, datamodules, validation data, metrics, post-processors, tiles and presets are imported by name:
``from anomalib_plus import RamFAE``. The package loads torch and anomalib only when a name is used, because the
start-up hook imports it while anomalib is still loading. It registers the models in anomalib, now or when anomalib is
imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import _anomalib_plus_autoload
from anomalib_plus.plugin import register as register

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from anomalib_plus.data import *  # noqa: F403
    from anomalib_plus.metrics import *  # noqa: F403
    from anomalib_plus.models import *  # noqa: F403
    from anomalib_plus.post_processing import *  # noqa: F403
    from anomalib_plus.presets import preset as preset
    from anomalib_plus.presets import preset_path as preset_path
    from anomalib_plus.tiling import *  # noqa: F403
    from anomalib_plus.transforms import *  # noqa: F403
    from anomalib_plus.validation import *  # noqa: F403

_PUBLIC_PACKAGES = ("models", "transforms", "data", "metrics", "post_processing", "tiling", "validation")


def __getattr__(name: str) -> Any:
    if name in {"preset", "preset_path"}:  # without loading torch
        return getattr(import_module(f"{__name__}.presets"), name)
    if name in _PUBLIC_PACKAGES:
        return import_module(f"{__name__}.{name}")
    if not name.startswith("_"):
        for package_name in _PUBLIC_PACKAGES:
            package = import_module(f"{__name__}.{package_name}")
            if name in package.__all__:
                return getattr(package, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


_anomalib_plus_autoload.install()
