"""Which image becomes the reference, and in what form."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.data.utils import read_image
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset
from torchvision.transforms.v2 import RandomHorizontalFlip, Resize

from anomalib_plus import RbAE
from anomalib_plus.models.rbae.reference import TrainingImages, choose_reference, medoid, training_images

SMALL: dict[str, Any] = {
    "widths": (4, 4, 8, 8, 8),
    "perceptual": False,
    "evaluator": False,
    "visualizer": False,
    "pre_processor": PreProcessor(Resize((64, 64))),
}


@pytest.fixture
def datamodule(mvtec_layout: Path) -> MVTecAD:
    datamodule = MVTecAD(
        root=mvtec_layout, category="surface", num_workers=0, train_augmentations=RandomHorizontalFlip(p=1.0)
    )
    datamodule.setup()
    return datamodule


@pytest.fixture
def first_image(mvtec_layout: Path) -> Tensor:
    return read_image(mvtec_layout / "surface" / "train" / "good" / "000.png", as_tensor=True)


def chosen_reference(model: RbAE, loader: Any = None) -> Tensor:
    """The reference that a training would choose."""
    return model._prepare(choose_reference(model.reference_choice, loader, model._describe))


def items(*images: Tensor) -> list[SimpleNamespace]:
    return [SimpleNamespace(image=image) for image in images]


def test_first_is_the_first_path_without_augmentation(datamodule: MVTecAD, first_image: Tensor) -> None:
    dataset = datamodule.train_data
    dataset._samples = dataset.samples.iloc[::-1].reset_index(drop=True)
    reference = chosen_reference(RbAE(**SMALL), DataLoader(dataset, shuffle=True))
    assert torch.equal(reference, first_image[None])
    assert dataset.augmentations is not None


def test_subsets_keep_to_their_images(datamodule: MVTecAD, mvtec_layout: Path) -> None:
    subset = Subset(Subset(datamodule.train_data, [5, 4, 3, 1]), [0, 2, 3])
    images = TrainingImages(subset)
    folder = mvtec_layout / "surface" / "train" / "good"
    assert len(images) == 3
    for index, name in enumerate(("001", "003", "005")):
        assert torch.equal(images[index], read_image(folder / f"{name}.png", as_tensor=True))


def test_data_without_paths_keep_their_order() -> None:
    first, second = torch.rand(3, 64, 64), torch.rand(3, 64, 64)
    loader = DataLoader(items(first, second), shuffle=True, collate_fn=list)
    assert torch.equal(chosen_reference(RbAE(**SMALL), loader), first[None])


def test_streams_are_refused_with_a_way_out() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[Tensor]:
            return iter(())

    for source in (DataLoader(Stream()), [DataLoader(items(torch.rand(3, 8, 8)), collate_fn=list)]):
        with pytest.raises(TypeError, match="set reference to the path of an image"):
            training_images(source)


def test_medoid_is_closest_to_the_others() -> None:
    values = [0.0, 0.5, 0.55, 0.6, 5.0]
    images = TrainingImages(items(*(torch.full((3, 2, 2), value) for value in values)))
    assert medoid(images, lambda image: image.mean(dim=(1, 2))) == 2


def test_medoid_asks_64_images_spread_over_all() -> None:
    asked: list[float] = []

    def describe(image: Tensor) -> Tensor:
        asked.append(image[0, 0, 0].item())
        return image[:, 0, 0]

    images = TrainingImages(items(*(torch.full((3, 1, 1), float(value)) for value in range(200))))
    assert abs(medoid(images, describe) - 99.5) < 3
    assert len(asked) == 64
    assert (asked[0], asked[-1]) == (0, 199)


def test_medoid_of_a_training_avoids_the_odd_one_out(datamodule: MVTecAD) -> None:
    normal = [torch.rand(3, 64, 64) * 0.1 + 0.4 for _ in range(4)]
    odd = torch.zeros(3, 64, 64)
    odd[:, ::2] = 1
    model = RbAE(**SMALL, reference="medoid")
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    reference = chosen_reference(model.train(), DataLoader(items(odd, *normal), collate_fn=list))
    assert any(torch.equal(reference[0], image) for image in normal)
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())
    assert model.model.encoder.training


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_file_of_another_size_becomes_what_the_network_sees(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "reference.png"
    pixels = (torch.rand(70, 90, 3) * 255).byte().numpy()
    Image.fromarray(pixels).convert(mode).save(file)
    model = RbAE(**SMALL, reference=file).eval()
    reference = chosen_reference(model)
    expected = Resize((64, 64))(read_image(file, as_tensor=True)[None])
    assert torch.equal(reference, expected)
    assert torch.equal(reference[:, 0], reference[:, 1]) == (mode == "L")
    model.model.enter_phase_2(reference)
    assert model.model(torch.rand(2, 3, 64, 128)).anomaly_map.shape == (2, 1, 64, 128)


def test_without_a_pre_processor_sizes_that_do_not_divide_are_resized(tmp_path: Path) -> None:
    model = RbAE(**{**SMALL, "pre_processor": False})
    for size, expected in (((70, 90), (64, 96)), ((64, 128), (64, 128)), ((10, 10), (32, 32))):
        loader = DataLoader(items(torch.rand(1, *size)), collate_fn=list)
        assert chosen_reference(model, loader).shape == (1, 3, *expected)


def test_a_missing_file_stops_the_training_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"reference=.*missing\.png.*\"first\" or \"medoid\""):
        RbAE(**SMALL, reference=tmp_path / "missing.png").on_fit_start()
    (tmp_path / "no_image.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"no_image\.png is not an image"):
        RbAE(**SMALL, reference=tmp_path / "no_image.png").on_fit_start()
    Image.fromarray(np.full((64, 64), 1000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has pixels of more than 8 bits"):
        RbAE(**SMALL, reference=tmp_path / "deep.png").on_fit_start()
    RbAE(**SMALL, reference=tmp_path / "missing.png", use_rbam=False).on_fit_start()


def test_set_reference_prepares_the_image() -> None:
    model = RbAE(**SMALL).eval()
    with pytest.raises(RuntimeError, match="phase 2 only"):
        model.set_reference(torch.rand(3, 64, 64))
    model.model.enter_phase_2(torch.rand(1, 3, 64, 64))
    image = torch.rand(1, 100, 90)
    model.set_reference(image)
    assert torch.equal(model.model.reference.image, Resize((64, 64))(image.expand(3, -1, -1)[None]))
    shaped = [torch.rand(1, 3, 64, 64), torch.rand(4, 64, 64), torch.zeros(3, 64, 64, dtype=torch.uint8)]
    for refused, message in [
        *((wrong, "The reference must be one image") for wrong in shaped),
        (255 * torch.rand(3, 64, 64), "images in"),
        (torch.full((3, 64, 64), torch.nan), "images in"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.set_reference(refused)
    assert torch.equal(model.model.reference.image, Resize((64, 64))(image.expand(3, -1, -1)[None]))
