"""Missing masks are named before anomalib stumbles over them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anomalib.data import BTech, Folder, MVTecAD
from anomalib.data.errors import MisMatchError

from anomalib_plus.data.mask_pairs import check_links, check_mask_pairs, masks_by_name, shorten


@pytest.fixture
def category(mvtec_layout: Path, tmp_path: Path) -> Path:
    """A private copy with a second kind of defect whose files have the same names as those of the first."""
    folder = shutil.copytree(mvtec_layout, tmp_path / "root") / "surface"
    for part in ("test", "ground_truth"):
        shutil.copytree(folder / part / "defect", folder / part / "stain")
    return folder


def _mvtec(category: Path) -> MVTecAD:
    return MVTecAD(root=category.parent, category=category.name)


def _folder(category: Path, **arguments: Any) -> Folder:
    pairs = {
        "abnormal_dir": ["test/defect", "test/stain"],
        "mask_dir": ["ground_truth/defect", "ground_truth/stain"],
    }
    return Folder(name="surface", root=category, normal_dir="train/good", **{**pairs, **arguments})


@pytest.mark.parametrize("datamodule", [_mvtec, _folder])
def test_complete_data_pass_and_anomalib_reads_them(datamodule: type, category: Path) -> None:
    check_mask_pairs(datamodule(category))
    datamodule(category).setup()


@pytest.mark.parametrize("datamodule", [_mvtec, _folder])
def test_missing_mask_is_named_where_anomalib_does_not_name_it(datamodule: type, category: Path) -> None:
    (category / "ground_truth" / "stain" / "001_mask.png").unlink()
    with pytest.raises(ValueError, match=r"(?s)^(?!.*001)"):
        datamodule(category).setup()
    with pytest.raises(ValueError, match=r"6 .* 5 masks\. Images without a mask: \S*stain/001\.png\. .*image: none"):
        check_mask_pairs(datamodule(category))


def test_all_masks_missing(category: Path) -> None:
    shutil.rmtree(category / "ground_truth")
    with pytest.raises(ValueError, match=r"6 anomalous images but 0 masks\. .*002\.png and 3 more\. "):
        check_mask_pairs(_mvtec(category))


def test_mask_without_an_image_is_named(category: Path) -> None:
    (category / "test" / "stain" / "002.png").unlink()
    with pytest.raises(ValueError, match=r"without a mask: none\. Masks without an image: \S*stain/002_mask\.png\. "):
        check_mask_pairs(_mvtec(category))


def test_renamed_mask_is_named_on_both_sides(category: Path) -> None:
    masks = category / "ground_truth" / "defect"
    (masks / "001_mask.png").rename(masks / "777_mask.png")
    with pytest.raises(ValueError, match=r"mask: \S*defect/001\.png\. Masks without an image: \S*defect/777_mask\.png"):
        check_mask_pairs(_mvtec(category))


def test_flat_folders_are_paired_by_name_alone() -> None:
    images, masks = [Path("bad/a.png"), Path("bad/b.png")], [Path("masks/b_mask.png"), Path("masks/c.png")]
    assert masks_by_name(images, masks) == {images[0]: [], images[1]: [masks[0]]}


def test_files_that_anomalib_does_not_read_are_not_seen(category: Path) -> None:
    (category / "test" / "defect" / "000_preview.jpg").touch()
    (category / "test" / "defect" / "link.jpg").symlink_to("gone.jpg")
    (category / "ground_truth" / "defect" / "notes.tif").touch()
    check_mask_pairs(_mvtec(category))
    check_links(_mvtec(category))
    _mvtec(category).setup()


def test_extensions_of_a_folder_are_honoured(category: Path) -> None:
    for image in (category / "test" / "defect").glob("*.png"):
        shutil.copy(image, image.with_suffix(".bmp"))
    (category / "test" / "defect" / "link.bmp").symlink_to("gone.bmp")
    with pytest.raises(ValueError, match=r"10 anomalous images but 6 masks\. Images without a mask: \S*link\.bmp\."):
        check_mask_pairs(_folder(category))
    (category / "test" / "defect" / "link.bmp").unlink()
    twins = r"Several images share the mask \S*defect/000_mask\.png: \S*000\.bmp, \S*000\.png\..*extensions="
    with pytest.raises(ValueError, match=f"9 anomalous images but 6 masks. {twins}"):
        check_mask_pairs(_folder(category))
    (category / "test" / "defect" / "link.bmp").symlink_to("gone.bmp")
    for extensions in ((".png",), [".PNG"]):
        datamodule = _folder(category, extensions=extensions)
        check_mask_pairs(datamodule)
        check_links(datamodule)
        datamodule.setup()


def test_several_masks_of_one_image_are_named(category: Path) -> None:
    masks = category / "ground_truth" / "defect"
    shutil.copy(masks / "001_mask.png", masks / "001_other.png")
    with pytest.raises(ValueError, match=r"defect/001\.png has several masks: \S*001_mask\.png, \S*001_other\.png\."):
        check_mask_pairs(_mvtec(category))


@pytest.mark.parametrize("layout", ["mvtec", "folder"])
def test_unpadded_numbers_are_explained_by_the_first_wrong_pair(layout: str, category: Path) -> None:
    def number(to_name: Callable[[int, str], str]) -> None:
        for part in ("test", "ground_truth"):
            content = next((category / part / "defect").iterdir()).read_bytes()
            shutil.rmtree(category / part / "stain", ignore_errors=True)
            shutil.rmtree(category / part / "defect")
            (category / part / "defect").mkdir()
            for index in range(1, 12):
                (category / part / "defect" / to_name(index, part)).write_bytes(content)

    def datamodule() -> MVTecAD | Folder:
        single = {"abnormal_dir": "test/defect", "mask_dir": "ground_truth/defect"}
        return _mvtec(category) if layout == "mvtec" else _folder(category, **single)

    number(lambda index, part: f"{index}.png" if part == "test" else f"{index}_mask.png")
    with pytest.raises(MisMatchError):
        datamodule().setup()
    pair = r"pairs \S*defect/1\.png with \S*defect/10_mask\.png\. Pad the numbers .* with zeros"
    with pytest.raises(ValueError, match=f"11 anomalous images and 11 masks. .*in sorted order, which {pair}"):
        check_mask_pairs(datamodule())
    for to_name in (
        lambda index, part: f"{index:02d}{'' if part == 'test' else '_mask'}.png",
        lambda index, _: f"{index}.png",
    ):
        number(to_name)
        check_mask_pairs(datamodule())
        datamodule().setup()


def test_data_without_masks_are_left_alone(category: Path) -> None:
    check_mask_pairs(None)
    check_mask_pairs(BTech(root=category))
    check_mask_pairs(Folder(name="x", root=category, normal_dir="train/good", abnormal_dir="test/defect"))


def test_long_lists_are_shortened() -> None:
    assert shorten([]) == "none"
    assert shorten([Path("a"), Path("b")]) == "a, b"
    assert shorten([Path(name) for name in "abcde"]) == "a, b, c and 2 more"


@pytest.mark.parametrize("datamodule", [_mvtec, _folder])
def test_links_to_nothing_are_named_where_anomalib_does_not_name_them(datamodule: type, category: Path) -> None:
    check_links(datamodule(category))
    (category / "train" / "good" / "link.png").symlink_to("gone.png")
    with pytest.raises(FileNotFoundError, match="missing file"):
        datamodule(category).setup()
    with pytest.raises(ValueError, match=r"1 image is a broken link; repair or remove: \S*train/good/link\.png\."):
        check_links(datamodule(category))
    check_links(None)
