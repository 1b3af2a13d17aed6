"""Files of pre-trained weights that are damaged, hold code or something else: the error names argument and file."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from anomalib_plus import TSDN, AstMFR
from anomalib_plus.models.rbae.perceptual import load_vgg

ARGUMENTS: dict[str, Callable[[Path], object]] = {
    "teacher_weights": lambda file: AstMFR("test_resnet", "test_efficientnet", teacher_weights=file),
    "student_weights": lambda file: AstMFR(
        "test_resnet", "test_efficientnet", teacher_weights=Path("teacher.pth"), student_weights=file
    ),
    "weights": lambda file: TSDN("test_efficientnet", weights=file),
    "vgg_weights": lambda file: load_vgg(weights=file),
}


class Payload:
    """Harmless, but loading it runs code: it makes a file."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, ("code was run", "w")


def truncated(file: Path) -> None:
    torch.save({"weight": torch.rand(1000)}, file)
    file.write_bytes(file.read_bytes()[:2000])


def truncated_safetensors(file: Path) -> None:
    save_file({"weight": torch.rand(1000)}, file)
    file.write_bytes(file.read_bytes()[:2000])


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty": ("w.pth", lambda file: file.write_bytes(b"")),
    "empty safetensors": ("w.safetensors", lambda file: file.write_bytes(b"")),
    "truncated": ("w.pth", truncated),
    "truncated safetensors": ("w.safetensors", truncated_safetensors),
    "text": ("w.pth", lambda file: file.write_text("version https://git-lfs.github.com/spec/v1")),
    "code": ("w.pth", lambda file: torch.save({"weight": Payload()}, file)),
    "code as a plain pickle": ("w.pth", lambda file: file.write_bytes(pickle.dumps(Payload()))),
    "a list": ("w.pth", lambda file: torch.save([torch.rand(1)], file)),
    "numbers": ("w.pth", lambda file: torch.save({"epoch": 3, "name": "w"}, file)),
    "weights of another network": (
        "w.pth",
        lambda file: torch.save(timm.create_model("test_vit", pretrained=False).state_dict(), file),
    ),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("kind", FILES)
def test_the_error_names_argument_and_file(argument: str, kind: str) -> None:
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), "teacher.pth")
    name, write = FILES[kind]
    write(Path(name))
    with pytest.raises(ValueError, match=rf"^{argument}={name} (is not a state dict|does not fit)"):
        ARGUMENTS[argument](Path(name))
    assert not Path("code was run").exists()
