"""Nothing is fetched that nobody asked for, and no file that is read can run code."""

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.deploy import ExportType, TorchInferencer
from huggingface_hub import constants

from anomalib_plus import models
from anomalib_plus.layers.pretrained import read_state_dict
from contract.small_models import SmallModel, quiet_engine

NETWORK_EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}


class NetworkRecord:
    """Every attempt of this process or its children to find or reach another machine.

    Once installed, a hook stays for good. It writes to a file, because a child's memory is its own.
    """

    def __init__(self, file: Path) -> None:
        self.watching = False
        self.file = file
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.watching and event in NETWORK_EVENTS:
            with self.file.open("a") as file:
                file.write(f"{event} {arguments[1:]}\n")
            msg = "there is no network"
            raise OSError(msg)

    def attempts(self) -> list[str]:
        return self.file.read_text().splitlines()


@pytest.fixture(scope="module")
def network_record(tmp_path_factory: pytest.TempPathFactory) -> NetworkRecord:
    return NetworkRecord(tmp_path_factory.mktemp("network") / "attempts.txt")


@pytest.fixture
def network(network_record: NetworkRecord, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Attempts made during the test; unlike in other tests, the hub's client does not know that it is offline."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    network_record.file.write_text("")
    network_record.watching = True
    yield network_record.attempts
    network_record.watching = False


def _whole_life(name: str, root: Path) -> None:
    datamodule = MVTecAD(root=root, category="surface", num_workers=0, train_batch_size=2)
    model, engine = SmallModel.named(name).build(), quiet_engine(max_epochs=1)
    engine.fit(model, datamodule=datamodule)
    engine.test(model, datamodule=datamodule, verbose=False)
    engine.predict(model, data_path=root / "surface" / "test" / "defect", ckpt_path=engine.best_model_path)
    assert engine.export(model, ExportType.TORCH, export_root="exported").is_file()


def test_a_model_lives_without_network(network: Callable[[], list[str]], mvtec_layout: Path) -> None:
    _whole_life("RamFAE", mvtec_layout)
    assert network() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", models.__all__)
def test_every_model_lives_without_network(network: Callable[[], list[str]], mvtec_layout: Path, name: str) -> None:
    _whole_life(name, mvtec_layout)
    assert network() == []


def _try_to_connect() -> None:
    for host in ("192.0.2.1", "example.invalid"):
        with pytest.raises(OSError, match="no network"):
            socket.create_connection((host, 80), timeout=0.1)


def test_the_record_hears_an_attempt(network: Callable[[], list[str]]) -> None:
    _try_to_connect()
    assert len(network()) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_record_hears_a_child(network: Callable[[], list[str]]) -> None:
    process = multiprocessing.get_context("fork").Process(target=_try_to_connect)
    process.start()
    process.join()
    assert len(network()) == 2


BY_OUR_COMMAND = f"""
import sys

heard = open(sys.argv[1], "a", buffering=1)

def hear(event, arguments):
    if event in {NETWORK_EVENTS}:
        heard.write(event)
        raise OSError("there is no network")

sys.addaudithook(hear)
from anomalib_plus.cli import main
main(["--version"])
import openvino, nncf
"""


def test_openvino_sends_no_usage_data_from_our_command(tmp_path: Path) -> None:
    """By itself it does so on import, in a thread that starts a child and that the end of the process waits for."""
    for package in ("openvino", "nncf"):
        pytest.importorskip(package)
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # where it keeps silent
    environment["HOME"] = str(tmp_path)  # where its consent would be noted
    command = [sys.executable, "-c", BY_OUR_COMMAND, str(tmp_path / "heard.txt")]
    subprocess.run(command, env=environment, check=True, timeout=300)
    assert (tmp_path / "heard.txt").read_text() == ""


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def intruder(tmp_path: Path) -> Iterator[Intruder]:
    found = Intruder(tmp_path / "trace")
    yield found
    assert not found.trace.exists()


@pytest.mark.parametrize("place", ["hyper_parameters", "state_dict", "callbacks", "anything"])
def test_a_checkpoint_cannot_run_code(intruder: Intruder, place: str, mvtec_layout: Path) -> None:
    model = SmallModel.named("RamFAE").build()
    whole = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.6",
    }
    torch.save(whole | {place: {"x": intruder}}, "evil.ckpt")
    datamodule = MVTecAD(root=mvtec_layout, category="surface", num_workers=0)
    images = mvtec_layout / "surface" / "test" / "good" / "000.png"
    for load in (
        lambda: quiet_engine(max_epochs=1).fit(model, datamodule=datamodule, ckpt_path="evil.ckpt"),
        lambda: quiet_engine().predict(model, data_path=images, ckpt_path="evil.ckpt"),
        lambda: models.RamFAE.load_from_checkpoint("evil.ckpt"),
    ):
        with pytest.raises(Exception, match=r"(?i)weights.only|unsupported|mkdir"):
            load()


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_of_weights_cannot_run_code(intruder: Intruder, ending: str) -> None:
    file = Path(f"weights.{ending}")
    torch.save({"weight": intruder}, file)
    with pytest.raises(ValueError, match=r"weights=.*is not a state dict"):
        read_state_dict(file, "weights")


def test_an_exported_file_is_code_and_must_be_trusted(intruder: Intruder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUST_REMOTE_CODE", raising=False)
    torch.save({"model": intruder}, "model.pt")
    with pytest.raises(Exception, match="TRUST_REMOTE_CODE"):
        TorchInferencer(path="model.pt", device="cpu")
