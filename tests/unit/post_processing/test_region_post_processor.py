"""Regions of interest of a model that knows nothing of them: PaDiM, through the Engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.models import Padim
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_plus.post_processing import MaskFolder, OtsuForeground, RegionPostProcessor

PLAIN: dict[str, Any] = {"enable_normalization": False}


class LeftHalf(nn.Module):
    """The object fills the left half; remembers the images it saw, and whether with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        mask = torch.zeros_like(images[:, :1])
        mask[..., : images.shape[-1] // 2] = self.weight
        return mask


@pytest.fixture(scope="module")
def engine() -> Engine:
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Engine(accelerator="cpu", devices=1, **silent)


@pytest.fixture(scope="module")
def datamodule(mvtec_layout: Path) -> MVTecAD:
    return MVTecAD(mvtec_layout, "surface", train_batch_size=2, eval_batch_size=4, num_workers=0)


@pytest.fixture(scope="module")
def padim(engine: Engine, datamodule: MVTecAD, tmp_path_factory: pytest.TempPathFactory) -> Padim:
    """PaDiM on 64 px, fitted; the mean and deviation are ImageNet's."""
    torch.manual_seed(0)
    normalize = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    model = Padim(
        backbone="resnet18",
        layers=["layer1"],
        pre_trained=False,
        n_features=8,
        pre_processor=PreProcessor(transform=Compose([Resize((64, 64)), normalize])),
        post_processor=RegionPostProcessor(None, **PLAIN),
        visualizer=False,
    )
    engine.fit(model, datamodule=datamodule)
    return model


def predict(engine: Engine, model: Padim, datamodule: MVTecAD, post_processor: Any) -> ImageBatch:
    """The first batch of the test images, masks resized with the maps."""
    model.post_processor = post_processor
    return engine.predict(model, datamodule=datamodule)[0]


def test_maps_are_masked_and_scores_taken_anew(engine: Engine, padim: Padim, datamodule: MVTecAD) -> None:
    foreground = LeftHalf()
    plain = predict(engine, padim, datamodule, RegionPostProcessor(None, **PLAIN))
    masked = predict(engine, padim, datamodule, RegionPostProcessor(foreground, **PLAIN))
    expected = plain.anomaly_map.clone()
    expected[..., 32:] = 0
    torch.testing.assert_close(masked.anomaly_map, expected)
    torch.testing.assert_close(masked.pred_score, expected.flatten(1).amax(1))
    assert not torch.equal(masked.pred_score, plain.pred_score)


def test_foreground_sees_images_in_the_unit_interval(engine: Engine, padim: Padim, datamodule: MVTecAD) -> None:
    foreground = LeftHalf()
    batch = predict(engine, padim, datamodule, RegionPostProcessor(foreground, **PLAIN))
    datamodule.setup()
    originals = {item.image_path: item.image for item in datamodule.test_data}
    for seen, path in zip(foreground.seen[0], batch.image_path, strict=True):
        torch.testing.assert_close(seen, originals[path], atol=1e-5, rtol=0)


def test_thresholds_are_those_of_the_masked_maps(engine: Engine, padim: Padim, datamodule: MVTecAD) -> None:
    padim.post_processor = RegionPostProcessor(LeftHalf())
    engine.validate(padim, datamodule=datamodule, verbose=False)
    assert padim.post_processor.pixel_min > 0, "what lies outside has no part in the range"
    (metrics,) = engine.test(padim, datamodule=datamodule, verbose=False)
    assert 0 <= metrics["image_AUROC"] <= 1


def test_masks_of_a_folder_reach_every_image(engine: Engine, padim: Padim, datamodule: MVTecAD, tmp_path: Path) -> None:
    """Two folders of images have the same file names."""
    plain = predict(engine, padim, datamodule, RegionPostProcessor(None, **PLAIN))
    masks = np.random.default_rng(0).integers(0, 2, (len(plain.image_path), 64, 64), dtype=np.uint8)
    for path, mask in zip(map(Path, plain.image_path), masks, strict=True):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / path.parent.name / f"{path.stem}.png")
    masked = predict(engine, padim, datamodule, RegionPostProcessor(tmp_path, **PLAIN))
    assert isinstance(padim.post_processor.roi.foreground, MaskFolder)
    torch.testing.assert_close(masked.anomaly_map, plain.anomaly_map * torch.from_numpy(masks))


def test_state_and_default() -> None:
    assert isinstance(RegionPostProcessor("foreground").roi.foreground, OtsuForeground)
    assert not RegionPostProcessor().roi.is_set
    with_foreground, without = RegionPostProcessor(LeftHalf()), RegionPostProcessor(None)
    assert list(with_foreground.state_dict()) == list(without.state_dict())
    with_foreground.load_state_dict(without.state_dict())


def test_a_call_without_images_is_refused() -> None:
    predictions = InferenceBatch(pred_score=torch.rand(2), anomaly_map=torch.rand(2, 1, 8, 8))
    with pytest.raises(RuntimeError, match=r"within Engine\.validate, test and predict only"):
        RegionPostProcessor("foreground")(predictions)
    assert torch.equal(RegionPostProcessor(None, **PLAIN)(predictions).pred_score, predictions.pred_score)


def test_importing_it_first_works() -> None:
    """The models use it, so it must not need them."""
    import anomalib_plus.post_processing.foreground as module

    assert "anomalib_plus.models" not in Path(module.__file__).read_text()
