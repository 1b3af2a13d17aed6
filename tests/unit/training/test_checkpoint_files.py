"""Checkpoints on a full disk and in folders that cannot be written: the one before stays whole, the error helps."""

import contextlib
import errno
import io as buffers
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch import Callback

from anomalib_plus import RamFAE
from anomalib_plus.training.checkpoint_files import (
    CheckpointError,
    SafeCheckpointIO,
    check_writable,
    explained,
    write_whole,
)
from anomalib_plus.training.checkpoint_origin import read_head

resource = pytest.importorskip("resource", reason="limits of files as Unix has them")

GOOD = {"state_dict": {"weight": torch.zeros(100)}}
BIG = {"state_dict": {"weight": torch.rand(100_000)}}


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing fail with an error once a file is so large; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def io() -> SafeCheckpointIO:
    return SafeCheckpointIO(TorchCheckpointIO())


def assert_good(file: Path) -> None:
    """The file is whole, and nothing else is in its folder."""
    torch.testing.assert_close(torch.load(file, weights_only=True), GOOD, rtol=0, atol=0)
    assert list(file.parent.iterdir()) == [file]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A checkpoint."""
    file = tmp_path / "weights" / "model.ckpt"
    io().save_checkpoint(GOOD, file)
    assert_good(file)
    return file


def full_device(good: Path) -> AbstractContextManager:
    """What is written goes to a device that is always full."""
    (good.parent / f".{good.name}.part").symlink_to("/dev/full")
    return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("fault", "number"),
    [
        (lambda good: largest_file(10_000), errno.EFBIG),
        pytest.param(
            full_device, errno.ENOSPC, marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
        ),
    ],
    ids=["limit", "full device"],
)
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(
    good: Path, fault: Callable[[Path], AbstractContextManager], number: int
) -> None:
    with (
        fault(good),
        pytest.raises(OSError, match=r"model\.ckpt \(0\.4 MiB\) could not be written: .* MiB left") as stop,
    ):
        io().save_checkpoint(BIG, good)
    assert stop.value.errno == number
    assert "the previous one is intact" in str(stop.value)
    assert "default_root_dir" in str(stop.value)
    assert_good(good)


def test_a_write_that_was_killed_leaves_nothing_that_disturbs_the_next(good: Path) -> None:
    (good.parent / ".model.ckpt.part").write_bytes(b"torn")
    assert torch.load(good, weights_only=True).keys() == GOOD.keys()
    io().save_checkpoint(GOOD, good)
    assert_good(good)


def save_forever(file: Path) -> None:
    for number in itertools.count():
        io().save_checkpoint({"state_dict": {"weight": torch.full((1_000_000,), float(number))}}, file)


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_while_checkpoints_are_written_leave_whole_ones(tmp_path: Path, kills: int) -> None:
    """One version or the next, but no mixture and nothing torn."""
    rng = random.Random(0)
    file = tmp_path / "model.ckpt"
    for _ in range(kills):
        process = multiprocessing.get_context("fork").Process(target=save_forever, args=(file,))
        process.start()
        while not file.exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        weight = torch.load(file, weights_only=True)["state_dict"]["weight"]
        assert weight.shape == (1_000_000,)
        assert (weight == weight[0]).all()
        file.unlink()


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """The superuser may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that everybody may read, with a checkpoint in it."""
    folder = Path(tempfile.mkdtemp())
    io().save_checkpoint(GOOD, folder / "model.ckpt")
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["model.ckpt", "new.ckpt"])
def test_a_read_only_folder_is_an_error(read_only: Path, name: str) -> None:
    """Lightning passes over it without a word."""
    with ordinary_user(), pytest.raises(PermissionError, match=rf"{read_only}/{name} .*Permission denied"):
        io().save_checkpoint(BIG, read_only / name)
    assert_good(read_only / "model.ckpt")


@pytest.mark.parametrize("below", ["", "new/folders"])
def test_a_read_only_folder_is_noticed_beforehand(read_only: Path, below: str) -> None:
    with ordinary_user(), pytest.raises(PermissionError, match=rf"{read_only} is not a writable folder"):
        check_writable(read_only / below)


def test_folders_that_can_be_made_are_not_made_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_links_and_permissions_are_as_for_any_new_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "file", b"content")
    reference = tmp_path / "reference"
    reference.write_bytes(b"")
    assert (tmp_path / "new" / "file").read_bytes() == b"content"
    assert (tmp_path / "new" / "file").stat().st_mode == reference.stat().st_mode


def train(root: Path, **options: Any) -> Engine:
    model = RamFAE(
        widths=(4, 8, 8, 8),
        pre_processor=RamFAE.configure_pre_processor((64, 64)),
        evaluator=False,
        post_processor=False,
        visualizer=False,
    )
    engine = Engine(
        max_epochs=3,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **options,
    )
    engine.fit(model, datamodule=MVTecAD(root, "surface", num_workers=0, train_batch_size=2))
    return engine


class FillDisk(Callback):
    """From the second epoch on, no file can be larger than a few bytes."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.stack.enter_context(largest_file(10_000))


