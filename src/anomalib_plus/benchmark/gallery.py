"""Gallery of a job: test images with the highest and lowest scores and random ones, with masks and maps.

If the network has a method ``reconstruct_images(images)``, from pre-processed images (B, 3, H, W) to (B, 1 or 3, H, W)
in [0, 1], its reconstructions are saved too.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data.utils import read_image
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.benchmark.evaluation import Predictions
from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.overlays import colour, lay_over


def relative_paths(paths: list[str]) -> list[str]:
    """Shorten paths so that they begin with the folder that all have in common."""
    base = Path(os.path.commonpath([Path(path).parent for path in paths]))
    start = base.parent if len({Path(path).parent for path in paths}) > 1 else base.parent.parent
    return [Path(path).relative_to(start).as_posix() for path in paths]


def choose(predictions: Predictions, count: int, seed: int) -> dict[str, list[int]]:
    """Choose images of each kind; no image is chosen twice.

    Returns:
        Indices by kind. Defective images: ``best`` (highest scores), ``worst`` (lowest) and ``random``. Good images:
        ``worst_good`` (highest scores) and ``random_good``.
    """
    order = [int(i) for i in np.argsort(-predictions.scores, kind="stable")]
    defective = [i for i in order if predictions.labels[i]]
    good = [i for i in order if not predictions.labels[i]]
    share = min(count, (len(defective) + 1) // 2)
    best, worst = defective[:share], defective[share:][::-1][:count]
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
    """Save ``count`` images of each kind to a folder, named ``prefix`` in the record; return the record's entries."""
    names = relative_paths(predictions.paths)
    gallery = []
    for kind, chosen in choose(predictions, count, seed).items():
        for number, index in enumerate(chosen):
            files: dict[str, str | None] = {}
            for name, image in _draw(model, predictions, index, device).items():
                file = f"{kind}{number}_{name}.png"
                if image is not None:
                    image.save(folder / file)
                files[name] = f"{prefix}/{file}" if image is not None else None
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
    prepared = pre_process(model.pre_processor, original[None].to(device))
    size = list(prepared.shape[-2:]) if predictions.maps is None else list(predictions.maps.shape[-2:])
    shown = tv.to_pil_image(tv.resize(original, size, antialias=True).clamp(0, 1))
    drawn: dict[str, Image.Image | None] = dict.fromkeys(("input", "mask", "map", "overlay", "reconstruction"))
    drawn["input"] = shown
    if predictions.masks is not None and predictions.labels[index]:
        drawn["mask"] = Image.fromarray(predictions.masks[index].astype(np.uint8) * 255)
    if predictions.maps is not None:
        low, high = predictions.maps.min(), predictions.maps.max()  # one scale for all images
        scaled = (predictions.maps[index] - low) / max(high - low, np.finfo(np.float32).tiny)
        levels = Image.fromarray((scaled * 255).astype(np.uint8))
        drawn["map"], drawn["overlay"] = colour(levels), lay_over(shown.convert("RGB"), levels)
    reconstruct = getattr(model.model, "reconstruct_images", None)
    if reconstruct is not None:
        drawn["reconstruction"] = tv.to_pil_image(reconstruct(prepared)[0].clamp(0, 1).float().cpu())
    return drawn
