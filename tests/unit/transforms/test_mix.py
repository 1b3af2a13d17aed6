"""Mix, Nuisance, DefectBank, textures of the batch itself, and blending: what is theirs alone."""

import pickle
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.models import Draem
from anomalib.models.image.draem import torch_model
from PIL import Image
from torch import Tensor

from anomalib_plus import RamFAE
from anomalib_plus.transforms import (
    Augmenter,
    Crack,
    Cutout,
    DefectBank,
    DeletePaste,
    Mix,
    Nuisance,
    PerlinAnomaly,
    Scratch,
    Stain,
    SuperpixelFilling,
    TextureSource,
    build_augmenter,
)
from anomalib_plus.transforms.blending import blend
from anomalib_plus.transforms.visibility import MIN_CHANGE, ensure_visible


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fill(Augmenter):
    """Set the image to a value; the mask is its left or right half."""

    def __init__(self, value: float = 1.0, severity: float = 0.5, roi: Any = None) -> None:
        super().__init__()
        self.value, self.severity, self.roi = value, severity, roi
        self.keys: list[Any] = []

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        masks = torch.zeros_like(images[:, :1])
        masks[..., : images.shape[3] // 2] = 1
        masks = masks if self.value < 0.5 else 1 - masks
        return torch.where(masks > 0, self.value, images), masks

    def corrupt(self, images: Tensor, generator: Any = None, keys: Any = None) -> Any:
        self.keys.append(keys)
        return super().corrupt(images, generator, keys)


# Mix


def test_every_image_gets_one_of_the_kinds_by_its_weight() -> None:
    images = torch.full((600, 3, 8, 8), 0.5)
    mix = Mix([Fill(0.0), Fill(1.0), Fill(0.75)], weights=[3, 1, 0])
    target, image, mask = mix.corrupt(images, seeded())
    assert torch.equal(target, images)
    kinds = image.amax((1, 2, 3)) + image.amin((1, 2, 3))  # 0.5 with a 0, 1.5 with a 1
    assert set(kinds.tolist()) == {0.5, 1.5}
    assert (kinds == 0.5).float().mean() == pytest.approx(0.75, abs=0.05)
    assert (mask.mean((1, 2, 3)) == 0.5).all()


def test_several_per_image_and_none() -> None:
    images = torch.full((300, 3, 8, 8), 0.5)
    _, masks = Mix([Fill(0.0), Fill(1.0)], defects_per_image=(2, 2))(images, seeded())
    assert masks.mean((1, 2, 3)).unique().tolist() == [0.5, 1.0]  # twice the same, or one of each
    assert (masks.mean((1, 2, 3)) == 1).float().mean() == pytest.approx(0.5, abs=0.1)
    _, masks = Mix([Fill(0.0)], probability=0.25)(images, seeded())
    assert masks.flatten(1).any(1).float().mean() == pytest.approx(0.25, abs=0.08)


def test_severity_and_region_replace_those_of_the_transforms_where_they_have_them() -> None:
    region = torch.eye(8)
    bank, textures = Fill(), TextureSource("somewhere")
    mix = Mix([bank, PerlinAnomaly(textures), Nuisance()], severity=0.9, roi=region)
    assert [member.severity for member in mix.transforms] == [0.9, 0.9, 0.9]
    assert mix.transforms[0].roi is mix.transforms[1].roi is region
    assert mix.transforms[1].textures is textures
    assert (bank.severity, bank.roi) == (0.5, None)  # the user's own is left alone
    assert Mix([bank]).transforms == (bank,)


def test_nuisance_comes_first_and_changes_the_target() -> None:
    images = torch.rand(16, 3, 32, 32)
    mix = Mix([Scratch()], nuisance=Nuisance(severity=1.0))
    target, image, mask = mix.corrupt(images, seeded())
    assert (target != images).flatten(1).any(1).all()
    outside = (mask == 0).expand_as(image)
    assert torch.equal(image[outside], target[outside])
    image, mask = mix(images, seeded())
    outside = (mask == 0).expand_as(image)
    assert torch.equal(image[outside], images[outside])


def test_nuisance_among_the_transforms_makes_varied_good_images() -> None:
    images = torch.rand(64, 3, 32, 32)
    target, image, mask = Mix([Nuisance(), Stain()]).corrupt(images, seeded())
    varied = (target != images).flatten(1).any(1)
    assert 16 < varied.sum() < 48
    assert torch.equal(varied, ~mask.flatten(1).any(1))
    assert torch.equal(image[varied], target[varied])
    image, mask = Mix([Nuisance(), Stain()])(images, seeded())
    assert torch.equal((image != images).flatten(1).any(1), mask.flatten(1).any(1))


def test_keys_go_with_their_images_unless_these_are_varied() -> None:
    fills = [Fill(0.0), Fill(1.0)]
    keys = [str(number) for number in range(8)]
    Mix(fills).corrupt(torch.rand(8, 3, 8, 8), seeded(), keys)
    assert sorted(fills[0].keys[0] + fills[1].keys[0]) == keys
    Mix(fills, nuisance=Nuisance()).corrupt(torch.rand(8, 3, 8, 8), seeded(), keys)
    assert fills[0].keys[1] is fills[1].keys[1] is None


def test_a_mix_is_built_from_plain_data_and_hands_on_checks_and_preparation() -> None:
    plain = {
        "class_path": "Mix",
        "init_args": {
            "transforms": [
                {"class_path": "Crack", "init_args": {"severity": 0.3}},
                {"class_path": "SuperpixelFilling"},
            ],
            "nuisance": {"class_path": "Nuisance", "init_args": {"noise": 0.0}},
        },
    }
    mix = build_augmenter(plain)
    assert [type(member) for member in mix.transforms] == [Crack, SuperpixelFilling]
    assert mix.nuisance.noise == 0
    assert build_augmenter(mix.config()).config() == mix.config()
    mix.prepare([torch.rand(3, 32, 32)], lambda image: image, "as it is", progress=False)
    assert len(mix.transforms[1].cache) == 1
    with pytest.raises(FileNotFoundError, match="missing"):
        Mix([DefectBank("missing")]).check()


@pytest.mark.parametrize(
    "arguments",
    [
        {"transforms": []},
        {"weights": [1.0]},
        {"transforms": [Scratch()], "weights": [0.0]},
        {"transforms": [Scratch(), Crack()], "weights": [2.0, -1.0]},
        {"defects_per_image": (0, 1)},
        {"defects_per_image": (3, 2)},
        {"probability": 1.5},
        {"severity": 0.0},
        {"transforms": ["Scratch"]},
    ],
    ids=str,
)
def test_impossible_mixes_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Mix|severity|augmenter"):
        Mix(**arguments)


@pytest.mark.parametrize("make", [Mix, Scratch, lambda: PerlinAnomaly("self")], ids=["Mix", "Scratch", "self"])
def test_draem_trains_on_any(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for network in ("ReconstructiveSubNetwork", "DiscriminativeSubNetwork"):
        monkeypatch.setattr(torch_model, network, partial(getattr(torch_model, network), base_width=4))
    model = Draem(dtd_dir=tmp_path)
    model.augmenter = make()
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    assert model.training_step(SimpleNamespace(image=torch.rand(2, 3, 32, 32)))["loss"].isfinite()


# Nuisance


@pytest.mark.parametrize(
    "amount", ["brightness", "contrast", "light_gradient", "defocus", "noise", "shift", "rotation"]
)
def test_each_amount_varies_the_images_alone_and_more_with_the_severity(amount: str) -> None:
    none = dict.fromkeys(["brightness", "contrast", "light_gradient", "defocus", "noise", "shift", "rotation"], 0.0)
    usual = getattr(Nuisance(), amount)
    coarse = torch.rand(24, 3, 9, 9, generator=seeded()) * 0.5 + 0.25
    images = torch.nn.functional.interpolate(coarse, (64, 64))
    changes = []
    for severity in (0.1, 0.5, 1.0):
        target, image, mask = Nuisance(severity, **(none | {amount: usual})).corrupt(images, seeded())
        assert torch.equal(target, image)
        assert not mask.any()
        changes.append(float((image - images).abs().mean()))
    assert 0 < changes[0] < changes[1] < changes[2]
    assert torch.allclose(Nuisance(**none)(images, seeded())[0], images, atol=1e-6)


def test_the_light_of_a_later_shift_is_within_reach() -> None:
    """14 grey levels darker, as the good test images of MVTec's screw are."""
    images = torch.full((200, 3, 32, 32), 0.6)
    means = Nuisance()(images, seeded())[0].mean((1, 2, 3))
    assert means.min() < 0.6 - 14 / 255
    assert means.max() > 0.6 + 14 / 255


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(32, 33), (200, 150)])
def test_good_images_stay_images(dtype: torch.dtype, size: tuple[int, int]) -> None:
    grey = torch.rand(3, 1, *size).expand(-1, 3, -1, -1).to(dtype)
    before = grey.clone()
    image, _ = Nuisance(severity=1.0)(grey, seeded())
    assert torch.equal(grey, before)
    assert image.dtype == dtype
    assert 0 <= image.min() <= image.max() <= 1
    assert torch.equal(image, image[:, :1].expand_as(image))


