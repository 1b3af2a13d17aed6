"""Hundreds of odd, damaged and hostile files: each is scored or refused by name, nothing hangs, no run dies of one."""

import csv
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import Folder, PredictDataset
from anomalib.data.utils import read_image
from anomalib.visualization import ImageVisualizer
from PIL import Image
from torch.utils.data import DataLoader, Subset

from anomalib_plus import models
from anomalib_plus.data import PredictImages
from anomalib_plus.data.dataset_check import check_datasets
from anomalib_plus.gallery.drawing import load_images
from anomalib_plus.image_files import inspect_image, printable
from anomalib_plus.models.rbae.reference import read_reference
from anomalib_plus.post_processing import MaskFolder
from anomalib_plus.report.gallery import _embed
from anomalib_plus.transforms import TextureSource
from anomalib_plus.transforms.texture_source import _read_texture
from awkward_files import Awkward, AwkwardMask, awkward_masks, encode, write_awkward_files
from contract.small_models import SmallModel, quiet_engine

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")


class Zoo(NamedTuple):
    """The folder of all files, what was meant by each, and the two kinds of them as anomalib's own reader finds."""

    folder: Path
    cases: list[Awkward]
    readable: list[Path]
    bad: list[Path]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    folder = tmp_path_factory.mktemp("zoo").resolve()
    cases = write_awkward_files(folder)
    kinds = {True: [], False: []}
    for case in cases:
        path = folder / case.path
        kinds[case.outcome == "read" or (case.outcome == "either" and _can_be_read(path))].append(path)
    return Zoo(folder, cases, sorted(kinds[True]), sorted(kinds[False]))


@pytest.fixture(autouse=True)
def _nothing_hangs() -> Iterator[None]:
    def give_up(*_: object) -> None:
        msg = "a file kept the test waiting for a minute"
        raise TimeoutError(msg)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _can_be_read(path: Path) -> bool:
    try:
        read_image(path)
    except Exception:
        return False
    return True


def _predict(name: str, images: PredictImages, **arguments: object) -> dict[str, float]:
    """Score by path; all scores and maps are finite."""
    batches = quiet_engine().predict(SmallModel.named(name).build(**arguments), dataset=images)
    items = [item for batch in batches for item in batch.items]
    assert all(torch.isfinite(item.anomaly_map).all() and item.anomaly_map.shape[-2:] == (64, 64) for item in items)
    scores = {item.image_path: float(item.pred_score) for item in items}
    assert np.isfinite(list(scores.values())).all()
    assert len(scores) == len(items) == len(images)
    return scores


def test_the_zoo_is_large_and_always_the_same(zoo: Zoo, tmp_path: Path) -> None:
    assert len(zoo.cases) + len(awkward_masks()) >= 300
    assert min(len(zoo.readable), len(zoo.bad)) >= 100
    assert write_awkward_files(tmp_path) == zoo.cases
    for case in zoo.cases:
        if (tmp_path / case.path).is_file() and not (tmp_path / case.path).is_symlink():
            assert (tmp_path / case.path).read_bytes() == (zoo.folder / case.path).read_bytes()


def test_every_file_is_scored_or_refused_as_expected(zoo: Zoo) -> None:
    wrong = []
    for case in zoo.cases:
        fault = inspect_image(zoo.folder / case.path, decode=True).fault
        if (fault is None) != (zoo.folder / case.path in zoo.readable) or not re.search(case.reason, fault or ""):
            wrong.append((case, fault))
    assert wrong == []


