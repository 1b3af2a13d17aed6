"""Which image files anomalib reads rightly, wrongly or not at all, and that we tell these apart."""

from pathlib import Path

import numpy as np
import pytest
from anomalib.data.utils import read_image
from PIL import EpsImagePlugin, Image

from anomalib_plus.data.good_images import find_good_images
from anomalib_plus.gallery.drawing import load_images
from anomalib_plus.image_files import inspect_image, inspect_mask
from anomalib_plus.transforms import DefectBank
from anomalib_plus.transforms.texture_source import TextureSource

RNG_PIXELS = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)


def _read(path: Path) -> np.ndarray:
    return np.rint(read_image(path) * 255).astype(np.uint8)


HOLDS = {
    "png": ("RGB", "L", "1", "P", "LA", "RGBA"),
    "jpg": ("RGB", "L", "CMYK", "YCbCr"),
    "tif": ("RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in HOLDS.items() for mode in modes])
def test_eight_bit_images_are_accepted_and_read_as_pillow_converts_them(suffix: str, mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(RNG_PIXELS).convert(mode)
    path = tmp_path / f"image.{suffix}"
    image.save(path)
    assert inspect_image(path)[:2] == ((40, 48), None)
    assert _read(path).shape == (48, 40, 3)
    if suffix != "jpg":
        assert np.array_equal(_read(path), np.asarray(image.convert("RGB")))


def test_grey_is_repeated_over_the_channels(tmp_path: Path) -> None:
    Image.fromarray(RNG_PIXELS[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(_read(tmp_path / "grey.png"), np.repeat(RNG_PIXELS[..., :1], 3, axis=2))


def test_alpha_is_dropped_and_the_colour_below_it_kept(tmp_path: Path) -> None:
    alpha = np.tile(np.arange(40, dtype=np.uint8) * 6, (48, 1))
    Image.fromarray(np.dstack([RNG_PIXELS, alpha])).save(tmp_path / "rgba.png")
    assert np.array_equal(_read(tmp_path / "rgba.png"), RNG_PIXELS)


def test_cmyk_inks_darken_as_they_should(tmp_path: Path) -> None:
    inks = np.zeros((1, 4, 4), np.uint8)
    inks[0, 1, 0] = inks[0, 2, 3] = 255  # none, cyan, black, and half of each colour
    inks[0, 3] = (128, 128, 128, 0)
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "cmyk.tif")
    assert _read(tmp_path / "cmyk.tif")[0].tolist() == [[255, 255, 255], [0, 255, 255], [0, 0, 0], [127, 127, 127]]


@pytest.mark.parametrize(("name", "dtype", "mode"), [("a.png", "uint16", "I;16"), ("a.tif", "int32", "I")])
def test_deep_integer_images_that_anomalib_clips_are_a_fault(name: str, dtype: str, mode: str, tmp_path: Path) -> None:
    deep = (np.arange(256).reshape(16, 16) * 257).astype(dtype)
    Image.fromarray(deep).save(tmp_path / name)
    assert (_read(tmp_path / name)[deep > 255] == 255).all(), "anomalib no longer clips: allow this mode"
    facts = inspect_image(tmp_path / name)
    assert facts.size == (16, 16)
    assert facts.fault.startswith(f"has pixels of more than 8 bits (mode {mode})")
    assert "value / 257" in facts.fault


def test_the_advised_scaling_keeps_the_image(tmp_path: Path) -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(np.rint(deep / 257).astype(np.uint8)).save(tmp_path / "scaled.png")
    assert inspect_image(tmp_path / "scaled.png").fault is None
    assert np.abs(read_image(tmp_path / "scaled.png")[..., 0] - deep / 65535).max() <= 0.5 / 255 + 1e-9


def test_floating_point_images_are_a_fault(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    assert _read(tmp_path / "a.tif").max() == 0
    assert "mode F" in inspect_image(tmp_path / "a.tif").fault
    assert "times 255" in inspect_image(tmp_path / "a.tif").fault


def test_sixteen_bit_colour_is_read_rightly_and_accepted(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "a.png"), RNG_PIXELS[..., ::-1].astype(np.uint16) * 257)
    assert inspect_image(tmp_path / "a.png").fault is None
    assert np.array_equal(_read(tmp_path / "a.png"), RNG_PIXELS)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9, 0.99, -8, -2, -1, 1.0])
def test_truncation_is_found_exactly_where_anomalib_would_fail(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RNG_PIXELS).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept)] if kept < 0 else content[: round(kept * len(content))])
    try:
        read_image(path)
    except Exception:
        assert inspect_image(path).fault is not None
    else:
        assert inspect_image(path)[:2] == ((40, 48), None)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_bytes_after_the_end_do_no_harm(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RNG_PIXELS).save(path)
    path.write_bytes(path.read_bytes() + b"written by some camera")
    assert inspect_image(path).fault is None