def test_a_training_whose_disk_fills_up_ends_with_a_good_checkpoint(mvtec_layout: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack, pytest.raises(OSError, match=r"model\.ckpt .*the previous one is intact"):
        train(mvtec_layout, callbacks=[FillDisk(stack)], default_root_dir=tmp_path)
    (file,) = tmp_path.rglob("model.ckpt")
    assert torch.load(file, weights_only=True)["epoch"] == 0
    RamFAE.load_from_checkpoint(file)


def test_a_training_without_a_place_for_checkpoints_does_not_begin(mvtec_layout: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"No checkpoint can be written to .*/file/weights"):
        train(mvtec_layout, callbacks=[ModelCheckpoint(tmp_path / "file" / "weights")])


def test_users_of_their_own_checkpoint_files_keep_them(mvtec_layout: Path, tmp_path: Path) -> None:
    written: list[str] = []

    class Own(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            written.append(Path(path).name)

    engine = train(mvtec_layout, plugins=[Own()], default_root_dir=tmp_path)
    assert set(written) == {"model.ckpt"}
    assert isinstance(engine.trainer.strategy.checkpoint_io, Own)


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from anomalib_plus.training.checkpoint_files import SafeCheckpointIO
folder, io = Path(sys.argv[1]), SafeCheckpointIO(TorchCheckpointIO())
for size in (100_000, 500_000):
    try:
        io.save_checkpoint({"state_dict": {"weight": torch.full((size,), float(size))}}, folder / "model.ckpt")
    except OSError as error:
        print(error)
print(torch.load(folder / "model.ckpt", weights_only=True)["state_dict"]["weight"].mean().item(), *folder.iterdir())
"""


@pytest.mark.slow
def test_a_real_disk_that_is_full(tmp_path: Path) -> None:
    """1.5 MB in memory, mounted in a namespace of its own."""
    command = f'mount -t tmpfs -o size=1500k tmpfs "{tmp_path}" && "{sys.executable}" - "{tmp_path}"'
    isolated = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*isolated, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    run = subprocess.run(
        [*isolated, "sh", "-c", command], input=ON_A_SMALL_DISK, capture_output=True, text=True, check=True
    )
    error, state = run.stdout.splitlines()
    assert "No space left on device (1.1 MiB left in that folder); the previous one is intact" in error
    assert state == f"100000.0 {tmp_path / 'model.ckpt'}"


WHOLE = GOOD | {
    "hyper_parameters": {"widths": [4, 8]},
    "pytorch-lightning_version": "2.6.6",
    "anomalib_plus": {"model": "RamFAE", "version": "0.1.0"},
}
LOADERS = {"head": read_head, "trainer": lambda file: io().load_checkpoint(file)}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("new_format", [True, False])
def test_every_damage_to_the_description_is_one_error(load: Callable, new_format: bool, tmp_path: Path) -> None:
    """It is a pickle in which a wrong byte can mean anything."""
    file, rng = tmp_path / "model.ckpt", random.Random(0)
    torch.save(WHOLE, file, _use_new_zipfile_serialization=new_format)
    assert load(file).keys() == WHOLE.keys()
    whole, first, last = file.read_bytes(), 0, 600
    if new_format:
        with zipfile.ZipFile(file) as archive:
            (pickled,) = (archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
        first = whole.index(pickled)
        last = first + len(pickled)
    refused = 0
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(first, last)] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            load(file)
        except CheckpointError:
            refused += 1
    assert refused > 40


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("hyper_parameters", [1, 2], "'hyper_parameters' are not a dictionary"),
        ("hyper_parameters", None, "'hyper_parameters' are not a dictionary"),
        ("hyper_parameters", {1: 2}, "'hyper_parameters' are not a dictionary of names"),
        ("anomalib_plus", "RamFAE", "'anomalib_plus' does not name model and version"),
        ("anomalib_plus", {"model": "RamFAE"}, "'anomalib_plus' does not name model and version"),
        ("pytorch-lightning_version", None, "'pytorch-lightning_version' is missing"),
        ("pytorch-lightning_version", 2, "its Lightning version is no string"),
        ("state_dict", {"weight": "x"}, "its weight 'weight' is not a tensor but str"),
    ],
)
@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_parts_of_another_kind_are_named(load: Callable, part: str, value: Any, message: str, tmp_path: Path) -> None:
    torch.save(WHOLE | {part: value}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=f"damaged or of another library: .*{message}"):
        load(tmp_path / "model.ckpt")


def test_what_modules_keep_beside_their_tensors_is_let_pass(tmp_path: Path) -> None:
    torch.save(WHOLE | {"state_dict": {"layer._extra_state": {"scale": 1.0}}}, tmp_path / "model.ckpt")
    read_head(tmp_path / "model.ckpt")


def test_open_files_and_other_places_are_looked_at_too() -> None:
    naming = WHOLE | {"hyper_parameters": {"_instantiator": "lightning.pytorch.cli.instantiate_module"}}
    content = buffers.BytesIO(b"before")
    content.seek(0, buffers.SEEK_END)
    torch.save(naming, content)
    content.seek(6)
    with pytest.raises(CheckpointError, match="names code"):
        RamFAE.load_from_checkpoint(content)
    assert content.tell() == 6
    with get_filesystem("memory://checkpoints").open("memory://checkpoints/model.ckpt", "wb") as stream:
        torch.save(naming, stream)
    with pytest.raises(CheckpointError, match="names code"):
        RamFAE.load_from_checkpoint("memory://checkpoints/model.ckpt")


def test_files_elsewhere_and_files_that_are_gone_can_be_damaged(tmp_path: Path) -> None:
    for place in ("s3://bucket/model.ckpt", tmp_path / "gone.ckpt"):
        message = rf"{place} cannot be read: it is damaged or incomplete\. Copy"
        with pytest.raises(CheckpointError, match=message), explained(place):
            raise EOFError


def test_faults_that_are_not_the_files_keep_their_names(good: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^CUDA out of memory$"), explained(good):
        raise RuntimeError("CUDA out of memory")
