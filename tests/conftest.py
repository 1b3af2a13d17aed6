"""What every test stands on: no network, a private working folder, fixed seeds, and one tiny data set."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported: must precede every other import

import copy
import ctypes
import functools
import logging
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonargparse._signatures as signatures
import numpy as np
import pytest
import torch
from PIL import Image

sys.modules["openvino_telemetry"] = None  # OpenVINO, which some tests import, would tell of its use

CATEGORY = "surface"
IMAGE_SIZE = 64
DEFECT_SIZE = 16


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process for single files, whose imports would cost more than they save, and for benchmarks."""
    single = any(".py" in argument or "benchmarks" in argument for argument in config.args)
    return 0 if single else min(os.cpu_count() or 1, 4)


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_no_network() -> Iterator[None]:
    torch.set_num_threads(1)  # networks this small gain nothing from a second thread, and lose much on a busy machine
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "unix socket"
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            msg = f"tests run offline, but something tried to reach {address}"
            raise OSError(msg)
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        yield


@pytest.fixture(scope="session", autouse=True)
def _signatures_are_read_once() -> Iterator[None]:
    """For every command, jsonargparse reads the source code of every class anew: more than half of the time."""
    original = signatures.get_signature_parameters
    cached = functools.cache(lambda component, method: original(component, method))

    def parameters(component: object, method: str | None = None, **_: object) -> list[object]:
        return [copy.copy(parameter) for parameter in cached(component, method)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "get_signature_parameters", parameters)
        yield


@pytest.fixture(scope="session")
def restore_signal_stack() -> Callable[[], None]:
    """Give the main thread the stack for signals that it had at the start of the session."""
    libc, stack = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.sigaltstack(None, stack)
    return lambda: libc.sigaltstack(stack, None)


@pytest.fixture(autouse=True)
def _signal_stack_as_before(restore_signal_stack: Callable[[], None]) -> Iterator[None]:
    """Each CPU plugin of OpenVINO sets a stack for signals, and may free it while it is in use.

    It does so when a thread other than its maker frees it (the garbage collector runs in any), or in another order than
    the last first. The next signal with a handler, such as SIGCHLD, then ends the process without a message.
    """
    yield
    restore_signal_stack()


@pytest.fixture(autouse=True)
def _private_folder_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, because anomalib writes ``./results`` wherever it is started."""
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 -- libraries draw from the global generator
    torch.manual_seed(0)


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands and pipelines of anomalib reconfigure logging for the whole process: undo that."""
    handlers = {logger: list(logger.handlers) for logger in _loggers()}
    level = logging.root.level
    yield
    for logger in _loggers():
        logger.handlers = handlers.get(logger, [])
    logging.root.setLevel(level)
    logging.captureWarnings(False)


def _draw_surface(rng: np.random.Generator) -> np.ndarray:
    """Oblique soft stripes with a random phase and a little noise, uint8 (64, 64, 3)."""
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    stripes = 0.4 + 0.1 * np.sin((rows + 2 * columns) / 6 + rng.uniform(0, 2 * np.pi))
    image = stripes[..., None] * np.array([1.0, 0.9, 0.8]) + rng.normal(0, 0.01, (IMAGE_SIZE, IMAGE_SIZE, 3))
    return (image.clip(0, 1) * 255).astype(np.uint8)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def mvtec_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root folder of a read-only data set: ``MVTecAD(root=mvtec_layout, category="surface")``.

    64x64 RGB; 6 train/good, 3 test/good, and 3 test/defect in which a bright 16x16 square lies on the surface.
    """
    root = tmp_path_factory.mktemp("mvtec_layout")
    category = root / CATEGORY
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for index in range(count):
            _save(_draw_surface(rng), category / split / "good" / f"{index:03d}.png")
    for index in range(3):
        image, mask = _draw_surface(rng), np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        top, left = rng.integers(4, IMAGE_SIZE - DEFECT_SIZE - 4, size=2)
        square = np.s_[top : top + DEFECT_SIZE, left : left + DEFECT_SIZE]
        image[square], mask[square] = 230, 255
        _save(image, category / "test" / "defect" / f"{index:03d}.png")
        _save(mask, category / "ground_truth" / "defect" / f"{index:03d}_mask.png")
    return root


@pytest.fixture
def left_mask(tmp_path: Path) -> Path:
    """Mask file of the size of those images; the left half counts."""
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    mask[:, : IMAGE_SIZE // 2] = 255
    _save(mask, tmp_path / "left.png")
    return tmp_path / "left.png"
