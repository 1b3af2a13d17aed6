"""Where a result came from: device, code and weights."""

import hashlib
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn


def device_name(device: torch.device) -> str:
    """The GPU's name, or that of the CPU."""
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
    """The commit of this source tree, with ``-dirty`` where it was changed; None outside a repository of ours."""
    here = Path(__file__)
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    return (
        None if tracked is None else _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    )


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return finished.stdout.strip() if finished.returncode == 0 else None


def weight_hashes(model: nn.Module, arguments: dict[str, Any], offered: dict[str, Path]) -> dict[str, str | None]:
    """SHA-256 of the files that a model's pre-trained weights came from.

    Args:
        model: The built model.
        arguments: Its arguments; those that are files are hashed.
        offered: Files by backbone that were offered to timm.

    Returns:
        Hashes by file name or weight tag; None where timm's weights came from a file that is not in its cache.
    """
    files = {Path(value) for value in _values(arguments) if isinstance(value, str) and _is_file(value)}
    found: dict[str, str | None] = {file.name: file_hash(file) for file in sorted(files)}
    if arguments.get("pre_trained") is False or files:
        return found
    for module in model.modules():
        configuration = getattr(module, "pretrained_cfg", None)
        if isinstance(configuration, dict) and (name := configuration.get("architecture")):
            tag = ".".join(filter(None, [name, configuration.get("tag")]))
            found[tag] = file_hash(offered[name]) if name in offered else _cached_hash(configuration)
    return found


def file_hash(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _cached_hash(configuration: dict[str, Any]) -> str | None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        hub_id = configuration.get("hf_hub_id")
        if hub_id and isinstance(cached := try_to_load_from_cache(hub_id, name), str):
            return file_hash(Path(cached))
    return None


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _values(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _values(item)
    else:
        yield value


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False
