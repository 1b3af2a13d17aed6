"""The texture pool: what is read, what is refused, what it costs."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_plus.transforms.gradient_noise import draw_gradient_noise
from anomalib_plus.transforms.procedural_textures import procedural_textures
from anomalib_plus.transforms.texture_source import NUM_PROCEDURAL_TEXTURES, TextureSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five plain images of grey value 10, 20 ... 50 in several folders and formats, and a text file."""
    root = tmp_path / "textures"
    for index, name in enumerate(["a.png", "banded/b.JPG", "banded/deep/c.bmp", "d.tif", "e.jpeg"], start=1):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50 + index, 40), (10 * index,) * 3).save(root / name)
    (root / "readme.txt").write_text("no image")
    return root


def test_every_image_of_the_folder_is_in_the_pool(folder: Path) -> None:
    pool = TextureSource(folder).load((24, 32))
    assert pool.shape == (5, 3, 24, 32)
    assert pool.dtype == torch.uint8
    assert sorted(pool.float().mean((1, 2, 3)).round().tolist()) == [10, 20, 30, 40, 50]


def test_a_check_looks_for_images_and_reads_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("read a file"))
    TextureSource(folder).check()
    TextureSource().check()
    for missing, message in ((folder / "nothing", "does not exist"), (folder.parent / "empty", "holds no image")):
        (folder.parent / "empty").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match=message):
            TextureSource(missing).check()


def test_samples_come_from_the_pool_and_repeat_with_the_generator(folder: Path) -> None:
    source = TextureSource(folder)
    first = source.sample(40, (16, 16), generator=torch.Generator().manual_seed(5))
    again = source.sample(40, (16, 16), generator=torch.Generator().manual_seed(5))
    assert torch.equal(first, again)
    assert len(first.flatten(1).float().mean(1).unique()) == 5


def test_other_sizes_are_resized(folder: Path) -> None:
    source = TextureSource(folder)
    source.load((32, 32))
    textures = source.sample(4, (20, 45))
    assert textures.shape == (4, 3, 20, 45)
    assert textures.dtype == torch.uint8


def test_nothing_is_read_after_the_pool_is_filled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = TextureSource(folder)
    source.load((16, 16))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("read a file while sampling"))
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert source.sample(3, (16, 16)).shape == (3, 3, 16, 16)


def test_pool_is_bounded_by_count_and_by_memory(folder: Path) -> None:
    assert len(TextureSource(folder, max_images=2).load((16, 16))) == 2
    bounded = TextureSource(folder, max_bytes=3 * 16 * 16 * 3 + 10).load((16, 16))
    assert len(bounded) == 3
    assert bounded.untyped_storage().nbytes() <= 3 * 16 * 16 * 3 + 10
    subsets = {
        tuple(TextureSource(folder, max_images=2, seed=seed).load((4, 4))[:, 0, 0, 0].tolist()) for seed in range(9)
    }
    assert len(subsets) > 1  # a random subset, not the first ones
    assert torch.equal(TextureSource(folder, 2, seed=1).load((4, 4)), TextureSource(folder, 2, seed=1).load((4, 4)))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "I;16", "F"])
def test_every_image_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64)[None].repeat(64, 0)
    if mode == "I;16":
        image = Image.fromarray((ramp * 65535).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(ramp.astype(np.float32) * 255)
    else:
        image = Image.fromarray((ramp * 255).astype(np.uint8)).convert("RGB" if mode in {"CMYK", "RGBA"} else "L")
        image = image.convert(mode)
    image.save(tmp_path / "ramp.tif")
    texture = TextureSource(tmp_path).load((64, 64))[0].float()
    assert texture[:, :, :8].mean() < 40
    assert texture[:, :, -8:].mean() > 215


def test_missing_folder_is_named(tmp_path: Path) -> None:
    source = TextureSource(tmp_path / "nowhere")  # creating it reads nothing
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        source.load((8, 8))


def test_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FileNotFoundError, match="holds no image"):
        TextureSource(tmp_path).load((8, 8))


@pytest.mark.parametrize("content", [b"no image at all", b""])
def test_unreadable_file_is_named(content: bytes, folder: Path) -> None:
    (folder / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        TextureSource(folder).load((8, 8))


def test_truncated_file_is_named(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    data = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read as an image"):
        TextureSource(folder).load((8, 8))


def test_absurdly_large_file_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="cannot be read as an image: Image size"):
        TextureSource(folder).load((8, 8))


@pytest.mark.parametrize("limits", [{"max_images": 0}, {"max_bytes": 0}])
def test_limits_must_be_positive(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        TextureSource(**limits)


def test_pickle_leaves_the_pool_behind_and_fills_the_same_again(folder: Path) -> None:
    source = TextureSource(folder, max_images=3)
    pool = source.load((64, 64))
    packed = pickle.dumps(source)
    assert len(packed) < 1000
    assert torch.equal(pickle.loads(packed).load((64, 64)), pool)


def test_without_a_folder_one_warning_and_procedural_textures() -> None:
    source = TextureSource()
    with pytest.warns(UserWarning, match="No texture folder given") as caught:
        pool = source.load((48, 40))
    assert len(caught) == 1
    assert pool.shape == (NUM_PROCEDURAL_TEXTURES, 3, 48, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source.sample(4, (48, 40))
    with pytest.warns(UserWarning, match="No texture folder given"):
        assert torch.equal(TextureSource().load((48, 40)), pool)


def test_procedural_textures_are_varied() -> None:
    textures = procedural_textures(64, (64, 64), torch.Generator().manual_seed(0)).float()
    assert textures.std((2, 3)).mean() > 25  # structure in each
    assert textures.mean((2, 3)).std(0).min() > 30  # all colours among them
    saturation = (textures.amax(1) - textures.amin(1)).mean((1, 2))
    assert saturation.min() < 20  # from nearly grey
    assert saturation.max() > 80  # to loud
    step = (textures[..., 1:] - textures[..., :-1]).abs().mean((1, 2, 3)) / textures.std((1, 2, 3))
    assert step.max() > 4 * step.min()  # from fine to coarse


def test_procedural_textures_are_unlike_the_noise_of_the_masks() -> None:
    """A map of mask noise has one octave; these spread their energy up to high frequencies."""
    textures = procedural_textures(32, (128, 128), torch.Generator().manual_seed(0)).float().mean(1)
    noise = draw_gradient_noise(32, (128, 128), (0, 5), generator=torch.Generator().manual_seed(0))
    radius = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128)[None])

    def high_frequency_share(images: torch.Tensor) -> torch.Tensor:
        power = torch.fft.rfft2(images - images.mean((1, 2), keepdim=True)).abs().square()
        return (power * (radius > 0.25)).sum((1, 2)) / power.sum((1, 2))

    assert high_frequency_share(textures).median() > 5 * high_frequency_share(noise).median()
