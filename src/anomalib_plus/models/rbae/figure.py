"""Draw the stages of a trained RbAE: python -m anomalib_plus.models.rbae.figure CHECKPOINT IMAGE ...."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from anomalib.data.utils import read_image
from matplotlib.figure import Figure
from torch import Tensor

from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.models.rbae.lightning_model import RbAE

_SHOWN_LEVEL = 3
_TITLES = ("image", "features", "repaired", "reconstruction", "AM1", "AM2", "AM3", "anomaly map")


def draw_stages(model: RbAE, images: Sequence[Tensor]) -> Figure:
    """Draw one row per image and one column per stage.

    Features are shown as the mean over the channels of layer 3, before and after the repair on a common grey scale; the
    maps on a common scale from 0 to their maximum.

    Args:
        model: A model with ``discriminator="msfdm"`` whose training reached the second phase.
        images: (3, H, W) in [0, 1], of any size; the pre-processor is applied.

    Raises:
        ValueError: If the model has no MSFDM or is in its first phase.
    """
    if model.model.phase == 1 or model.model.discrimination is None:
        msg = (
            "The figure needs a model with discriminator='msfdm' whose training reached the second phase, got "
            f"discriminator={model.model.map_generator.discriminator!r} in phase {model.model.phase}."
        )
        raise ValueError(msg)
    figure = Figure(figsize=(2 * len(_TITLES), 2.1 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), len(_TITLES), squeeze=False)
    for row, image in zip(grid, images, strict=True):
        with torch.inference_mode():
            batch = pre_process(model.pre_processor, image[None].to(model.device))
            stages = model.eval().model.inspect(batch)
        before, after = (
            maps[0].mean(dim=0).cpu() for maps in (stages.features[_SHOWN_LEVEL - 1], stages.repaired[_SHOWN_LEVEL])
        )
        grey = {"cmap": "gray", "vmin": before.min().item(), "vmax": before.max().item()}
        levels = [logits.float().sigmoid() for logits in stages.logits]
        maps = [values[0, 0].cpu() for values in (*levels, stages.anomaly_map)]
        heat = {"cmap": "inferno", "vmin": 0, "vmax": max(values.max().item() for values in maps)}
        panels = [(batch, {}), (before, grey), (after, grey), (stages.reconstruction, {})]
        for axes, (values, options) in zip(row, [*panels, *((values, heat) for values in maps)], strict=True):
            axes.imshow(values if values.ndim == 2 else values[0].permute(1, 2, 0).cpu(), **options)
            axes.set_axis_off()
    for axes, title in zip(grid[0], _TITLES, strict=True):
        axes.set_title(title)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the figure of a checkpoint and some image files."""
    parser = argparse.ArgumentParser(prog="python -m anomalib_plus.models.rbae.figure", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="of a trained RbAE, e.g. model.ckpt")
    parser.add_argument("--output", type=Path, default=Path("rbae_stages.png"), help="image file to write")
    parser.add_argument("images", type=Path, nargs="+", help="image files, one row each")
    options = parser.parse_args(arguments)
    model = RbAE.load_from_checkpoint(options.checkpoint, map_location="cpu")
    draw_stages(model, [read_image(file, as_tensor=True) for file in options.images]).savefig(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
