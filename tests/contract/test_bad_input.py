"""Bad images, files and folders are refused with one clear error, before a weight changes or a file is written."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize, Resize

from .conftest import Surfaces
from .small_models import IMAGE_SIZE, SmallModel, quiet_engine

STAGES: dict[str, Callable[[Engine, AnomalibModule, DataLoader], object]] = {
    "fit": lambda engine, model, loader: engine.fit(model, train_dataloaders=loader, val_dataloaders=loader),
    "validate": lambda engine, model, loader: engine.validate(model, dataloaders=loader),
    "test": lambda engine, model, loader: engine.test(model, dataloaders=loader),
    "predict": lambda engine, model, loader: engine.predict(model, dataloaders=loader),
}


def one_nan(image: Tensor) -> Tensor:
    image = image.clone()
    image[0, 0, 0] = torch.nan
    return image


SPOILERS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "8-bit values": (lambda image: image * 255, r"from -?\d+ to 2\d\d"),
    "centred on zero": (lambda image: 2 * image - 1, r"from -0\.\d+ to"),
    "one NaN": (one_nan, "nan"),
}


@pytest.fixture
def loader_of(surfaces: Surfaces) -> Callable[[Callable[[Tensor], Tensor]], DataLoader]:
    """Makes loaders of the test images after a change to each."""
    datamodule = surfaces()
    datamodule.setup()

    def loader(change: Callable[[Tensor], Tensor]) -> DataLoader:
        items = [datamodule.test_data[index] for index in range(6)]
        for item in items:
            item.image = change(item.image)
        return DataLoader(items, batch_size=3, collate_fn=ImageBatch.collate)

    return loader


def assert_refused(stage: str, model: AnomalibModule, loader: DataLoader, message: str) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=rf"{type(model).__name__} .*\[0, 1\].*{message}"):
        STAGES[stage](quiet_engine(max_epochs=1), model, loader)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0, equal_nan=True)
    assert not [path for path in Path().rglob("*") if path.is_file()]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("spoiler", SPOILERS)
def test_batches_out_of_range_are_refused(
    small_model: SmallModel, loader_of: Callable[..., DataLoader], stage: str, spoiler: str
) -> None:
    change, message = SPOILERS[spoiler]
    assert_refused(stage, small_model.build(), loader_of(change), message)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 4, 64, 64), (3, 64, 64)], ids=str)
def test_networks_name_a_wrong_number_of_channels(
    small_model: SmallModel, shape: tuple[int, ...], training: bool
) -> None:
    network = small_model.build().model.train(training)
    with pytest.raises(
        ValueError, match=rf"{small_model.name} needs .*\(B, 3, H, W\), got shape .*{shape[-3:][0]}, 64"
    ):
        network(torch.rand(shape))


@pytest.mark.parametrize("stage", STAGES)
def test_a_normalizing_pre_processor_is_refused(
    small_model: SmallModel, loader_of: Callable[..., DataLoader], stage: str
) -> None:
    normalize = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    model = small_model.build(pre_processor=PreProcessor(transform=Compose([Resize(IMAGE_SIZE), normalize])))
    assert_refused(stage, model, loader_of(torch.Tensor.clone), r"from -\d.*Normalize")


@pytest.mark.parametrize("stage", STAGES)
def test_batches_at_the_ends_of_the_range_are_accepted(
    small_model: SmallModel, loader_of: Callable[..., DataLoader], stage: str
) -> None:
    loader = loader_of(lambda image: (image > image.mean()).float())
    engine = quiet_engine(max_epochs=1)
    STAGES[stage](engine, small_model.build(), loader)
    assert engine.trainer.state.finished


def delete_mask(category: Path) -> None:
    (category / "ground_truth" / "defect" / "001_mask.png").unlink()


def truncate_training_image(category: Path) -> None:
    image = category / "train" / "good" / "002.png"
    image.write_bytes(image.read_bytes()[:200])


def write_16_bit_training_image(category: Path) -> None:
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(category / "train" / "good" / "002.png")


def empty_training_folder(category: Path) -> None:
    for image in (category / "train" / "good").iterdir():
        image.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (delete_mask, r"Images without a mask: .*defect/001\.png"),
        (truncate_training_image, r"good/002\.png: .*damaged"),
        (write_16_bit_training_image, r"good/002\.png: .*16.bit"),
        (empty_training_folder, r"surface.* is empty"),
    ],
)
def test_bad_files_are_named_whatever_the_datamodule(
    small_model: SmallModel, mvtec_layout: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    category = shutil.copytree(mvtec_layout, tmp_path / "spoilt") / "surface"
    spoil(category)
    datamodule = MVTecAD(root=category.parent, category=category.name, num_workers=0)
    with pytest.raises(ValueError, match=f"(?is){message}"):
        quiet_engine(max_epochs=1).fit(small_model.build(), datamodule=datamodule)
