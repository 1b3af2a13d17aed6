"""Transforms as plain data and back, classes of a user's own, and what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from anomalib_plus import RamFAE, transforms
from anomalib_plus.transforms import Augmenter, TextureSource, build_augmenter

PLACED: dict[str, Any] = {"probability": 0.75, "roi": "foreground", "foreground_polarity": "bright"}
NOT_THE_DEFAULTS: dict[str, dict[str, Any]] = {
    "DeletePaste": {
        "area_ratio": (0.1, 0.2),
        "aspect_ratio": (0.5, 2.0),
        "num_patches": 2,
        "allow_overlap": True,
        "fill_value": 0.5,
        "probability": 0.75,
        "max_tries": 7,
    },
    "CutPaste": {"area_ratio": (0.1, 0.2), "num_patches": 3},
    "Cutout": {"area_ratio": (0.1, 0.2), "fill_value": 0.25},
    "SuperpixelFilling": {
        "n_segments": 64,
        "n_filled": 8,
        "probability": 0.75,
        "max_cache_bytes": 1000,
        "cache_folder": Path("superpixels"),
    },
    "PerlinAnomaly": {
        "textures": TextureSource(Path("textures"), max_images=1, max_bytes=10**6, seed=3),
        "probability": 0.75,
        "opacity": (0.5, 0.75),
        "threshold": 0.25,
        "perlin_log2_scales": (1, 3),
        "roi": None,
        "foreground_polarity": "dark",
        "blend_inverse": "perlin",
        "rotate_image_probability": 0.5,
        "rotate_noise_probability": 0.25,
        "rotation_degrees": (-30.0, 60.0),
        "operations": "anomalib",
        "num_augmentations": 2,
        "max_tries": 4,
        "severity": 0.75,
    },
    **{name: {**PLACED, "severity": 0.75} for name in ("Scratch", "Crack", "Stain", "Hole", "Dent", "Warp", "Fibre")},
    "Contamination": {**PLACED, "severity": 0.25},
    "DefectBank": {**PLACED, "folder": Path("bank"), "scale": 0.5, "blend": "poisson", "max_defects": 3},
    "Nuisance": {
        "severity": 0.75,
        "probability": 0.75,
        "brightness": 0.01,
        "contrast": 0.02,
        "light_gradient": 0.03,
        "defocus": 0.5,
        "noise": 0.04,
        "shift": 0.05,
        "rotation": 1.0,
    },
    "Mix": {
        "weights": [1.0, 0.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        "severity": 0.75,
        "defects_per_image": (1, 2),
        "probability": 0.75,
        "roi": "foreground",
        "foreground_polarity": "bright",
    },
}
"""Arguments by public transform."""


class Stripe(Augmenter):
    """A user's own anomaly: one bright row."""

    def __init__(self, rows: list[int], brightness: float = 1.0) -> None:
        super().__init__()
        self.rows = rows
        self.brightness = brightness

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        image, mask = images.clone(), torch.zeros_like(images[:, :1])
        for row in self.rows:
            image[..., row, :], mask[..., row, :] = self.brightness, 1
        return image, mask


class Forgetful(Augmenter):
    """A user's own anomaly that does not keep its argument."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()


def public_augmenters() -> list[str]:
    kinds = {name: getattr(transforms, name) for name in transforms.__all__}
    return [name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Augmenter)]


@pytest.fixture
def texture_folder() -> None:
    """The folders that the arguments above name, in the test's own working folder."""
    Path("textures").mkdir()
    Path("bank").mkdir()
    for file in ("textures/a.png", "bank/a.png", "bank/a_mask.png"):
        Image.new("RGB", (64, 64) if "textures" in file else (12, 12), (200, 30, 90)).save(file)


