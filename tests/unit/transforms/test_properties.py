"""What must hold of every transform for any image, size and setting: few generated cases, thousands with -m slow."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import anomalib_plus.transforms as transforms
from anomalib_plus.transforms import (
    Augmenter,
    Contamination,
    Crack,
    Cutout,
    CutPaste,
    DefectBank,
    DeletePaste,
    Dent,
    Fibre,
    Hole,
    Mix,
    Nuisance,
    PerlinAnomaly,
    Scratch,
    Stain,
    SuperpixelFilling,
    TextureSource,
    Warp,
)
from anomalib_plus.transforms.foreground import otsu_foreground
from anomalib_plus.transforms.visibility import MIN_CHANGE

PLACED = (Scratch, Crack, Stain, Hole, Dent, Warp, Fibre, Contamination)
NOT_MASKED = {"Augmenter", "ImageOnly", "SyntheticBatch", "TextureSource", "build_augmenter"}

TRANSFORMS: dict[str, Callable[..., Augmenter]] = {
    **{kind.__name__: kind for kind in PLACED},
    "Mix": partial(Mix, defects_per_image=(1, 3), nuisance=Nuisance()),
    "DeletePaste": DeletePaste,
    "CutPaste": CutPaste,
    "Cutout": Cutout,
    "SuperpixelFilling": partial(SuperpixelFilling, n_segments=30, n_filled=6),
}
"""Further ones, which need files, are added by the fixture below."""
NAMES = [*TRANSFORMS, "DefectBank", "PerlinAnomaly", "rotated", "feathered", "from itself", "with Poisson"]
PERLIN = {"PerlinAnomaly", "rotated", "feathered", "from itself", "with Poisson"}
STAYS_GREY = {
    *(kind.__name__ for kind in PLACED),
    "Mix",
    "DefectBank",
    "DeletePaste",
    "CutPaste",
    "Cutout",
    "from itself",
}


@pytest.fixture(autouse=True, scope="module")
def _files_and_one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Textures of noise, a bank of two real defects; small images gain nothing from a second thread."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for index in range(4):
        (folder / "textures").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8)).save(folder / "textures" / f"{index}.png")
    save_defect(folder / "bank", "disc", np.hypot(*np.mgrid[-20:20, -20:20]) < 9)
    save_defect(folder / "bank", "line", np.abs(np.mgrid[:40, :40][0] - np.mgrid[:40, :40][1]) < 1)
    source = TextureSource(folder / "textures")
    source.load((96, 96))
    never_rotated: dict[str, Any] = {"probability": 1.0, "rotate_image_probability": 0.0, "max_tries": 60}
    perlin = partial(PerlinAnomaly, source, **never_rotated)
    TRANSFORMS.update(
        {
            "DefectBank": partial(DefectBank, folder / "bank"),
            "PerlinAnomaly": perlin,
            "rotated": partial(perlin, rotate_image_probability=0.5, operations="anomalib"),
            "feathered": partial(perlin, blend="feather"),
            "from itself": partial(PerlinAnomaly, "self", **never_rotated),
            "with Poisson": partial(perlin, blend="poisson"),
        }
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def save_defect(folder: Any, name: str, label: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    pixels = np.where(label[..., None], [200, 60, 30], [120, 120, 120]).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    Image.fromarray(label.astype(np.uint8) * 255).save(folder / f"{name}_mask.png")


def draw_images(kind: str, count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    if kind in {"black", "white", "plain"}:
        return torch.full((count, 3, *size), {"black": 0.0, "white": 1.0, "plain": 0.4}[kind])
    if kind == "noise":
        return torch.rand(count, 3, *size, generator=generator)
    coarse = torch.rand(count, 1 if kind == "grey" else 3, 5, 5, generator=generator)
    return F.interpolate(coarse, size, mode="bilinear").expand(-1, 3, -1, -1).contiguous()


def draw_region(kind: str, count: int, size: tuple[int, int], generator: torch.Generator) -> Any:
    if kind in {"everywhere", "foreground"}:
        return None if kind == "everywhere" else kind
    masks = torch.zeros(count, *size)
    corners = torch.rand(count, 2, generator=generator)
    for mask, corner in zip(masks, corners.tolist(), strict=True):
        top, left = (int(share * side * 0.8) for share, side in zip(corner, size, strict=True))
        mask[top : top + max(1, size[0] // 5), left : left + max(1, size[1] // 5)] = 1
    return masks if kind == "masks" else masks[0]


sides = st.integers(32, 80) | st.integers(32, 80) | st.integers(32, 80) | st.integers(32, 512)  # mostly small, for time
cases = given(
    seed=st.integers(0, 2**63 - 1),
    count=st.integers(1, 3),
    size=st.tuples(sides, sides),
    picture=st.sampled_from(["colour", "grey", "noise", "black", "white", "plain"]),
    place=st.sampled_from(["everywhere", "everywhere", "foreground", "mask", "masks"]),
    severity=st.floats(0.02, 1.0),
    dtype=st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16]),
)


def check(
    name: str,
    seed: int,
    count: int,
    size: tuple[int, int],
    picture: str,
    place: str,
    severity: float,
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = draw_images(picture, count, size, generator).to(dtype)
    roi = draw_region(place, count, size, generator)
    if name == "Mix" and place == "masks":  # its transforms see parts of the batch
        roi = roi[0]
    transform = TRANSFORMS[name](severity=severity, roi=roi)
    before, state = images.clone(), generator.get_state()
    target, image, mask = transform.corrupt(images, generator)
    again = transform.corrupt(images, torch.Generator().set_state(state))

    assert torch.equal(images, before)
    assert all(torch.equal(*pair) for pair in zip((target, image, mask), again, strict=True))
    assert target.shape == image.shape == images.shape
    assert mask.shape == (count, 1, *size)
    assert target.dtype == image.dtype == mask.dtype == dtype
    assert image.isfinite().all()
    assert 0 <= image.min() <= image.max() <= 1
    assert ((mask == 0) | (mask == 1)).all()
    assert torch.equal(image[(mask == 0).expand_as(image)], target[(mask == 0).expand_as(image)])
    if name not in {"Mix", "rotated"}:
        assert torch.equal(target, images)
        allowed = {"everywhere": mask == mask, "foreground": otsu_foreground(images)}.get(place)
        allowed = roi.reshape(-1, 1, *size) > 0 if allowed is None else allowed
        assert not (mask.bool() & ~allowed).any()
    if name not in PERLIN:  # whose noise can miss a small region
        assert mask.flatten(1).any(1).all()
    change = ((image.float() - target.float()).abs().mean(1, keepdim=True) * mask.float()).sum((1, 2, 3))
    assert (change >= MIN_CHANGE * 0.98 * mask.float().sum((1, 2, 3))).all()
    if name in STAYS_GREY and picture not in {"colour", "noise"}:
        assert torch.equal(image, image[:, :1].expand_as(image))
    if torch.cuda.is_available():
        on_device = transform.corrupt(images.cuda(), torch.Generator().set_state(state))
        assert (on_device.mask.cpu() != mask).float().mean() < 1e-3
        assert (on_device.image.cpu().float() - image.float()).abs().mean() < 2e-3


def with_examples(number: int) -> Callable[..., None]:
    relaxed = settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))
    return pytest.mark.parametrize("name", NAMES)(relaxed(cases(check)))


test_few_cases = with_examples(8)
test_thousands_of_cases = pytest.mark.slow(with_examples(5000))


def test_every_public_transform_is_among_them() -> None:
    covered = {getattr(make, "func", make).__name__ for make in TRANSFORMS.values()}
    assert covered | {"Nuisance"} == set(transforms.__all__) - NOT_MASKED


@pytest.mark.parametrize("kind", PLACED)
def test_an_image_does_not_depend_on_its_companions(kind: type[Augmenter]) -> None:
    images = draw_images("colour", 4, (64, 80), torch.Generator().manual_seed(0))
    together, masks = kind()(images, torch.Generator().manual_seed(1))
    alone, mask = kind()(images[:1], torch.Generator().manual_seed(1))
    assert torch.equal(masks[:1], mask)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", PLACED)
def test_severity_makes_defects_larger_and_stronger(kind: type[Augmenter]) -> None:
    images = draw_images("colour", 24, (128, 128), torch.Generator().manual_seed(0)) * 0.5 + 0.25
    areas, changes = [], []
    for severity in (0.15, 0.5, 1.0):
        image, mask = kind(severity=severity)(images, torch.Generator().manual_seed(1))
        areas.append(float(mask.mean()))
        changes.append(float((image - images).abs().sum()))
    assert areas[0] < areas[1] < areas[2]
    assert 2 * changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("kind", [*PLACED, Nuisance, Mix])
def test_probability_is_the_share_of_changed_images(kind: type[Augmenter]) -> None:
    images = draw_images("colour", 300, (32, 32), torch.Generator().manual_seed(0))
    image, _ = kind(probability=0.3)(images, torch.Generator().manual_seed(1))
    assert (image != images).flatten(1).any(1).float().mean() == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_stays_one_image_and_config_builds_the_same(name: str) -> None:
    transform = TRANSFORMS[name](severity=0.7)
    images = draw_images("colour", 1, (48, 48), torch.Generator().manual_seed(0))
    expected = transform(images[0], torch.Generator().manual_seed(2))
    assert expected[0].shape == (3, 48, 48)
    assert expected[1].shape == (1, 48, 48)
    rebuilt = transforms.build_augmenter(transform.config())
    assert all(
        torch.equal(*pair) for pair in zip(rebuilt(images[0], torch.Generator().manual_seed(2)), expected, strict=True)
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "with Poisson"])
def test_a_severity_out_of_range_is_refused(name: str) -> None:
    for severity in (0.0, 1.1):
        with pytest.raises(ValueError, match="severity must lie in"):
            TRANSFORMS[name](severity=severity)