# DefectBank


def save_pair(folder: Path, image: np.ndarray, label: np.ndarray, mask_folder: Path | None = None) -> None:
    for path in (folder, mask_folder or folder):
        path.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / "000.png")
    Image.fromarray(label.astype(np.uint8) * 255).save((mask_folder or folder) / "000_mask.png")


@pytest.fixture
def green_disc(tmp_path: Path) -> Path:
    """MVTec layout: a green disc of 12 pixels on red, and a kind with one blue bar."""
    rows, columns = np.mgrid[:60, :60]
    for kind, colour, label in (
        ("disc", [0, 255, 0], np.hypot(rows - 5, columns - 40) < 6),
        ("bar", [0, 0, 255], (abs(rows - 30) < 2) & (abs(columns - 30) < 15)),
    ):
        image = np.where(label[..., None], colour, [255, 0, 0]).astype(np.uint8)
        save_pair(tmp_path / "bank" / "test" / kind, image, label, tmp_path / "bank" / "ground_truth" / kind)
    return tmp_path / "bank"


def test_defects_of_the_bank_are_pasted_elsewhere_without_their_surroundings(green_disc: Path) -> None:
    images = torch.tensor([0.5, 0.5, 0.51])[:, None, None].expand(40, 3, 64, 64)  # grey ones get grey defects
    bank = DefectBank(green_disc, blend="none", severity=1.0)
    assert bank.load() == 2
    image, mask = bank(images, seeded())
    on_defect = image.permute(0, 2, 3, 1)[mask[:, 0] == 1]
    assert (on_defect[:, 0] < 0.52).all()  # no red but at interpolated rims
    assert (on_defect[:, 1] > 0.8).any()
    assert (on_defect[:, 2] > 0.8).any()
    assert len({tuple(one.flatten().tolist()) for one in mask}) > 30
    _, small = DefectBank(green_disc, scale=0.5)(images, seeded())
    _, usual = DefectBank(green_disc)(images, seeded())
    assert small.mean() < 0.4 * usual.mean()