def test_bad_files_are_skipped_and_all_others_scored(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    visible = [path for path in zoo.readable if not path.name.startswith(".")]
    images = PredictImages(zoo.folder, skip_bad_images=True)
    warned = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Skipped ")]
    assert warned == [f"Skipped {printable(path)}: {reason}" for path, reason in images.skipped]
    assert images.image_filenames == visible
    assert [path for path, _ in images.skipped] == zoo.bad
    caplog.clear()
    scores = _predict("RamFAE", images)
    assert set(scores) == {str(path) for path in visible}
    (report,) = [record.getMessage() for record in caplog.records if "images predicted" in record.getMessage()]
    assert f"{len(visible)} images predicted, {len(zoo.bad)} skipped" in report
    assert all(printable(path) in report for path in zoo.bad)
    (file,) = Path("results").rglob("skipped_images.csv")
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["path", "reason"]
    assert rows == [[str(path), reason] for path, reason in images.skipped]


def test_a_later_run_without_bad_files_leaves_no_stale_list(zoo: Zoo, tmp_path: Path) -> None:
    for folder in ("cut", "names"):
        _predict("RamFAE", PredictImages(zoo.folder / folder, skip_bad_images=True))
    (file,) = Path("results").rglob("skipped_images.csv")
    assert file.read_text().splitlines() == ["path,reason"]


@pytest.mark.parametrize("name", models.__all__)
def test_every_model_scores_every_size(zoo: Zoo, name: str) -> None:
    scores = _predict(name, PredictImages(zoo.folder / "sizes"))
    assert {"1x1.png", "20000x10.png", "10x20000.png"} <= {Path(path).name for path in scores}


@pytest.mark.slow
@pytest.mark.parametrize("name", models.__all__)
def test_every_model_scores_every_readable_file(zoo: Zoo, name: str) -> None:
    assert len(_predict(name, PredictImages(zoo.folder, skip_bad_images=True))) == len(zoo.readable)


def test_pictures_are_written_under_every_name(zoo: Zoo) -> None:
    visualizer = ImageVisualizer(field_size=(32, 32))
    scores = _predict("RamFAE", PredictImages(zoo.folder / "names"), visualizer=visualizer)
    (results,) = Path("results").rglob("images/names")
    assert {path.name for path in results.iterdir()} == {Path(path).name for path in scores}


def test_bad_files_alone_are_refused_by_name_and_reason(zoo: Zoo) -> None:
    for path in zoo.bad:
        for skip in (False, True):  # nothing is left to predict
            with pytest.raises(ValueError, match="1 of 1 image cannot be used") as error:
                PredictImages(path, skip_bad_images=skip)
            assert f"{printable(path)}: {inspect_image(path, decode=True).fault}" in str(error.value)


def test_the_plain_path_route_refuses_every_bad_file_by_name(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    """``Engine.predict(data_path=...)``: before the run, or by a note when damage shows only while decoding."""
    model, engine = SmallModel.named("RamFAE").build(), quiet_engine()
    late = 0
    for path in zoo.bad:
        dataset = PredictDataset(zoo.folder / "names" / "UPPER.PNG")
        dataset.image_filenames = [*dataset.image_filenames, path]
        caplog.clear()
        with pytest.raises((ValueError, OSError)) as error:
            engine.predict(model, dataset=dataset)
        named = str(error.value)
        if "cannot be used" not in named:
            late += 1
            (named,) = [record.getMessage() for record in caplog.records if "could not be read" in record.getMessage()]
        assert printable(path) in named
        assert "skip_bad_images=True" in named or "Repair or remove" in named
    assert 0 < late < 12


def test_what_a_worker_could_not_read_is_named(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    path = zoo.folder / "headers" / "sound checksum around rubbish.png"
    dataset = PredictDataset(path)
    loader = DataLoader(dataset, collate_fn=dataset.collate_fn, num_workers=1)
    with pytest.raises(OSError, match="worker") as error:
        quiet_engine().predict(SmallModel.named("RamFAE").build(), dataloaders=loader)
    assert "could not be read" in "".join(getattr(error.value, "__notes__", ["could not be read"]))
    assert f"{path} could not be read. Repair or remove it." in caplog.messages


def test_a_file_that_vanishes_is_named(zoo: Zoo, tmp_path: Path) -> None:
    shutil.copy(zoo.folder / "names" / "UPPER.PNG", tmp_path / "a.png")
    images = PredictImages(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    with pytest.raises(OSError, match=r"a\.png could be read at the start of the run, but not any more"):
        images[0]


def test_training_and_prediction_read_every_file_alike(zoo: Zoo) -> None:
    trained = Folder(name="zoo", root=zoo.folder, normal_dir="formats", num_workers=0)
    trained.setup()
    predicted, plain = (kind(zoo.folder / "formats") for kind in (_skipping, PredictDataset))
    everyday = {str(path): index for index, path in enumerate(plain.image_filenames)}
    in_training = {path: index for index, path in enumerate(trained.train_data.samples.image_path)}
    compared = 0
    for index, path in enumerate(map(str, predicted.image_filenames)):
        if path in in_training:
            image = predicted[index].image
            assert torch.equal(image, trained.train_data[in_training[path]].image)
            assert torch.equal(image, plain[everyday[path]].image)
            compared += 1
    assert compared >= 15


def _skipping(path: Path) -> PredictImages:
    return PredictImages(path, skip_bad_images=True)


def test_the_first_frame_counts_and_exif_does_not_turn(zoo: Zoo) -> None:
    still = read_image(zoo.folder / "names" / "UPPER.PNG")
    for name in ("animated.png", "pages.tif"):
        assert np.array_equal(read_image(zoo.folder / "frames" / name), still)
    turned = [read_image(path) for path in sorted((zoo.folder / "turned").iterdir())]
    assert all(np.array_equal(image, turned[0]) for image in turned)


def test_training_on_the_zoo_is_refused_before_the_first_step(zoo: Zoo, tmp_path: Path) -> None:
    model = SmallModel.named("RamFAE").build()
    datamodule = Folder(name="zoo", root=zoo.folder, normal_dir=".", num_workers=0)
    with pytest.raises(ValueError, match=r"4 images are broken links.*link (first|itself)\.png"):
        quiet_engine(max_epochs=1).fit(model, datamodule=datamodule)
    datamodule = Folder(name="zoo", root=zoo.folder, normal_dir=["cut", "formats", "bombs", "names"], num_workers=0)
    with pytest.raises(ValueError, match=r"image files cannot be used; repair or remove:\n") as error:
        quiet_engine(max_epochs=1).fit(model, datamodule=datamodule)
    assert "89478485 pixels" in str(error.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, list[AwkwardMask]]:
    category = tmp_path_factory.mktemp("masks") / "part"
    masks = awkward_masks()
    picture = encode(Image.new("RGB", (64, 64), (90, 90, 90)))
    for number, mask in enumerate(masks):
        for folder in ("train/good", "test/good", "test/defect", "ground_truth/defect"):
            (category / folder).mkdir(parents=True, exist_ok=True)
        for folder in ("train/good", "test/good", "test/defect"):
            (category / folder / f"{number:03d}.png").write_bytes(picture)
        (category / "ground_truth" / "defect" / f"{number:03d}_mask.{mask.ending}").write_bytes(mask.content or b"")
    folders = {"normal_dir": "train/good", "abnormal_dir": "test/defect", "normal_test_dir": "test/good"}
    folders["mask_dir"] = "ground_truth/defect"
    datamodule = Folder(name="part", root=category, **folders, val_split_mode="same_as_test", num_workers=0)
    datamodule.setup()
    (category / "ground_truth" / "defect" / f"{len(masks) - 1:03d}_mask.png").unlink()
    return datamodule, masks


def test_every_mask_is_read_as_the_square_or_refused_by_name(masked: tuple[Folder, list[AwkwardMask]]) -> None:
    datamodule, masks = masked
    assert masks[-1].content is None
    samples = datamodule.test_data.samples
    square = torch.zeros(64, 64, dtype=torch.bool)
    square[8:24, 8:24] = True
    assert samples.label_index.sum() == len(masks)
    for index, path in enumerate(samples.mask_path):
        if not path:
            continue
        mask = masks[int(Path(path).name[:3])]
        if mask.reason is None:
            check_datasets([Subset(datamodule.test_data, [index])])
            assert torch.equal(datamodule.test_data[index].gt_mask.bool(), square), mask.name
        else:
            with pytest.raises(ValueError, match=mask.reason) as error:
                check_datasets([Subset(datamodule.test_data, [index])])
            assert f"{path}: (a mask)" in str(error.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_without_permission(zoo: Zoo) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "closed").mkdir()
        for path in ("open.png", "no.png", "closed/below.png"):
            shutil.copy(zoo.folder / "names" / "UPPER.PNG", folder / path)
        for path, mode in (("no.png", 0), ("closed", 0), (".", 0o755)):
            (folder / path).chmod(mode)
        os.seteuid(65534)
        try:
            images = PredictImages(folder, skip_bad_images=True)
        finally:
            os.seteuid(0)
    assert [path.name for path in images.image_filenames] == ["open.png"]
    assert [(path.name, reason.split(":")[0]) for path, reason in images.skipped] == [
        ("no.png", "may not be read"),
        ("closed", "may not be searched"),
    ]


def _embed_image(folder: Path, path: Path) -> object:
    if (found := _embed(folder, str(path), "input", "a file", 16)).uri is None:
        msg = f"{path}: shown as missing"
        raise ValueError(msg)
    return found


def _read_foreground(folder: Path, path: Path) -> object:
    mask_folder = MaskFolder(folder)
    mask_folder._files = {path.stem: [path]}
    return mask_folder(torch.zeros(1, 3, 8, 8), [str(path)])


@pytest.mark.parametrize(
    ("read", "at_least"),
    [
        (_embed_image, 50),  # PNG only
        (_read_foreground, 100),
        (lambda _, path: _read_texture(path, (16, 16)), 100),
        (lambda _, path: read_reference(path), 100),
    ],
    ids=["report", "foreground", "texture", "reference"],
)
def test_our_other_readers_refuse_by_name(zoo: Zoo, read: Callable[[Path, Path], object], at_least: int) -> None:
    read_by = 0
    for case in zoo.cases:
        path = zoo.folder / case.path
        if path.name == "pipe.png":
            continue  # see below
        try:
            read(zoo.folder, path)
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
        else:
            read_by += 1
            continue
        assert str(path) in message or printable(path) in message
    assert read_by > at_least


def test_searches_pass_over_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert _embed(tmp_path, "pipe.png", "input", "a pipe", 16).uri is None
    for search in (lambda: TextureSource(tmp_path).load((16, 16)), lambda: load_images(tmp_path, 1, 16)):
        with pytest.raises((FileNotFoundError, ValueError), match=r"pipe|[Nn]o image"):
            search()
    with pytest.raises(FileNotFoundError, match="no foreground mask"):
        MaskFolder(tmp_path)(torch.zeros(1, 3, 8, 8), ["pipe.png"])


def test_the_gallery_refuses_by_name(zoo: Zoo) -> None:
    with pytest.raises(ValueError, match=r"16 bits\.\w+ has pixels of more than 8 bits"):
        load_images(zoo.folder / "formats", 100, 16)


@pytest.mark.parametrize("form", ["options", "configuration"])
def test_the_command_line_takes_the_data_set_by_name(zoo: Zoo, form: str, tmp_path: Path) -> None:
    folder = zoo.folder / "headers"
    config = tmp_path / "data.yaml"
    arguments = {"path": str(folder), "skip_bad_images": True}
    config.write_text(json.dumps({"data": {"class_path": "anomalib_plus.data.PredictImages", "init_args": arguments}}))
    data = {
        "options": ["--data=PredictImages", f"--data.path={folder}", "--data.skip_bad_images=true"],
        "configuration": [f"--config={config}"],
    }
    # The full path: in one process with other tests, jsonargparse may know the class by two.
    model = ["--model=anomalib_plus.models.RamFAE", *SmallModel.named("RamFAE").command_line[1:]]
    options = ["--model.visualizer=false", "--return_predictions=false"]
    command = AnomalibCLI(["predict", *model, *options, *data[form]])
    assert command.engine.trainer.predict_loop.predictions == []
    (file,) = Path("results").rglob("skipped_images.csv")
    assert len(file.read_text().splitlines()) == 1 + sum(path.parent == folder for path in zoo.bad)


def test_paths_without_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=rf"{path} holds no image \(\.jpg, "):
            PredictImages(path, skip_bad_images=True)
    with pytest.raises(FileNotFoundError, match=r"gone does not exist"):
        PredictImages(tmp_path / "gone")
