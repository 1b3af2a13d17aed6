"""The gallery shows what the transforms really do, on the right images, and says what is wrong in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import anomalib_plus.transforms as transforms
from anomalib_plus.cli import main as run_command
from anomalib_plus.data.demo_surfaces.drawing import draw_image
from anomalib_plus.gallery.command import main
from anomalib_plus.gallery.drawing import available_transforms, draw_gallery, load_images


class LeftHalfInverted(nn.Module):
    """Invert the left half.

    This line is not part of the title.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        if torch.rand((), generator=generator) >= self.probability:
            return images, torch.zeros_like(images[:, :1])
        masks = (torch.arange(images.shape[3]) < images.shape[3] // 2).expand_as(images[:, :1])
        return torch.where(masks, 1 - images, images), masks.to(images.dtype)


class NeedsAnArgument(LeftHalfInverted):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()


class ImagesOnly(nn.Module):
    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return images


def cells(gallery: Image.Image, columns: int, size: int) -> np.ndarray:
    """Cut the first block of a gallery into its cells: (3 rows, columns, size, size, 3)."""
    pixels = np.asarray(gallery)
    left, top = 72 + 4, 64 + 4
    rows = [pixels[top + row * (size + 4) :][:size] for row in range(3)]
    return np.stack([[row[:, left + column * (size + 4) :][:, :size] for column in range(columns)] for row in rows])


def to_8_bit(images: Tensor) -> np.ndarray:
    return (images * 255).byte().permute(0, 2, 3, 1).numpy()


def test_rows_are_the_originals_the_results_and_the_masks() -> None:
    images = torch.rand(3, 3, 40, 40)
    gallery = draw_gallery(images, {"inverted": {"": LeftHalfInverted(1.0)}})
    originals, results, masks = cells(gallery, columns=3, size=40)
    expected, expected_masks = LeftHalfInverted(1.0)(images)
    assert np.array_equal(originals, to_8_bit(images))
    assert np.array_equal(results, to_8_bit(expected))
    assert np.array_equal(masks, to_8_bit(expected_masks.expand(-1, 3, -1, -1)))
    margin = np.asarray(gallery)[:, :72]
    title, labels = margin[:64], margin[68:]
    assert (title < 128).any()
    assert all((labels[row * 44 : row * 44 + 40] < 128).any() for row in range(3))


def test_a_long_summary_is_not_cut_off_on_narrow_images() -> None:
    class Wordy(LeftHalfInverted):
        __doc__ = "A summary much wider than the one image below it, to its last word."

    narrow = np.asarray(draw_gallery(torch.rand(1, 3, 32, 32), {"wordy": {"": Wordy()}}))
    wide = np.asarray(draw_gallery(torch.rand(32, 3, 32, 32), {"wordy": {"": Wordy()}}))
    assert narrow.shape[1] > 72 + 40
    assert np.array_equal(narrow[:64], wide[:64, : narrow.shape[1]])
    assert (wide[:64, narrow.shape[1] :] == 255).all()


def test_blocks_stand_below_each_other_and_do_not_depend_on_each_other() -> None:
    images = torch.rand(2, 3, 32, 32)
    pair = {"first": {"": transforms.DeletePaste()}, "second": {"": transforms.SuperpixelFilling()}}
    both = np.asarray(draw_gallery(images, pair, seed=3))
    alone = np.asarray(draw_gallery(images, {"second": pair["second"]}, seed=3))
    assert both.shape[0] == 2 * alone.shape[0]
    assert np.array_equal(both[alone.shape[0] :], alone)
    assert not np.array_equal(np.asarray(draw_gallery(images, pair, seed=4)), both)


def test_a_public_transform_is_drawn_without_being_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"DeletePaste", "SuperpixelFilling"} <= available_transforms().keys() <= set(transforms.__all__)
    for member in (LeftHalfInverted, NeedsAnArgument, ImagesOnly):
        monkeypatch.setattr(transforms, member.__name__, member, raising=False)
    monkeypatch.setattr(transforms, "a_function", lambda images, generator: images, raising=False)
    monkeypatch.setattr(transforms, "__all__", ["LeftHalfInverted", "NeedsAnArgument", "ImagesOnly", "a_function"])
    assert available_transforms() == {"LeftHalfInverted": LeftHalfInverted}


def test_settings_stand_side_by_side_and_the_severities_grow() -> None:
    images = torch.full((2, 3, 40, 40), 0.5)
    settings = {f"severity {one}": transforms.Stain(severity=one) for one in (0.2, 1.0)}
    gallery = draw_gallery(images, {"Stain": settings})
    originals, results, masks = cells(gallery, columns=4, size=40)
    assert np.array_equal(originals, to_8_bit(images.repeat(2, 1, 1, 1)))
    for number, synthesize in enumerate(settings.values()):
        expected, _ = synthesize(images, torch.Generator().manual_seed(0))
        assert np.array_equal(results[2 * number : 2 * number + 2], to_8_bit(expected))
    assert masks[:2].mean() < masks[2:].mean()


