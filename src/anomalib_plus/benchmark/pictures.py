"""Pictures of test images: the extreme ones, defective and good, and some at random.

Where the network has a method ``reconstruct_images(images)``, which maps images (B, 3, H, W) as they come from the
pre-processor to (B, 1 or 3, H, W) in [0, 1], its result is kept too.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data.utils import read_image
from anomalib.visualization.image.functional import apply_colormap
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.benchmark.evaluation import Predictions, prepare

_OPACITY = 0.8


def relative_paths(paths: list[str]) -> list[str]:
    """Paths as short as they can be without losing the name of the folder that all have in common."""
    base = Path(os.path.commonpath([Path(path).parent for path in paths]))
    start = base.parent if len({Path(path).parent for path in paths}) > 1 else base.parent.parent
    return [Path(path).relative_to(start).as_posix() for path in paths]


def choose(predictions: Predictions, count: int, seed: int) -> dict[str, list[int]]:
    """Choose images of each kind by position; no image is chosen twice.

    Returns:
        Of the defective images ``best`` and ``worst``, with the highest and the lowest scores, and ``random`` ones;
        of the good images ``worst_good``, with the highest scores, and ``random_good`` ones.
    """
    order = [int(i) for i in np.argsort(-predictions.scores, kind="stable")]
    defective = [i for i in order if predictions.labels[i]]
    good = [i for i in order if not predictions.labels[i]]
    share = min(count, (len(defective) + 1) // 2)
    best, worst = defective[:share], defective[share:][-count:][::-1]
    worst_good = good[: min(count, (len(good) + 1) // 2)]
    rng = np.random.default_rng(seed)

    def draw(images: list[int], taken: list[int]) -> list[int]:
        return [int(i) for i in rng.permutation(np.setdiff1d(images, taken))[:count]]

    return {
        "best": best,
        "worst": worst,
        "random": draw(defective, [*best, *worst]),
        "worst_good": worst_good,
        "random_good": draw(good, worst_good),
    }


def save_gallery(
    model: Any, predictions: Predictions, folder: Path, prefix: str, count: int, seed: int, device: torch.device
) -> list[dict[str, Any]]:
    """Write the pictures and describe them as a record does.

    Args:
        model: The anomalib module, in evaluation mode.
        predictions: What it said.
        folder: Where to write; exists.
        prefix: Path of that folder as the record shall name it.
        count: Images of each kind.
        seed: Of the draw.
        device: Where the model is.
    """
    names = relative_paths(predictions.paths)
    gallery = []
    for kind, chosen in choose(predictions, count, seed).items():
        for number, index in enumerate(chosen):
            pictures = _draw(model, predictions, index, device)
            files: dict[str, str | None] = {}
            for name, picture in pictures.items():
                file = f"{kind}{number}_{name}.png"
                if picture is not None:
                    picture.save(folder / file)
                files[name] = f"{prefix}/{file}" if picture is not None else None
            gallery.append(
                {
                    "kind": kind,
                    "path": names[index],
                    "score": float(predictions.scores[index]),
                    "label": int(predictions.labels[index]),
                    "files": files,
                }
            )
    return gallery


@torch.inference_mode()
def _draw(model: Any, predictions: Predictions, index: int, device: torch.device) -> dict[str, Image.Image | None]:
    original = read_image(predictions.paths[index], as_tensor=True)
    prepared = prepare(model, original[None].to(device))
    size = list(prepared.shape[-2:]) if predictions.maps is None else list(predictions.maps.shape[-2:])
    shown = tv.to_pil_image(tv.resize(original, size, antialias=True).clamp(0, 1))
    pictures: dict[str, Image.Image | None] = {
        "input": shown,
        "mask": None,
        "map": None,
        "overlay": None,
        "reconstruction": None,
    }
    if predictions.masks is not None and predictions.labels[index]:
        pictures["mask"] = Image.fromarray(predictions.masks[index].astype(np.uint8) * 255)
    if predictions.maps is not None:
        low, high = predictions.maps.min(), predictions.maps.max()  # one scale for all images
        scaled = (predictions.maps[index] - low) / max(high - low, np.finfo(np.float32).tiny)
        levels = Image.fromarray((scaled * 255).astype(np.uint8))
        colours = apply_colormap(levels).convert("RGB")
        pictures["map"] = colours
        # As opaque as the map is high, so that the part stays visible where nothing is found.
        opacity = levels.point(lambda level: level * _OPACITY)
        pictures["overlay"] = Image.composite(colours, shown.convert("RGB"), opacity)
    reconstruct = getattr(model.model, "reconstruct_images", None)
    if reconstruct is not None:
        pictures["reconstruction"] = tv.to_pil_image(reconstruct(prepared)[0].clamp(0, 1).float().cpu())
    return pictures
