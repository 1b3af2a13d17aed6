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

from anomalib_plus.post_processing import MaskFolder, OtsuForeground, RegionPostProcessor, RegionVisualizer

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


@pytest.mark.parametrize("computed", [True, False], ids=["computed", "one mask"])
def test_maps_are_masked_and_scores_taken_anew(
    computed: bool, engine: Engine, padim: Padim, datamodule: MVTecAD, left_mask: Path
) -> None:
    plain = predict(engine, padim, datamodule, RegionPostProcessor(None, **PLAIN))
    masked = predict(engine, padim, datamodule, RegionPostProcessor(LeftHalf() if computed else left_mask, **PLAIN))
    expected = plain.anomaly_map.clone()
    expected[..., 32:] = 0
    torch.testing.assert_close(masked.anomaly_map, expected)
    torch.testing.assert_close(masked.pred_score, expected.flatten(1).amax(1))
    assert not torch.equal(masked.pred_score, plain.pred_score)
    assert not masked.pred_mask[..., 32:].any()


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


def test_negative_maps_are_limited_too() -> None:
    maps = torch.tensor([[[[-3.0, -1.0], [-2.0, -0.5]]]])
    mask = np.array([[1, 0], [1, 0]])
    found = RegionPostProcessor(mask, **PLAIN)(InferenceBatch(pred_score=torch.zeros(1), anomaly_map=maps))
    assert found.pred_score.tolist() == [-2.0]
    assert found.anomaly_map.tolist() == [[[[-3.0, 0.0], [-2.0, 0.0]]]]


def test_an_image_of_which_nothing_is_inside_counts_as_a_whole() -> None:
    class Nothing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros_like(images[:, :1])

    maps, images = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    found = RegionPostProcessor(Nothing(), **PLAIN)(InferenceBatch(torch.zeros(2), anomaly_map=maps), images)
    assert torch.equal(found.anomaly_map, maps)


def test_the_state_holds_the_mask_and_a_file_that_changed_is_named(
    left_mask: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = InferenceBatch(pred_score=torch.rand(1), anomaly_map=torch.rand(1, 1, 64, 64))
    first = RegionPostProcessor(left_mask, **PLAIN)
    expected = first(batch).anomaly_map
    state = first.state_dict()
    for roi in (None, left_mask):
        loaded = RegionPostProcessor(roi, **PLAIN)
        loaded.load_state_dict(state)
        assert torch.equal(loaded(batch).anomaly_map, expected)
        assert not caplog.records
    Image.fromarray(np.eye(64, dtype=np.uint8)).save(left_mask)
    changed = RegionPostProcessor(left_mask, **PLAIN)
    changed.load_state_dict(state)
    assert not torch.equal(changed(batch).anomaly_map, expected)
    assert "left.png differs from that of the checkpoint" in caplog.text
    left_mask.unlink()
    gone = RegionPostProcessor(left_mask, **PLAIN)
    gone.load_state_dict(state)
    assert torch.equal(gone(batch).anomaly_map, expected)
    with pytest.raises(ValueError, match=r"region of interest has 64x64 pixels, the anomaly maps 32x16"):
        gone(InferenceBatch(pred_score=torch.rand(1), anomaly_map=torch.rand(1, 1, 16, 32)))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing.png", FileNotFoundError, r"missing\.png does not exist"),
        ("missing", FileNotFoundError, r"folder of .* masks .*missing does not exist"),
        ("other.png", ValueError, r"other\.png has 20x10 pixels, the image .* 64x64 and the anomaly maps 64x64"),
    ],
)
def test_a_mask_that_does_not_fit_stops_the_training_at_its_start(
    tmp_path: Path, datamodule: MVTecAD, name: str, error: type[Exception], message: str
) -> None:
    Image.fromarray(np.full((10, 20), 255, np.uint8)).save(tmp_path / "other.png")
    processor = RegionPostProcessor(tmp_path / name)
    model: Any = type("Model", (), {"pre_processor": None})()
    datamodule.setup()
    batch = datamodule.train_data.collate_fn([datamodule.train_data[0]])

    def start() -> None:
        processor.setup(None, model, "fit")  # type: ignore[arg-type]
        processor.on_train_batch_start(None, model, batch)  # type: ignore[arg-type]

    with pytest.raises(error, match=message):
        start()


def test_a_mask_that_was_never_used_is_not_exported(left_mask: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.post_processor = RegionPostProcessor(left_mask)

        def forward(self, maps: Tensor) -> InferenceBatch:
            return self.post_processor(InferenceBatch(pred_score=None, anomaly_map=maps))

    with pytest.raises(RuntimeError, match=r"left\.png was not used yet: run engine\.validate before the export"):
        torch.export.export(Model(), (torch.rand(1, 1, 64, 64),))


def test_the_outline_is_drawn_into_every_field() -> None:
    visualizer = RegionVisualizer(outline=(1, 2, 3), field_size=(20, 10))
    mask = np.zeros((5, 10), bool)
    mask[:, :5] = True
    picture = np.asarray(visualizer.draw(Image.new("RGB", (60, 10)), mask))
    lines = (picture == (1, 2, 3)).all(2)
    columns = np.zeros(60, bool)
    columns[[9, 29, 49]] = True
    assert (lines == columns).all()


def test_pictures_of_a_test_show_the_region(
    engine: Engine, padim: Padim, datamodule: MVTecAD, left_mask: Path, tmp_path: Path
) -> None:
    padim.post_processor = RegionPostProcessor(left_mask)
    padim.visualizer = RegionVisualizer(outline=(1, 2, 3), output_dir=tmp_path / "pictures")
    try:
        engine.predict(padim, datamodule=datamodule)
    finally:
        padim.visualizer = None
    pictures = sorted((tmp_path / "pictures").rglob("*.png"))
    assert len(pictures) == 6
    for file in pictures:
        pixels = np.asarray(Image.open(file))
        line = (pixels == (1, 2, 3)).all(2)
        assert line.all(0).sum() == pixels.shape[1] // 256
