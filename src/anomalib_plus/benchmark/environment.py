"""Device, code revision and weights behind a result."""

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

from anomalib_plus.files import file_hash


def device_name(device: torch.device) -> str:
    """Name of the GPU or the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU: {line.partition(':')[2].strip()}"
    return f"CPU: {platform.processor() or platform.machine()}"


def git_commit() -> str | None:
    """Commit of this source tree, with ``-dirty`` if it has changes; None outside its repository."""
    here = Path(__file__)
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return finished.stdout.strip() if finished.returncode == 0 else None


def weight_hashes(model: nn.Module, arguments: dict[str, Any], offered: dict[str, Path]) -> dict[str, str | None]:
    """SHA-256 of the files of a model's pre-trained weights.

    The model's optional attribute ``training_networks`` lists timm's names of further networks of its training.
    ``offered`` are the files of :func:`~.offline_weights.offer_lite_weights`.

    Returns:
        Hashes by argument for files and by weight tag for timm's weights; None for weights that are not in its cache.
    """
    texts = {name: value for name, value in _values(arguments) if isinstance(value, str)}
    files = {name: text for name, text in texts.items() if os.path.isfile(text)}  # noqa: PTH113 -- Path's raises on long texts
    found: dict[str, str | None] = {name: file_hash(Path(text)) for name, text in files.items()}
    for path, module in model.named_modules():
        configuration = getattr(module, "pretrained_cfg", None)
        if isinstance(configuration, dict) and configuration.get("architecture") and _from_timm(path, arguments):
            name = configuration["architecture"]
            tag = ".".join(filter(None, [name, configuration.get("tag")]))
            found[tag] = file_hash(offered[name]) if name in offered else _cached_hash(configuration)
    for tag in getattr(model, "training_networks", ()):  # networks that are no modules of the model
        found[tag] = _cached_hash(timm.get_pretrained_cfg(tag).to_dict())
    return found


def _from_timm(path: str, arguments: dict[str, Any]) -> bool:
    """Return True if the network at a path (``model.student.network``) has timm's weights: no file, not random.

    The arguments that decide hold for the whole model, or begin with the network's name.
    """
    owners = ["", *(f"{part}_" for part in path.split("."))]
    switches = [f"{owner}{ending}" for owner in owners for ending in ("pre_trained", "pretrained")]
    files = [arguments.get(f"{owner}weights") for owner in owners]
    return not any(files) and all(arguments.get(switch, True) for switch in switches)


def _cached_hash(configuration: dict[str, Any]) -> str | None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        hub_id = configuration.get("hf_hub_id")
        if hub_id and isinstance(cached := try_to_load_from_cache(hub_id, name), str):
            return file_hash(Path(cached))
    return None


def _values(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested arguments, each with its dotted path."""
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _values(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