@pytest.mark.usefixtures("texture_folder")
@pytest.mark.parametrize("arguments", ["the defaults", "others"])
@pytest.mark.parametrize("name", [name for name in public_augmenters() if name != "Augmenter"])
def test_a_transform_comes_back_from_its_plain_data(name: str, arguments: str) -> None:
    defaults = {"folder": "bank"} if name == "DefectBank" else {}
    transform = getattr(transforms, name)(**(NOT_THE_DEFAULTS[name] if arguments == "others" else defaults))
    config = transform.config()
    again = build_augmenter(json.loads(json.dumps(config)))
    assert type(again) is type(transform)
    assert again.config() == config
    assert config["class_path"] == f"anomalib_plus.transforms.{name}"

    images = torch.rand(4, 3, 64, 64)
    first, second = (each.corrupt(images, torch.Generator().manual_seed(1)) for each in (transform, again))
    assert not torch.equal(first.image, images)
    for expected, actual in zip(first, second, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", NOT_THE_DEFAULTS)
def test_every_argument_stands_in_the_plain_data(name: str) -> None:
    asked = NOT_THE_DEFAULTS[name]
    config = getattr(transforms, name)(**asked).config()["init_args"]
    textures = {"folder": "textures", "max_images": 1, "max_bytes": 10**6, "seed": 3}
    for argument, value in asked.items():
        plain = textures if argument == "textures" else str(value) if isinstance(value, Path) else value
        assert config[argument] == (list(plain) if isinstance(plain, tuple) else plain)


@pytest.mark.parametrize(
    "spelling",
    [
        "PerlinAnomaly",
        "anomalib_plus.PerlinAnomaly",
        "anomalib_plus.transforms.PerlinAnomaly",
        "anomalib_plus.transforms.perlin_anomaly.PerlinAnomaly",
    ],
)
@pytest.mark.parametrize("make", [dict, OmegaConf.create])
def test_names_of_classes(spelling: str, make: Any) -> None:
    built = build_augmenter(make({"class_path": spelling, "init_args": {"textures": {"folder": "a", "seed": 5}}}))
    assert isinstance(built, transforms.PerlinAnomaly)
    assert (str(built.textures.folder), built.textures.seed) == ("a", 5)
    assert type(build_augmenter({"class_path": "Cutout"})) is transforms.Cutout


def test_a_transform_stays_as_it_is() -> None:
    transform = transforms.Cutout()
    assert build_augmenter(transform) is transform


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint names the class, so an import would run code of its choice."""
    (tmp_path / "harmful.py").write_text("raise SystemExit('the module ran')")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    for name in (
        "harmful.Anomaly",
        "subprocess.Popen",
        "torch.nn.Identity",
        "json.tool.main",
        "Anomaly",
        "other.Cutout",
        "anomalib_pl.Cutout",
        "",
    ):
        with pytest.raises(ValueError, match=r"There is no augmenter .*Known are .*PerlinAnomaly.*import the module"):
            build_augmenter({"class_path": name, "init_args": {}})
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("PerlinAnomaly", "is a transform or a dictionary with class_path and init_args, got 'PerlinAnomaly'"),
        ({"init_args": {}}, "is a transform or a dictionary"),
        ({"class_path": 3}, "is a transform or a dictionary"),
        ({"class_path": "Cutout", "init_args": {"size": 3}}, "arguments of the augmenter Cutout do not fit: .*size"),
        ({"class_path": "Cutout", "init_args": {"fill_value": 2.0}}, "fill_value must lie in"),
        ({"class_path": "PerlinAnomaly", "init_args": {"textures": {"file": "a"}}}, "do not fit: .*file"),
    ],
    ids=str,
)
def test_impossible_configurations_are_refused(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_augmenter(config)


@pytest.mark.parametrize("make", [dict, OmegaConf.create])
def test_a_class_of_the_user_s_own(make: Any) -> None:
    config = {"class_path": f"{__name__}.Stripe", "init_args": {"rows": [3, 5], "brightness": 0.5}}
    for augmenter in (Stripe([3, 5], 0.5), make(config)):
        model = RamFAE(widths=(4, 8), augmenter=augmenter)
        assert model.hparams["augmenter"] == config
        assert type(model.hparams["augmenter"]["init_args"]["rows"]) is list
        synthetic = model.augmenter.corrupt(torch.zeros(2, 3, 8, 8), model.anomaly_generator)
        assert synthetic.mask.sum() == 2 * 2 * 8
        assert synthetic.image.sum() == 0.5 * 3 * synthetic.mask.sum()
        assert not synthetic.target.any()


def test_an_argument_that_is_not_kept_is_named() -> None:
    with pytest.raises(ValueError, match=r"Forgetful must keep each argument .*; size is missing"):
        RamFAE(widths=(4, 8), augmenter=Forgetful())
