"""The code of docs/transforms.md runs as it stands there: DRAEM trains, the datamodule augments, the YAML parses."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from anomalib.data.utils import read_image
from anomalib.models import get_model
from anomalib.models.image.draem import torch_model
from jsonargparse import ArgumentParser
from PIL import Image
from torchvision.transforms import v2

from anomalib_plus import FEAR, RamFAE
from anomalib_plus.transforms import ImageOnly, Nuisance, PerlinAnomaly, Scratch, Stain, SuperpixelFilling
from page_code import blocks, run

PAGE = "transforms.md"


def sections() -> list[dict[str, Any]]:
    """Each YAML block of the page."""
    return [yaml.safe_load(block) for block in blocks(PAGE, "yaml")]


@pytest.fixture(scope="module")
def names_on_the_page(mvtec_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the page's code leaves behind, run next to a tiny data set and with narrow DRAEM networks."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "textures").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "textures" / f"{index}.png")
    (folder / "datasets" / "MVTecAD").mkdir(parents=True)
    (folder / "datasets" / "MVTecAD" / "leather").symlink_to(mvtec_layout / "surface", target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for network in ("ReconstructiveSubNetwork", "DiscriminativeSubNetwork"):
            patch.setattr(torch_model, network, partial(getattr(torch_model, network), base_width=4))
        torch.manual_seed(0)
        yield run("\n".join(blocks(PAGE, "python")), PAGE)


def test_the_first_example_corrupts_on_the_mask_alone(names_on_the_page: dict[str, Any]) -> None:
    target, damaged, masks = (names_on_the_page[name] for name in ("target", "damaged", "masks"))
    assert masks.sum() > 0
    outside = (masks == 0).expand_as(damaged)
    assert torch.equal(damaged[outside], target[outside])


def test_draem_trains_on_our_anomalies(names_on_the_page: dict[str, Any]) -> None:
    model = names_on_the_page["model"]
    assert isinstance(model.augmenter, PerlinAnomaly)
    assert model.trainer.current_epoch == 1
    assert model.trainer.global_step == 2  # six images in batches of four
    assert torch.isfinite(model.trainer.callback_metrics["train_loss"])
    assert not any("augmenter" in key for key in model.state_dict())


def test_the_exchanged_anomalies_are_those_that_the_page_says(names_on_the_page: dict[str, Any]) -> None:
    filled, on_textures, own = (names_on_the_page[name].augmenter for name in ("filled", "on_textures", "own"))
    assert type(filled) is SuperpixelFilling
    assert filled.n_filled == 8
    assert type(on_textures) is PerlinAnomaly
    assert (str(on_textures.textures.folder), on_textures.probability) == ("textures", 0.5)
    images, masks = own(torch.zeros(1, 3, 40, 40))
    assert images.sum() == 3 * masks.sum() == 3 * 40
    assert masks[0, 0, 30].all()


def test_the_yaml_exchanges_the_anomalies() -> None:
    filled, mixed = (get_model(section["model"]) for section in sections() if "model" in section)
    assert isinstance(filled, RamFAE)
    assert type(filled.augmenter) is SuperpixelFilling
    assert filled.augmenter.n_filled == 8
    assert isinstance(mixed, FEAR)
    assert [type(one) for one in mixed.augmenter.transforms] == [Scratch, Stain]
    assert [(one.severity, one.roi) for one in mixed.augmenter.transforms] == [(0.4, "foreground")] * 2
    assert isinstance(mixed.augmenter.nuisance, Nuisance)


def test_datamodule_gives_augmented_images_and_untouched_masks(names_on_the_page: dict[str, Any]) -> None:
    batch = names_on_the_page["batch"]
    assert batch.image.shape == (4, 3, 64, 64)
    assert batch.image.dtype == torch.float32
    assert 0 <= batch.image.min() <= batch.image.max() <= 1
    assert batch.gt_mask.sum() == 0
    train_set = names_on_the_page["augmented"].train_data
    drawn = [train_set[index % len(train_set)].image for index in range(24)]
    clean = [read_image(train_set.samples.image_path[index % len(train_set)], as_tensor=True) for index in range(24)]
    corrupted = sum((image != original).any().item() for image, original in zip(drawn, clean, strict=True))
    assert 4 <= corrupted <= 20  # probability 0.5


def test_the_yaml_builds_the_augmentation(tmp_path: Path) -> None:
    (data,) = (section["data"] for section in sections() if "data" in section)
    augmentation = data["init_args"]["train_augmentations"]
    parser = ArgumentParser()
    parser.add_argument("--augmentation", type=v2.Transform)
    built = parser.instantiate_classes(parser.parse_object({"augmentation": augmentation})).augmentation
    assert isinstance(built, ImageOnly)
    assert built.synthesis.roi is None
    assert str(built.synthesis.textures.folder) == "textures"
