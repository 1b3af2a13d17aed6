"""Missing masks are named before anomalib stumbles over them."""

import shutil
from pathlib import Path

import pytest
from anomalib.data import BTech, Folder, MVTecAD

from anomalib_plus.data.mask_pairs import check_links, check_mask_pairs, find_unpaired, shorten


@pytest.fixture
def category(mvtec_layout: Path, tmp_path: Path) -> Path:
    """A private copy with a second kind of defect whose files have the same names as those of the first."""
    folder = shutil.copytree(mvtec_layout, tmp_path / "root") / "surface"
    for part in ("test", "ground_truth"):
        shutil.copytree(folder / part / "defect", folder / part / "stain")
    return folder


def _mvtec(category: Path) -> MVTecAD:
    return MVTecAD(root=category.parent, category=category.name)


def _folder(category: Path) -> Folder:
    return Folder(
        name="surface",
        root=category,
        normal_dir="train/good",
        abnormal_dir=["test/defect", "test/stain"],
        mask_dir=["ground_truth/defect", "ground_truth/stain"],
    )


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
    assert find_unpaired(images, masks) == ([images[0]], [masks[1]])


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
    with pytest.raises(ValueError, match=r"lead nowhere \(1\); repair or remove them: \S*train/good/link\.png\."):
        check_links(datamodule(category))
    check_links(None)
