"""Prediction for an image by the network of a model, tile by tile."""

import torch
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_plus.deployment.resizing import pre_process, resize_antialiased
from anomalib_plus.tiling.grid import blend_weights, tile_starts


class TiledModel(nn.Module):
    """Network that cuts images into overlapping tiles, predicts these, and blends their maps.

    Args:
        inner: Model whose network predicts the tiles.
        tile: Height and width of the tiles in pixels of the scaled image.
        overlap: Smallest share of a tile that its neighbour repeats.
        scale: Factor of the image's height and width before it is cut.
        tile_batch: Largest number of tiles per call of the network.
        tile_pre_processor: The model's pre-processor without its resizing, for example ``Normalize``.
    """

    def __init__(
        self,
        inner: AnomalibModule,
        tile: tuple[int, int],
        overlap: float,
        scale: float,
        tile_batch: int,
        tile_pre_processor: PreProcessor,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.tile = tile
        self.overlap = overlap
        self.scale = scale
        self.tile_batch = tile_batch
        self.tile_pre_processor = tile_pre_processor

    def forward(self, images: Tensor) -> InferenceBatch:
        """Predict for images (B, 3, H, W) in [0, 1]: the largest score of the tiles (B,) and maps (B, 1, H, W)."""
        scaled = self.rescale(images)
        if torch.compiler.is_exporting():  # the number of images is symbolic there: so many tiles of each image
            scores, maps = self._predict(scaled, self.tile_batch)
        else:
            parts = [
                self._predict(part, max(1, self.tile_batch // len(part))) for part in scaled.split(self.tile_batch)
            ]
            scores, maps = (torch.cat(values) for values in zip(*parts, strict=True))
        if self.scale != 1:
            maps = F.interpolate(maps, images.shape[-2:], mode="bilinear")
        return InferenceBatch(pred_score=scores, anomaly_map=maps)

    def rescale(self, images: Tensor) -> Tensor:
        """Resize images (B, C, H, W) by ``scale``; raise ``ValueError`` if they are then smaller than a tile."""
        height, width = (round(side * self.scale) for side in images.shape[-2:])
        if height < self.tile[0] or width < self.tile[1]:
            original = "x".join(map(str, images.shape[-2:]))
            scaled = f" ({height}x{width} at scale {self.scale})" if self.scale != 1 else ""
            msg = (
                f"Tiled got images of {original} pixels{scaled}, which are smaller than a tile of "
                f"{self.tile[0]}x{self.tile[1]}. Choose a smaller tile or a larger scale, or use the model by itself."
            )
            raise ValueError(msg)
        return images if self.scale == 1 else resize_antialiased(images, (height, width))

    def pre_process_tiles(self, tiles: Tensor) -> Tensor:
        """Apply what the model's pre-processor does apart from resizing."""
        return pre_process(self.tile_pre_processor, tiles)

    def _predict(self, images: Tensor, per_call: int) -> tuple[Tensor, Tensor]:
        """Predict ``per_call`` tiles of each image at a time; return scores (B,) and maps (B, 1, H, W)."""
        (height, width), (tile_height, tile_width) = images.shape[-2:], self.tile
        rows = tile_starts(height, tile_height, self.overlap)
        columns = tile_starts(width, tile_width, self.overlap)
        places = [(top, left) for top in rows for left in columns]
        scores: list[Tensor] = []
        maps: list[Tensor] = []
        for first in range(0, len(places), per_call):
            tiles = [
                images[:, :, top : top + tile_height, left : left + tile_width]
                for top, left in places[first : first + per_call]
            ]
            tile_scores, tile_maps = self._predict_tiles(torch.cat(tiles))
            scores.append(tile_scores.reshape(len(tiles), -1))
            maps.extend(tile_maps.reshape(len(tiles), -1, 1, tile_height, tile_width).unbind())
        return torch.cat(scores).amax(dim=0), self._blend(maps, rows, columns, height, width)

    def _predict_tiles(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Predict scores (N,) and maps (N, 1, h, w); a model without maps marks the whole tile with its score."""
        output = self.inner.model(self.pre_process_tiles(tiles))
        scores, maps = output.pred_score, output.anomaly_map
        if scores is None:
            scores = maps.flatten(1).amax(dim=1)
        if maps is None:
            maps = scores.reshape(-1, 1, 1, 1).expand(-1, 1, *self.tile)
        return scores, maps

    def _blend(self, maps: list[Tensor], rows: list[int], columns: list[int], height: int, width: int) -> Tensor:
        """Add up the weighted maps (B, 1, h, w) of the tiles, given row by row: first each row, then the rows.

        The weights of a pixel are the product of those of its row and its column, as the window is.
        """
        row_weights, column_weights = (
            [maps[0].new_tensor(weights.tolist()) for weights in blend_weights(length, starts, tile)]
            for length, starts, tile in ((height, rows, self.tile[0]), (width, columns, self.tile[1]))
        )
        strips = []
        for top, weights in zip(rows, row_weights, strict=True):
            tiles, maps = maps[: len(columns)], maps[len(columns) :]
            parts = [
                F.pad(tile * weight, (left, width - left - self.tile[1]))
                for left, tile, weight in zip(columns, tiles, column_weights, strict=True)
            ]
            strip = sum(parts[1:], start=parts[0]) * weights[:, None]
            strips.append(F.pad(strip, (0, 0, top, height - top - self.tile[0])))
        return sum(strips[1:], start=strips[0])