def test_the_bank_is_read_once_and_left_out_of_pickles(green_disc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = DefectBank(green_disc)
    images = torch.rand(2, 3, 32, 32)
    expected = bank(images, seeded())
    copied = pickle.loads(pickle.dumps(bank))
    assert all(torch.equal(*pair) for pair in zip(copied(images, seeded()), expected, strict=True))
    assert DefectBank(green_disc, max_defects=1).load() == 1
    shutil.rmtree(green_disc)
    bank(images)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        DefectBank(green_disc).check()


def test_unusable_banks_are_named(tmp_path: Path) -> None:
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no image with a mask beside it"):
        DefectBank(tmp_path / "empty").check()
    pixels = np.zeros((20, 20, 3), np.uint8)
    save_pair(tmp_path / "black", pixels, np.zeros((20, 20), bool))
    save_pair(tmp_path / "size", pixels, np.ones((20, 30), bool))
    save_pair(tmp_path / "broken", pixels, np.ones((20, 20), bool))
    (tmp_path / "broken" / "000.png").write_bytes(b"no image")
    for name, message in (("black", "must not be black"), ("size", "must have the size"), ("broken", "cannot be read")):
        with pytest.raises(ValueError, match=message):
            DefectBank(tmp_path / name).load()
    for arguments in ({"scale": 0}, {"blend": "soft"}, {"max_defects": 0}):
        with pytest.raises(ValueError, match="DefectBank"):
            DefectBank("folder", **arguments)


# Textures of the batch itself


def test_textures_from_the_batch_are_other_places_of_its_images() -> None:
    images = torch.randint(0, 256, (4, 3, 40, 48), generator=seeded()) / 255
    source = TextureSource("self")
    assert source.config()["folder"] == "self"
    textures = source.sample(12, (40, 48), generator=seeded(), images=images)
    assert textures.shape == (12, 3, 40, 48)
    pixels = {tuple(pixel) for pixel in (images * 255).round().byte().permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    assert {tuple(pixel) for pixel in textures.permute(0, 2, 3, 1).reshape(-1, 3).tolist()} <= pixels
    assert not any((texture == (image * 255).round()).float().mean() > 0.1 for texture in textures for image in images)
    source.check()
    for wrong in (lambda: source.sample(1, (8, 8)), lambda: source.load((8, 8))):
        with pytest.raises(ValueError, match="self"):
            wrong()


# Blending and visibility


def test_poisson_blending_takes_the_place_s_brightness_and_keeps_the_details() -> None:
    images = torch.linspace(0.2, 0.6, 64).expand(1, 3, 64, 64)
    checks = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 0.1 + 0.85).expand(1, 3, 64, 64)
    masks = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    masks[..., 20:44, 20:44] = True
    blended, _ = blend(images, checks, masks, "poisson", torch.ones(1, 1, 1, 1))
    inside = blended[..., 22:42, 22:42]
    assert float((inside.mean((0, 1, 2)) - images[0, 0, 0, 22:42]).abs().max()) < 0.08
    assert float((inside[..., 1:] - inside[..., :-1]).abs().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(blended[~masks.expand_as(blended)], images[~masks.expand_as(images)])


def test_feathered_edges_fade_inwards() -> None:
    masks = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    masks[..., 8:32, 8:32] = True
    blended, cover = blend(
        torch.zeros(1, 3, 40, 40), torch.ones(1, 3, 40, 40), masks, "feather", torch.ones(1, 1, 1, 1)
    )
    assert blended[0, 0, 20, 20] == 1
    assert 0.2 < blended[0, 0, 20, 8] < 0.5
    assert torch.equal(cover > 0, masks)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("change", [0.0, 0.005, 0.02, -1.0])
def test_an_invisible_change_is_strengthened(value: float, change: float) -> None:
    images = torch.full((2, 3, 20, 20), value)
    cover = torch.zeros(2, 1, 20, 20)
    cover[0, :, 5:9, 5:9] = 0.3
    result, labels = ensure_visible(images, images, images + change * cover, cover, 0.1)
    assert torch.equal(labels, (cover > 0).float())
    assert (result - images).abs()[0].mul(labels[0]).sum() >= MIN_CHANGE * 3 * 16
    assert torch.equal(result[1], images[1])


@pytest.mark.parametrize("kind", [DeletePaste, Cutout])
def test_papers_own_damage_is_left_alone_without_a_severity(kind: Any) -> None:
    black = torch.zeros(2, 3, 32, 32)
    assert torch.equal(kind()(black)[0], black)
    assert not torch.equal(kind(severity=0.5)(black)[0], black)


# In our models


@pytest.mark.parametrize("augmenter", [Mix(roi="foreground", nuisance=Nuisance()), Scratch(roi=torch.ones(64, 64))])
def test_a_model_s_checkpoint_holds_its_defects(augmenter: Augmenter) -> None:
    model = RamFAE(augmenter=augmenter)
    torch.save(dict(model.hparams), "arguments.pt")
    saved = torch.load("arguments.pt", weights_only=True)["augmenter"]
    rebuilt = RamFAE(augmenter=saved).augmenter
    images = torch.rand(4, 3, 64, 64)
    expected, result = (one.corrupt(images, seeded()) for one in (augmenter, rebuilt))
    assert all(torch.equal(*pair) for pair in zip(expected, result, strict=True))
