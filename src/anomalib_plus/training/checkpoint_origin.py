"""Checks that a checkpoint belongs to a model, and explanations if it does not fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.core.saving import CHECKPOINT_PAST_HPARAMS_KEYS
from torch import Tensor, nn

from anomalib_plus import __version__
from anomalib_plus.training.checkpoint_files import (
    ORIGIN,
    CheckpointError,
    check_is_checkpoint,
    explained,
    is_local,
    load_on_cpu,
)

_COMPILED = "_orig_mod."
"""Prefix that ``torch.compile`` adds to parameter names."""
_CHANGED = "so the file or the code was changed since: use the checkpoint as the training wrote it"


def read_head(path: Any) -> dict[str, Any]:
    """Read a checkpoint from a path, a URL (``s3://``) or an open file.

    The weights of a local file are memory-mapped, which takes milliseconds at any size.

    Raises:
        CheckpointError: If it is damaged, contains code or is not a checkpoint.
        FileNotFoundError: If there is no such file.
    """
    with explained(path):
        if is_local(path) and not Path(path).is_file():
            msg = f"There is no checkpoint {path}. Check the path."
            raise FileNotFoundError(msg)
        content: dict[str, Any] = load_on_cpu(path)
        check_is_checkpoint(content)
    return content


def check_origin(checkpoint: Mapping[str, Any], model: type, known_arguments: set[str] | None) -> None:
    """Raise ``CheckpointError`` for the checkpoint of another model, or one with unknown arguments.

    Lightning silently ignores unknown arguments, so the model would differ from the trained one. ``known_arguments``
    are those of the class ``model`` that loads it; None if it takes any.
    """
    name = checkpoint.get(ORIGIN, {}).get("model", model.__name__)
    if name not in {base.__name__ for base in model.__mro__}:
        msg = (
            f"This checkpoint is of the model {name}, not {model.__name__}: use {name} "
            f"(--model {name} or {name}.load_from_checkpoint)."
        )
        raise CheckpointError(msg)
    # Lightning's command line adds names of its own, with an underscore.
    saved = {name for name in checkpoint.get("hyper_parameters", {}) if not name.startswith("_")}
    unknown = sorted(saved - known_arguments) if known_arguments is not None else []
    if unknown:
        explanation = (
            f"Model and version ({__version__}) are the same, {_CHANGED}."
            if _is_of_this_version(checkpoint)
            else f"It is of another model or version ({_written_by(checkpoint)}): load it with that."
        )
        msg = (
            f"This checkpoint was made with arguments that {model.__name__} does not have here: {', '.join(unknown)}. "
            f"{explanation}"
        )
        raise CheckpointError(msg)


def check_names_no_code(checkpoint: Mapping[str, Any]) -> None:
    """Raise ``CheckpointError`` for a checkpoint whose arguments name code that builds the model.

    Lightning's own command line writes such entries, and ``load_from_checkpoint`` would import and call what they name.
    anomalib and its command line never write them. Arguments under the keys of Lightning's first versions, which it
    still reads, are refused whatever they hold, because this package never wrote them.
    """
    outdated = [name for name in CHECKPOINT_PAST_HPARAMS_KEYS if name in checkpoint]
    if outdated:
        msg = (
            f"This checkpoint was refused, because it holds arguments under {', '.join(outdated)}, as versions of "
            "Lightning before 1.0 did, and these can name code to call. Use a checkpoint that this library wrote."
        )
        raise CheckpointError(msg)
    arguments = checkpoint.get("hyper_parameters", {})
    found = [f"{name}={arguments[name]!r}" for name in ("_instantiator", "_class_path") if name in arguments]
    if found:
        msg = (
            f"This checkpoint was refused, because it names code to call ({', '.join(found)}). If Lightning's own "
            "command line wrote it, build the model yourself and pass the file to Engine.test, .predict or .fit as "
            "ckpt_path."
        )
        raise CheckpointError(msg)


def describe_misfit(
    network: nn.Module,
    arguments: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    checkpoint: Mapping[str, Any],
) -> str:
    """Describe how weights differ from those of a network built with ``arguments``, and which of these explain it.

    ``checkpoint`` has the file's other entries; empty if unknown.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    name = type(network).__name__
    faults = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
        if found
    ]
    if all(name.startswith("post_processor.") for name in {*missing, *extra} | {text.split()[0] for text in shapes}):
        return (
            f"The checkpoint was made with another post-processor than {name} has here: {'; '.join(faults)}. Pass the "
            "same --config (or --model.post_processor options) as in training; in Python the same post_processor."
        )
    saved = checkpoint.get("hyper_parameters", {})
    differing = [
        f"{key}={saved[key]!r} (here {arguments[key]!r})"
        for key in saved
        if key in arguments and _plain(saved[key]) != _plain(arguments[key])
    ]
    if differing:
        remedy = (
            f"The checkpoint was made with {', '.join(differing)}: pass the same --config (or --model options) as in "
            f"training; in Python build {name} with these arguments, or let {name}.load_from_checkpoint do it."
        )
    elif saved and _is_of_this_version(checkpoint):
        remedy = f"It was written with the same arguments by the same version ({__version__}), {_CHANGED}."
    elif saved:
        remedy = (
            f"Its arguments are the same, so it is of another version ({_written_by(checkpoint)}): load it with that."
        )
    else:
        remedy = f"Load a checkpoint of {name} made with the same arguments."
    return f"The weights do not fit {name}, which has {len(expected)} of them: {'; '.join(faults)}. {remedy}"


def adapt_to_compiled(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Rename weights to a network's names where only one of the two is compiled; keep unknown names."""
    names = {name.replace(_COMPILED, ""): name for name in network.state_dict()}
    return {names.get(name.replace(_COMPILED, ""), name): value for name, value in weights.items()}


def _is_of_this_version(checkpoint: Mapping[str, Any]) -> bool:
    return checkpoint.get(ORIGIN, {}).get("version") == __version__


def _written_by(checkpoint: Mapping[str, Any]) -> str:
    origin = checkpoint.get(ORIGIN)
    return f"written by anomalib-plus {origin['version']}, here {__version__}" if origin else "it does not say which"


def _plain(value: Any) -> Any:
    """Convert a value so that tuples equal lists and paths equal strings."""
    if isinstance(value, str | Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
