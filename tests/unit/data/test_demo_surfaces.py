"""The demo images: exact masks, repeatable, disjoint crops; and the folder they are written to."""

import json
from pathlib import Path

import numpy as np
import pytest
from anomalib.data import AnomalibDataModule
from PIL import Image

from anomalib_plus.data import DemoSurfaces
from anomalib_plus.data.demo_surfaces import writing
from anomalib_plus.data.demo_surfaces.defects import DEFECTS
from anomalib_plus.data.demo_surfaces.drawing import draw_image, draw_twin
from anomalib_plus.data.demo_surfaces.photographs import FIRST_TEST_COLUMN, TONES, choose_crop, photograph
from anomalib_plus.data.demo_surfaces.scene import Scene
from anomalib_plus.data.demo_surfaces.sheet import SMALL_DEFECTS
from anomalib_plus.data.demo_surfaces.washer import draw_washer
from anomalib_plus.data.demo_surfaces.writing import CATEGORIES, write_category

SMALL_IMAGES = [category for category in CATEGORIES if category != "sheet"]
"""Categories of 256x256 pixels; a sheet has twelve times as many."""


@pytest.fixture(scope="module")
def washers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a whole category as the user gets it."""
    root = tmp_path_factory.mktemp("demo")
    DemoSurfaces(root=root, category="washer").prepare_data()
    return root


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> int:
    """Two training images, one good test image, one of each defect: written in a moment."""
    for name, count in (("TRAIN_GOOD", 2), ("TEST_GOOD", 1), ("TEST_PER_DEFECT", 1)):
        monkeypatch.setattr(writing, name, count)
    return 2 + 1 + len(DEFECTS)


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("category", SMALL_IMAGES)
def test_mask_is_exact(category: str, kind: str, number: int) -> None:
    image, mask = draw_image(0, category, "test", kind, number)
    twin = draw_twin(0, category, "test", kind, number)
    difference = np.abs(image.astype(int) - twin).max(axis=-1)
    assert difference[~mask].max() == 0
    assert difference[mask].mean() > 12
    assert (difference[mask] >= 3).mean() > 0.75
    assert 100 < mask.sum() < 6000


@pytest.mark.parametrize("kind", ["scratch", "deformation"])
def test_defect_of_a_sheet_is_small_and_its_mask_exact(kind: str) -> None:
    image, mask = draw_image(0, "sheet", "test", kind, 1)
    assert (image.shape, mask.shape) == ((768, 1024, 3), (768, 1024))
    difference = np.abs(image.astype(int) - draw_twin(0, "sheet", "test", kind, 1)).max(axis=-1)
    assert difference[~mask].max() == 0
    assert difference[mask].mean() > 8
    assert (difference[mask] >= 3).mean() > 0.7


@pytest.mark.parametrize("kind", SMALL_DEFECTS)
def test_defects_of_a_sheet_have_6_to_20_pixels(kind: str) -> None:
    grey, light = np.full((256, 256, 3), 0.57), np.array([0.6, 0.8])
    piece = Scene(grey, np.ones((256, 256)), 0.3 * grey, light)
    extents = []
    for number in range(50):
        rng = np.random.default_rng(number)
        _, mask = SMALL_DEFECTS[kind](piece, rng.uniform(20, 236, size=2), rng)
        extents.append(max(np.ptp(pixels) + 1 for pixels in np.nonzero(mask)))
    assert 6 <= min(extents) < max(extents) <= 20


@pytest.mark.parametrize("kind", ["scratch", "hole"])
def test_damage_to_the_washer_is_on_the_washer(kind: str) -> None:
    for number in range(5):
        image, mask = draw_image(0, "washer", "test", kind, number)
        twin = draw_twin(0, "washer", "test", kind, number).astype(int).mean(axis=-1)
        assert twin[mask].mean() > 90  # steel
        assert twin[:12].mean() < 70  # mat
        if kind == "hole":
            assert image[mask].mean() < twin[mask].mean() - 30  # shows the mat


@pytest.mark.parametrize("category", SMALL_IMAGES)
def test_good_images_have_no_mask_and_differ_from_each_other(category: str) -> None:
    first, second = (draw_image(0, category, "train", "good", number) for number in range(2))
    assert first[0].shape == (256, 256, 3)
    assert first[0].dtype == np.uint8
    assert not first[1].any()
    assert np.abs(first[0].astype(int) - second[0]).mean() > 4


def test_every_pixel_follows_from_the_seed() -> None:
    for category in SMALL_IMAGES:
        first, again, other = (draw_image(seed, category, "test", "scratch", 0) for seed in (3, 3, 4))
        assert np.array_equal(first[0], again[0])
        assert np.array_equal(first[1], again[1])
        assert not np.array_equal(first[0], other[0])
        assert not np.array_equal(first[1], other[1])


def test_train_and_test_crops_share_no_pixel_of_the_photograph() -> None:
    rng = np.random.default_rng(0)
    seen = {}
    for split in ("train", "test"):
        seen[split] = np.zeros((512, 512), dtype=bool)
        for _ in range(300):
            rows, columns = choose_crop(rng, split)
            assert 184 <= rows.stop - rows.start == columns.stop - columns.start <= 200
            seen[split][rows, columns] = True
    assert not (seen["train"] & seen["test"]).any()
    assert seen["train"][:, :FIRST_TEST_COLUMN].mean() > 0.95
    assert seen["test"][:, FIRST_TEST_COLUMN:].mean() > 0.95


@pytest.mark.parametrize("name", TONES)
def test_photographs_come_with_scikit_image(name: str) -> None:
    assert photograph(name).shape == (512, 512)
    assert (photograph(name).min(), photograph(name).max()) == (0, 1)


def test_washers_vary_in_place_rotation_and_light() -> None:
    scenes = [draw_washer(np.random.default_rng(number)) for number in range(12)]
    rows, columns = np.mgrid[:256, :256]
    centres = np.array([[(grid * s.coverage).sum() / s.coverage.sum() for grid in (rows, columns)] for s in scenes])
    assert (centres.std(axis=0) > 4).all()
    areas = np.array([s.coverage.sum() for s in scenes])
    assert 0.01 < areas.std() / areas.mean() < 0.1
    lights = np.array([s.light for s in scenes])
    assert np.allclose(np.hypot(*lights.T), 1)
    assert np.abs(lights.mean(axis=0)).max() < 0.6


def test_category_is_complete(washers: Path) -> None:
    folder = washers / "washer"
    counts = {str(sub.relative_to(folder)): len(list(sub.glob("*.png"))) for sub in folder.glob("*/*")}
    assert counts == {
        "train/good": 60,
        "test/good": 20,
        **{f"test/{kind}": 10 for kind in DEFECTS},
        **{f"ground_truth/{kind}": 10 for kind in DEFECTS},
    }
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((256, 256), "L" if "ground_truth" in path.parts else "RGB")
    assert set(np.unique(_pixels(folder / "ground_truth" / "hole" / "004_mask.png"))) == {0, 255}
    assert [entry.name for entry in washers.iterdir()] == ["washer"]


def test_files_hold_the_drawn_images(washers: Path) -> None:
    image, mask = draw_image(0, "washer", "test", "hole", 4)
    folder = washers / "washer"
    assert np.array_equal(_pixels(folder / "test" / "hole" / "004.png"), image)
    assert np.array_equal(_pixels(folder / "ground_truth" / "hole" / "004_mask.png") > 0, mask)


def test_datamodule_reads_the_category(washers: Path) -> None:
    datamodule = DemoSurfaces(root=washers, num_workers=0, train_batch_size=4)
    assert (datamodule.name, datamodule.category, datamodule.eval_batch_size) == ("DemoSurfaces", "washer", 32)
    datamodule.prepare_data()
    datamodule.setup()
    assert [len(d) for d in (datamodule.train_data, datamodule.val_data, datamodule.test_data)] == [60, 60, 60]
    assert next(iter(datamodule.train_dataloader())).image.shape == (4, 3, 256, 256)
    assert int((datamodule.test_data.samples.label_index == 1).sum()) == 40
    for item in (datamodule.test_data[number] for number in (5, 15, 25, 35, 45, 55)):
        assert bool(item.gt_mask.any()) == bool(item.gt_label) == ("good" not in item.image_path)


def test_category_is_written_once_and_the_same_each_time(few_images: int, tmp_path: Path) -> None:
    for root in ("a", "b"):
        DemoSurfaces(root=tmp_path / root, category="grass").prepare_data()
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == few_images + len(DEFECTS) + 1
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    before = (tmp_path / "a" / files[-1]).stat().st_mtime_ns
    DemoSurfaces(root=tmp_path / "a", category="grass").prepare_data()
    assert (tmp_path / "a" / files[-1]).stat().st_mtime_ns == before


def test_interrupted_run_leaves_nothing(few_images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def interrupt(*address: object) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(address)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw_image(*address)

    monkeypatch.setattr(writing, "draw_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_category(tmp_path / "brick", "brick", seed=0)
    assert not list(tmp_path.iterdir())


def test_killed_run_is_repaired_by_the_next(few_images: int, tmp_path: Path) -> None:
    remains = tmp_path / ".gravel-0123" / "train" / "good"
    remains.mkdir(parents=True)
    (remains / "000.png").write_bytes(b"half a file")
    datamodule = DemoSurfaces(root=tmp_path, category="gravel", num_workers=0)
    datamodule.prepare_data()
    datamodule.setup()
    assert (len(datamodule.train_data), len(datamodule.test_data)) == (2, 5)


def test_the_first_of_two_writers_wins(few_images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overtaken = []

    def be_overtaken(*address: object) -> tuple[np.ndarray, np.ndarray]:
        if not overtaken:
            overtaken.append(address)
            write_category(tmp_path / "brick", "brick", seed=0)
        return draw_image(*address)

    monkeypatch.setattr(writing, "draw_image", be_overtaken)
    write_category(tmp_path / "brick", "brick", seed=0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["brick"]
    assert len(list((tmp_path / "brick").rglob("*.png"))) == few_images + len(DEFECTS)


def test_folder_drawn_with_another_seed_is_refused(few_images: int, tmp_path: Path) -> None:
    DemoSurfaces(root=tmp_path, seed=1).prepare_data()
    assert json.loads((tmp_path / "washer" / "drawn.json").read_text())["seed"] == 1
    with pytest.raises(
        ValueError, match=r"washer holds other images .*'seed': 0.*'seed': 1.*another folder, or delete"
    ):
        DemoSurfaces(root=tmp_path, seed=0).prepare_data()


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "washer").mkdir()
    with pytest.raises(ValueError, match="found None"):
        DemoSurfaces(root=tmp_path).prepare_data()
    assert not list((tmp_path / "washer").iterdir())


def test_unknown_category_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"no category 'bottle'\. Choose one of washer, brick, gravel, grass, sheet"):
        DemoSurfaces(category="bottle")


def test_yaml_reaches_own_and_inherited_arguments(tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    config.write_text("class_path: DemoSurfaces\ninit_args: {category: gravel, seed: 5, train_batch_size: 3}\n")
    datamodule = AnomalibDataModule.from_config(config)
    assert type(datamodule) is DemoSurfaces
    assert (datamodule.category, datamodule.seed, datamodule.train_batch_size) == ("gravel", 5, 3)
    assert datamodule.root == Path("datasets/DemoSurfaces")
