"""Draw the stages of a trained FEAR: input, foreground, reconstruction and anomaly map.

python -m anomalib_plus.models.fear.figure CHECKPOINT IMAGE ... writes fear_stages.png, one row per image.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from anomalib.data.utils import read_image
from matplotlib.figure import Figure
from torch import Tensor

from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.models.fear.lightning_model import FEAR
from anomalib_plus.transforms.foreground import otsu_foreground

_TITLES = ("image", "foreground", "network's input", "mask", "reconstruction", "anomaly map")


@torch.inference_mode()
def draw_stages(model: FEAR, images: Sequence[Tensor], corrupted: int = 0, seed: int = 0) -> Figure:
    """Draw one row per image and one column per stage; maps on the scale from 0 to 1.

    Args:
        model: A trained model, which is set to evaluation mode.
        images: (3, H, W) in [0, 1], of any size; the pre-processor is applied.
        corrupted: Number of images, the first ones, that get a synthetic defect of the paper.
        seed: Seed of the synthetic defects.
    """
    network = model.eval().model
    originals = torch.cat([pre_process(model.pre_processor, image[None]) for image in images])
    inputs, masks = originals.clone(), torch.zeros_like(originals[:, :1])
    if corrupted:
        augmenter = model.configure_augmenter(probability=1.0)
        generator = torch.Generator().manual_seed(seed)
        inputs[:corrupted], masks[:corrupted] = augmenter(originals[:corrupted], generator)
    columns = (
        originals,
        otsu_foreground(originals, getattr(model.augmenter, "foreground_polarity", "auto")),
        inputs,
        masks,
        network.reconstruct_images(inputs).clamp(0, 1),
        network(inputs).anomaly_map,
    )
    figure = Figure(figsize=(2 * len(_TITLES), 2.1 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), len(_TITLES), squeeze=False)
    for row, stages in zip(grid, zip(*columns, strict=True), strict=True):
        for axes, values, title in zip(row, stages, _TITLES, strict=True):
            colours = "inferno" if title == _TITLES[-1] else "gray"
            axes.imshow(values.float().permute(1, 2, 0), cmap=colours, vmin=0, vmax=1)
            axes.set_axis_off()
    for axes, title in zip(grid[0], _TITLES, strict=True):
        axes.set_title(title)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure of a checkpoint and some image files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, nargs="+", help="image files, one row each")
    parser.add_argument("--corrupt", type=int, default=0, metavar="N", help="add a defect to the first N images")
    parser.add_argument("--seed", type=int, default=0, help="of the added defects")
    parser.add_argument("--output", type=Path, default=Path("fear_stages.png"))
    options = parser.parse_args(arguments)
    model = FEAR.load_from_checkpoint(options.checkpoint, map_location="cpu")
    images = [read_image(file, as_tensor=True) for file in options.images]
    draw_stages(model, images, options.corrupt, options.seed).savefig(options.output, dpi=80)


if __name__ == "__main__":
    main()