def test_region_and_defects_reach_the_transforms(mvtec_layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "__all__", ["Scratch", "DefectBank"])
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save("roi.png")
    arguments = ["--data", str(mvtec_layout / "surface"), "--size", "32", "--images", "1", "--output", "gallery.png"]
    assert main([*arguments, "--roi", "roi.png", "--defects", str(mvtec_layout / "surface")]) == 0
    with Image.open("gallery.png") as gallery:
        assert gallery.height == 2 * (64 + 4 + 3 * 36)
        masks = cells(gallery, columns=3, size=32)[2]
    assert masks.any()
    assert not masks[:, ~np.eye(32, dtype=bool)].any()


def test_of_a_category_the_good_training_images_are_taken(mvtec_layout: Path) -> None:
    images = load_images(mvtec_layout / "surface", count=100, size=64)
    assert images.shape == (6, 3, 64, 64)
    assert images.max() < 0.85  # the defects of the test images are brighter


def test_images_are_spread_over_the_folder_and_converted_to_rgb(tmp_path: Path) -> None:
    for index in range(9):
        Image.new("L", (20, 30), index * 20).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").touch()
    images = load_images(tmp_path, count=3, size=32)
    assert torch.allclose(images, (torch.tensor([0, 80, 160]) / 255).view(3, 1, 1, 1).expand(3, 3, 32, 32))
    (tmp_path / "below").mkdir()
    Image.new("RGBA", (20, 20), (0, 0, 255, 255)).save(tmp_path / "below" / "deep.PNG")
    assert load_images(tmp_path, count=100, size=8).shape == (10, 3, 8, 8)


def test_the_command_draws_every_transform_at_probability_one(
    mvtec_layout: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "LeftHalfInverted", LeftHalfInverted, raising=False)
    monkeypatch.setattr(transforms, "__all__", ["LeftHalfInverted", "DeletePaste"])
    arguments = ["gallery", "--data", str(mvtec_layout / "surface"), "--size", "48", "--images", "2"]
    assert run_command([*arguments, "--output", "new/folder/gallery.png"]) == 0
    assert "LeftHalfInverted, DeletePaste on 2 images" in capsys.readouterr().out
    with Image.open("new/folder/gallery.png") as gallery:
        assert gallery.height == 2 * (64 + 4 + 3 * 52)
        assert gallery.width >= 72 + 4 + 3 * 2 * 52  # DeletePaste at three severities
        assert cells(gallery, columns=2, size=48)[2].mean() == pytest.approx(127.5)

    assert run_command([*arguments, "--output", "again.png"]) == 0
    assert run_command([*arguments, "--output", "other.png", "--seed", "1"]) == 0
    assert Path("again.png").read_bytes() == Path("new/folder/gallery.png").read_bytes()
    assert Path("other.png").read_bytes() != Path("again.png").read_bytes()


def test_without_data_the_demo_is_drawn_on_a_page_of_moderate_size(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--output", "gallery.jpg"]) == 0
    file = Path("gallery.jpg")
    with Image.open(file) as gallery:
        assert gallery.width <= 2000
        washer = np.asarray(gallery)[64 + 4 :][:128, 72 + 4 :][:, :128].astype(int)
    drawn = Image.fromarray(draw_image(0, "washer", "train", "good", 0)[0]).resize((128, 128))
    assert np.abs(washer - np.asarray(drawn)).mean() < 8
    assert file.stat().st_size < 3_000_000
    assert f"gallery.jpg, {file.stat().st_size / 1e6:.1f} MB: Contamination, " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / file], "no folder of demo images"


def test_a_texture_folder_reaches_the_transforms_that_paste_textures(
    mvtec_layout: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "__all__", ["PerlinAnomaly"])
    arguments = ["--data", str(mvtec_layout / "surface"), "--size", "32", "--output", "gallery.png"]
    assert main([*arguments, "--textures", str(mvtec_layout)]) == 0
    with pytest.raises(SystemExit):
        main([*arguments, "--textures", "missing"])
    assert "Texture folder missing does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "empty"], "in empty: give a folder with images.\n"),
        (["--data", "missing"], "There is no folder missing: give a folder of images"),
        (["--output", "file/gallery.png"], "--output file/gallery.png cannot be written"),
        (["--output", "gallery"], "--output gallery has no suffix of an image file to write: use .jpg"),
        (["--output", "gallery.psd"], "--output gallery.psd has no suffix of an image file to write"),
        (["--output", "taken.png"], "taken.png"),
        (["--roi", "missing.png"], "--roi: there is no mask missing.png; give an image file or foreground"),
        (["--defects", "empty"], "Defect folder empty holds no image with a mask"),
        (["--size", "0"], "--size: 0 is less than 1"),
        (["--images", "-1"], "--images: -1 is less than 1"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str],
    message: str,
    mvtec_layout: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transforms, "__all__", ["DeletePaste"])
    Path("empty").mkdir()
    Path("taken.png").mkdir()
    Path("file").touch()
    with pytest.raises(SystemExit) as exit_:
        main(["--data", str(mvtec_layout / "surface"), "--output", "gallery.png", "--size", "32", *arguments])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
