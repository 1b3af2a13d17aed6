"""Nothing is fetched that nobody asked for, and no file that is read can run code."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.deploy import ExportType, TorchInferencer
from huggingface_hub import constants

from anomalib_plus import models
from anomalib_plus.models.components.pretrained import read_state_dict
from contract.small_models import SmallModel, quiet_engine


class NetworkRecord:
    """Every attempt of this process to find or reach another machine; once installed, a hook stays for good."""

    def __init__(self) -> None:
        self.watching = False
        self.attempts: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.watching and event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
            self.attempts.append(f"{event} {arguments[1:]}")
            msg = "there is no network"
            raise OSError(msg)


@pytest.fixture(scope="module")
def network_record() -> NetworkRecord:
    return NetworkRecord()


@pytest.fixture
def network(network_record: NetworkRecord, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Attempts made during the test; unlike in other tests, the hub's client does not know that it is offline."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    network_record.attempts.clear()
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


def test_a_model_lives_without_network(network: list[str], mvtec_layout: Path) -> None:
    _whole_life("RamFAE", mvtec_layout)
    assert network == []


@pytest.mark.slow
@pytest.mark.parametrize("name", models.__all__)
def test_every_model_lives_without_network(network: list[str], mvtec_layout: Path, name: str) -> None:
    _whole_life(name, mvtec_layout)
    assert network == []


def test_the_record_hears_an_attempt(network: list[str]) -> None:
    for host in ("192.0.2.1", "example.invalid"):
        with pytest.raises(OSError, match="no network"):
            socket.create_connection((host, 80), timeout=0.1)
    assert len(network) == 2


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
    with pytest.raises(ValueError, match=r"weights=.*is no state dict"):
        read_state_dict(file, "weights")


def test_an_exported_file_is_code_and_must_be_trusted(intruder: Intruder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUST_REMOTE_CODE", raising=False)
    torch.save({"model": intruder}, "model.pt")
    with pytest.raises(Exception, match="TRUST_REMOTE_CODE"):
        TorchInferencer(path="model.pt", device="cpu")
