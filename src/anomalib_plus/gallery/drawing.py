"""Drawing of the gallery."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from anomalib.data.utils import read_image
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv
from torchvision.utils import make_grid

import anomalib_plus.transforms as transforms
from anomalib_plus.data.demo_surfaces.drawing import draw_image
from anomalib_plus.data.good_images import find_good_images
from anomalib_plus.image_files import inspect_image, printable

SEVERITIES = (0.2, 0.5, 1.0)

_GAP = 4
_LABELS_WIDTH = 72
_TITLE_HEIGHT = 64
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


def available_transforms() -> dict[str, type[nn.Module]]:
    """Find the public transforms that need no argument and map images and a generator to images and masks."""
    public = {name: getattr(transforms, name) for name in transforms.__all__}
    return {name: member for name, member in public.items() if _gives_masks(member)}


def _gives_masks(member: Any) -> TypeGuard[type[nn.Module]]:
    if not (inspect.isclass(member) and issubclass(member, nn.Module)):
        return False
    call = inspect.signature(member.forward, eval_str=True)
    return (
        list(call.parameters)[1:3] == ["images", "generator"]
        and call.return_annotation == tuple[Tensor, Tensor]
        and all(parameter.default is not parameter.empty for parameter in constructor(member).values())
    )


def constructor(member: type) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class's constructor by name."""
    return inspect.signature(member).parameters


def load_images(folder: Path, count: int, size: int) -> Tensor:
    """Read ``count`` evenly spread images of a folder, or all if it has fewer; (N, 3, size, size) in [0, 1].

    In a category in MVTec layout, these are good training images; otherwise all images below the folder count.

    Raises:
        FileNotFoundError: If the folder does not exist or has no image.
        ValueError: If an image is damaged or of an unsupported kind.
    """
    paths = find_good_images(folder)
    chosen = torch.linspace(0, len(paths) - 1, min(count, len(paths))).long().tolist()
    images = []
    for path in (paths[index] for index in chosen):
        if fault := inspect_image(path, decode=True).fault:
            msg = f"{printable(path)} {fault}."
            raise ValueError(msg)
        images.append(tv.resize(read_image(path, as_tensor=True), [size, size], antialias=True))
    return torch.stack(images)


def demo_images(count: int, size: int) -> Tensor:
    """Draw good washers of the demo; (N, 3, size, size) in [0, 1]."""
    drawn = [tv.to_image(draw_image(0, "washer", "train", "good", number)[0]) for number in range(count)]
    return torch.stack([tv.resize(image / 255, [size, size], antialias=True) for image in drawn])


def draw_gallery(images: Tensor, synthesizers: Mapping[str, Mapping[str, nn.Module]], seed: int = 0) -> Image.Image:
    """Draw one block per transform: a title, then a row of originals, of results and of masks.

    Args:
        images: (N, 3, H, W), float in [0, 1].
        synthesizers: By title, settings of a transform by caption, which stand side by side. Each starts from ``seed``
            anew, so none depends on the others.
        seed: Seed of every transform.
    """
    blocks = [_draw_block(title, settings, images, seed) for title, settings in synthesizers.items()]
    size = max(block.width for block in blocks), sum(block.height for block in blocks)
    gallery = Image.new("RGB", size, _PAPER)
    top = 0
    for block in blocks:
        gallery.paste(block, (0, top))
        top += block.height
    return gallery


def _draw_block(title: str, settings: Mapping[str, nn.Module], images: Tensor, seed: int) -> Image.Image:
    drawn = [synthesize(images, torch.Generator().manual_seed(seed)) for synthesize in settings.values()]
    results, masks = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    rows = torch.cat([images.repeat(len(drawn), 1, 1, 1), results, masks.expand_as(results)])
    grid = tv.to_pil_image(make_grid(rows, nrow=len(results), padding=_GAP, pad_value=1.0))

    summary, font = (inspect.getdoc(next(iter(settings.values()))) or "").partition("\n")[0], ImageFont.load_default(13)
    width = max(_LABELS_WIDTH + grid.width, 2 * _GAP + math.ceil(font.getlength(summary)))
    block = Image.new("RGB", (width, _TITLE_HEIGHT + grid.height), _PAPER)
    block.paste(grid, (_LABELS_WIDTH, _TITLE_HEIGHT))
    pen = ImageDraw.Draw(block)
    pen.text((_GAP, 6), title, _INK, ImageFont.load_default(18))
    pen.text((_GAP, 28), summary, _INK, font)
    covered = masks.float().mean().item()
    for row, label in enumerate(("original", "result", f"mask\n{covered:.1%}")):
        middle = _TITLE_HEIGHT + _GAP + row * (images.shape[2] + _GAP) + images.shape[2] / 2
        pen.text((_GAP, middle), label, _INK, ImageFont.load_default(14), anchor="lm")
    step = len(images) * (images.shape[3] + _GAP)
    for number, caption in enumerate(settings):
        pen.text((_LABELS_WIDTH + _GAP + number * step, _TITLE_HEIGHT), caption, _INK, font, anchor="ld")
    return block


def at_severities(kind: type[nn.Module], wanted: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Build a transform once for each severity, once if it has none; of the arguments it gets those that it knows."""
    known = {key: value for key, value in wanted.items() if key in constructor(kind)}
    if "severity" not in constructor(kind):
        return {"": kind(**known)}
    return {f"severity {severity}": kind(**known, severity=severity) for severity in SEVERITIES}
