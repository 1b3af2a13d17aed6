"""Tiles of a training batch, drawn at random."""

import torch
from anomalib.data import ImageBatch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv


def draw_tiles(batch: ImageBatch, images: Tensor, tile: tuple[int, int], count: int) -> ImageBatch:
    """Draw tiles at random locations, in turn from each image, by torch's global generator.

    Args:
        batch: Batch whose masks (B, H, W) and labels go with the tiles. A tile of an image with a mask is labelled by
            its own part of the mask.
        images: Images (B, C, h, w) of the batch, scaled.
        tile: Height and width of the tiles.
        count: Number of tiles; at least one of each image is drawn.

    Returns:
        The tiles, without paths, because a path would stand for other pixels each time.
    """
    (height, width), number = images.shape[-2:], len(images)
    chosen = [index % number for index in range(max(count, number))]
    tops = torch.randint(height - tile[0] + 1, (len(chosen),)).tolist()
    lefts = torch.randint(width - tile[1] + 1, (len(chosen),)).tolist()

    def cut(values: Tensor) -> Tensor:
        places = zip(chosen, tops, lefts, strict=True)
        return torch.stack([values[i, ..., y : y + tile[0], x : x + tile[1]] for i, y, x in places])

    masks, labels = None, None if batch.gt_label is None else batch.gt_label[chosen]
    if batch.gt_mask is not None:
        resized = tv.resize(batch.gt_mask[:, None].float(), [height, width], tv.InterpolationMode.NEAREST)
        masks = cut(resized[:, 0] > 0)
        labels = masks.flatten(1).any(dim=1)
    return ImageBatch(image=cut(images), gt_mask=masks, gt_label=labels)