def test_faults_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(RNG_PIXELS).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    faults = [inspect_image(tmp_path / name).fault for name in ("gone.png", "empty.png", "text.png", "cut.png")]
    assert faults == [
        "does not exist",
        "is empty (0 bytes)",
        "is not an image (BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)",
        "is damaged or cut off",
    ]


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_file_that_is_taken_away_meanwhile_is_not_called_damaged(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    if content is not None:  # taken away when it was open
        path.write_bytes(content)
        opened = Image.open

        def open_and_remove(*arguments: object, **options: object) -> Image.Image:
            path.unlink()
            return opened(*arguments, **options)

        monkeypatch.setattr(Image, "open", open_and_remove)
    assert inspect_image(path).fault == "does not exist"


@pytest.mark.parametrize("content", ["eps", "ico", "jpeg2000", "pcx", "sgi", "tga"])
def test_other_formats_are_not_decoded_under_a_false_name(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would, and hands EPS to Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", pytest.fail)
    Image.fromarray(RNG_PIXELS).save(tmp_path / "a.png", content)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 0, "Pillow knows the format"
    assert "is not an image (BMP, GIF, " in inspect_image(tmp_path / "a.png", decode=True).fault
    with pytest.raises(ValueError, match=r"Texture .*a\.png cannot be read as an image"):
        TextureSource(tmp_path).load((16, 16))


@pytest.mark.parametrize("limit", [900, 1900])
def test_oversized_images_are_a_fault(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow itself refuses twice the limit and only warns of 1920 pixels where 1900 are allowed."""
    Image.fromarray(RNG_PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert f"has more than {limit} pixels" in inspect_image(tmp_path / "a.png").fault
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert inspect_image(tmp_path / "a.png").fault is None


def test_a_gif_is_no_image_of_a_folder_but_may_be_a_mask(tmp_path: Path) -> None:
    Image.fromarray(RNG_PIXELS).save(tmp_path / "a.gif")
    assert inspect_image(tmp_path / "a.gif").fault == "has a format that is not read (.gif): convert it to PNG or JPEG"
    assert inspect_mask(tmp_path / "a.gif").fault is None


def test_photographs_among_textures_and_defects_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("a.HEIC", "b.heic", "c.gif", ".hidden.heic"):
        (tmp_path / name).touch()
    told = r"folder .*: 3 files have a format that is not read \(.gif, .heic\), such as a.HEIC: convert to PNG or JPEG"
    for source in (TextureSource(tmp_path), DefectBank(tmp_path)):
        with pytest.warns(UserWarning, match=told), pytest.raises(FileNotFoundError, match="holds no image"):
            source.check()
    (tmp_path / "c.gif").unlink()
    (tmp_path / "b.heic").unlink()
    image = Image.fromarray(RNG_PIXELS)
    for name in ("d.png", "d_mask.png"):
        image.save(tmp_path / name)
    told = r"folder .*: 1 file has a format that is not read \(.heic\), such as a.HEIC"
    with pytest.warns(UserWarning, match=f"Texture {told}"):
        assert len(TextureSource(tmp_path).load((8, 8))) == 2
    with pytest.warns(UserWarning, match=f"Defect {told}"):
        assert DefectBank(tmp_path).load() == 1


def test_a_photograph_among_good_images_that_is_not_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    assert find_good_images(tmp_path) == [tmp_path / "a.heic"]
    with pytest.raises(ValueError, match=r"a.heic has a format that is not read \(.heic\): convert it to PNG or JPEG"):
        load_images(tmp_path, count=1, size=32)
