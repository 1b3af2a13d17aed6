"""Models from configuration files and presets."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import yaml

Model = TypeVar("Model", bound="ConfigurationMixin")


class ConfigurationMixin:
    """``from_config`` that takes a preset, and any file for ``anomalib train``."""

    @classmethod
    def from_config(cls: type[Model], config_path: str | Path | Mapping[str, Any], **kwargs: Any) -> Model:
        """Build the model of a configuration: a file for ``anomalib train``, or its content, such as a preset's.

        Only ``model`` counts; anomalib's method refuses files with data or a seed. ``kwargs`` replace arguments, e.g.
        ``**{"model.learning_rate": 1e-3}``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it has no ``model``, or another one than this class.
        """
        content: Any = config_path
        if not isinstance(config_path, Mapping):
            content = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
        if not isinstance(content, Mapping) or "model" not in content:
            msg = f"The configuration has no key 'model' with class_path and init_args, got {config_path!r}."
            raise ValueError(msg)
        with TemporaryDirectory() as folder:
            file = Path(folder, "model.yaml")
            file.write_text(yaml.safe_dump({"model": content["model"]}), encoding="utf-8")
            model = super().from_config(file, **kwargs)  # type: ignore[misc]
        if not isinstance(model, cls):
            msg = f"This is a configuration of {type(model).__name__}, not of {cls.__name__}: use the other class."
            raise ValueError(msg)
        return model
