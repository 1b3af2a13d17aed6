"""Prediction by tiles: blending, largest score, memory, scale, seams."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from anomalib_plus import RamFAE
from anomalib_plus.tiling.grid import tile_starts
from anomalib_plus.tiling.torch_model import TiledModel


class Network(nn.Module):
    """Marks bright pixels, more so towards the lower right corner of whatever it is given; keeps what it was given."""

    outputs = ("pred_score", "anomaly_map")

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> InferenceBatch:
        self.batches.append(images)
        rows, columns = torch.meshgrid(*(torch.linspace(0, 1, side) for side in images.shape[-2:]), indexing="ij")
        maps = images.mean(dim=1, keepdim=True) + rows + 2 * columns
        values = {"pred_score": maps.flatten(1).amax(dim=1), "anomaly_map": maps}
        return InferenceBatch(**{name: values[name] for name in self.outputs})


class Holder(nn.Module):
    """Stands for an anomalib module, of which only the network matters here."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.model = network


def tiled(network: nn.Module, **settings: Any) -> TiledModel:
    defaults = {"tile": (24, 16), "overlap": 0.25, "scale": 1.0, "tile_batch": 8, "tile_pre_processor": PreProcessor()}
    return TiledModel(Holder(network), **{**defaults, **settings}).eval()


def reference(network: nn.Module, image: Tensor, tile: tuple[int, int], overlap: float) -> tuple[Tensor, float]:
    """Sum of the maps times the window over the sum of the windows, one tile at a time, and the largest score."""
    window = torch.from_numpy(np.multiply.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in tile)))
    height, width = image.shape[-2:]
    total, weights, score = torch.zeros(height, width).double(), torch.zeros(height, width).double(), -np.inf
    for top in tile_starts(height, tile[0], overlap):
        for left in tile_starts(width, tile[1], overlap):
            place = np.s_[top : top + tile[0], left : left + tile[1]]
            output = network(image[(None, slice(None), *place)])
            total[place] += window * output.anomaly_map[0, 0]
            weights[place] += window
            score = max(score, float(output.pred_score))
    return total / weights, score


@pytest.mark.parametrize(
    ("size", "overlap", "tile_batch"),
    [((24, 16), 0.25, 8), ((50, 61), 0.25, 8), ((50, 61), 0.0, 1), ((48, 32), 0.5, 3), ((25, 40), 0.7, 100)],
)
def test_blend_equals_a_reference_implementation(size: tuple[int, int], overlap: float, tile_batch: int) -> None:
    network, images = Network(), torch.rand(3, 3, *size)
    output = tiled(network, overlap=overlap, tile_batch=tile_batch)(images)
    assert output.anomaly_map.shape == (3, 1, *size)
    for image, anomaly_map, score in zip(images, output.anomaly_map, output.pred_score, strict=True):
        expected, largest = reference(network, image, (24, 16), overlap)
        torch.testing.assert_close(anomaly_map[0].double(), expected, atol=1e-5, rtol=0)
        assert float(score) == pytest.approx(largest, abs=1e-6)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_network_never_gets_more_than_tile_batch_tiles(count: int) -> None:
    network = Network()
    tiled(network, tile_batch=8)(torch.rand(count, 3, 60, 60))
    tiles = len(tile_starts(60, 24, 0.25)) * len(tile_starts(60, 16, 0.25))
    assert max(map(len, network.batches)) <= 8
    assert sum(map(len, network.batches)) == count * tiles
    assert {batch.shape[-2:] for batch in network.batches} == {(24, 16)}


def test_models_without_scores_or_without_maps() -> None:
    images = torch.zeros(2, 3, 48, 32)
    images[0, :, 30:34, 20:24] = 5
    network = Network()
    network.outputs = ("anomaly_map",)
    torch.testing.assert_close(tiled(network)(images).pred_score, tiled(Network())(images).pred_score)
    network.outputs = ("pred_score",)
    output = tiled(network)(images)
    assert output.anomaly_map[0, 0, 32, 22] > 6
    unmarked = torch.cat([output.anomaly_map[0, 0, 0, :4], output.anomaly_map[1].flatten()])  # do not see the spot
    torch.testing.assert_close(unmarked, torch.full_like(unmarked, 3))


def test_scale_applies_to_the_tiles_and_the_map_has_the_size_of_the_image() -> None:
    network = Network()
    images = torch.zeros(1, 3, 96, 64)
    images[:, :, 1::2] = 1  # stripes that half the resolution averages
    output = tiled(network, scale=0.5)(images)
    assert output.anomaly_map.shape == (1, 1, 96, 64)
    torch.testing.assert_close(network.batches[0], torch.full_like(network.batches[0], 0.5), atol=0.2, rtol=0)


def test_tiles_are_normalised_as_the_model_asks() -> None:
    network = Network()
    tiled(network, tile_pre_processor=PreProcessor(Normalize([0.5] * 3, [0.25] * 3)))(torch.ones(1, 3, 24, 16))
    torch.testing.assert_close(network.batches[0], torch.full((1, 3, 24, 16), 2.0))


@pytest.mark.parametrize(
    ("size", "scale", "text"),
    [((23, 16), 1.0, "images of 23x16 pixels, which"), ((40, 60), 0.5, "images of 40x60 pixels (20x30 at scale 0.5)")],
)
def test_images_smaller_than_a_tile_are_refused(size: tuple[int, int], scale: float, text: str) -> None:
    with pytest.raises(ValueError, match=rf"{re.escape(text)}.*tile of 24x16.*smaller tile or a larger scale"):
        tiled(Network(), scale=scale)(torch.rand(1, 3, *size))


@pytest.mark.parametrize(("overlap", "tolerance"), [(0.25, 0.01), (0.5, 0.005)])
def test_no_seams_on_a_smooth_image(overlap: float, tolerance: float) -> None:
    """A fully convolutional network, with a map in [0, 1] that varies by 0.2: docs/large_images.md states these."""
    network = RamFAE(widths=(4, 8, 16), mffe=False, sigma=2.0, smoothing_kernel=9).model.eval()
    rows, columns = torch.meshgrid(torch.linspace(0, 3, 192), torch.linspace(0, 2, 256), indexing="ij")
    images = (0.5 + 0.3 * torch.sin(rows) * torch.cos(columns)).expand(1, 3, -1, -1)
    with torch.inference_mode():
        whole = network(images).anomaly_map
        blended = tiled(network, tile=(128, 128), overlap=overlap)(images).anomaly_map
    assert whole.max() - whole.min() > 0.2
    assert (blended - whole).abs().max() < tolerance
    for dim in (-1, -2):
        assert blended.diff(dim=dim).abs().max() < whole.diff(dim=dim).abs().max() + tolerance / 10
