"""PerlinAnomaly: the closed forms of FEAR's blend, foreground and rotation, and the promises of the interface."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from anomalib_plus import RbAE
from anomalib_plus.transforms.blending import Blend
from anomalib_plus.transforms.foreground import otsu_foreground
from anomalib_plus.transforms.perlin_anomaly import PerlinAnomaly
from anomalib_plus.transforms.texture_source import TextureSource
from anomalib_plus.transforms.visibility import Grey, is_grey

SIZE = 64


@pytest.fixture(scope="module")
def grey_texture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one texture of value 0.3 in 8 bits (77 / 255)."""
    folder = tmp_path_factory.mktemp("grey")
    Image.new("RGB", (SIZE, SIZE), (77, 77, 77)).save(folder / "grey.png")
    return folder


@pytest.fixture(scope="module")
def noise_textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of four textures of colour noise."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disc_images(count: int, inside: float, outside: float, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Images of one disc in the middle, (B, 3, H, W), and its mask (1, H, W)."""
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    mask = (y**2 + x**2 <= (size / 4) ** 2).unsqueeze(0)
    return torch.where(mask, inside, outside).expand(count, 3, -1, -1).clone(), mask


def plain(textures: Path, **arguments: Any) -> PerlinAnomaly:
    """Every image corrupted with unchanged textures and nothing rotated, unless ``arguments`` say otherwise."""
    defaults: dict[str, Any] = {
        "probability": 1.0,
        "roi": None,
        "rotate_image_probability": 0.0,
        "num_augmentations": 0,
    }
    return PerlinAnomaly(textures, **(defaults | arguments))


# The blend (FEAR section 3, equations 1 and 2)


def test_blend_in_numbers(grey_texture: Path) -> None:
    """I = 0.8, D = 77/255, opacity = 0.25: 0.8 outside the mask, 0.675 (and the rounding of D to 8 bits) on it."""
    images, disc = disc_images(16, 0.8, 0.1)
    image, mask = plain(grey_texture, opacity=0.25, roi="foreground", foreground_polarity="bright")(images, seeded())
    on_mask = mask.expand_as(image) == 1
    torch.testing.assert_close(image[on_mask], torch.full_like(image[on_mask], 0.75 * 0.8 + 0.25 * 77 / 255))
    assert torch.equal(image[~on_mask], images[~on_mask])
    assert (mask.bool() & ~disc).sum() == 0
    assert mask.flatten(1).sum(1).gt(0).sum() >= 14


@pytest.mark.parametrize("blend", ["none", "feather"])
def test_grey_images_can_get_grey_textures(blend: Blend) -> None:
    generator = torch.Generator().manual_seed(3)
    colour = torch.rand(8, 3, SIZE, SIZE, generator=generator)
    images = torch.cat([colour[:4], colour[4:].mean(1, keepdim=True).expand(-1, 3, -1, -1)])
    textures = TextureSource()
    with pytest.warns(UserWarning, match="No texture folder"):
        textures.load((SIZE, SIZE))

    def corrupt(grey: Grey) -> torch.Tensor:
        return PerlinAnomaly(textures, probability=1.0, roi=None, blend=blend, grey=grey)(images, seeded())[0]

    coloured, chosen, all_grey = corrupt(False), corrupt("auto"), corrupt(True)
    assert not is_grey(coloured)[4:].any()
    assert is_grey(chosen).flatten().tolist() == [False] * 4 + [True] * 4
    assert torch.equal(chosen[:4], coloured[:4])
    assert torch.equal(chosen[4:], all_grey[4:])
    assert not torch.equal(all_grey[:4], coloured[:4])
    with pytest.raises(ValueError, match="grey must be true, false"):
        PerlinAnomaly(grey="no")  # type: ignore[arg-type]


def test_literal_equation_2_blackens_the_unlabelled_part_of_the_blob(grey_texture: Path) -> None:
    images, disc = disc_images(16, 0.8, 0.8 - 0.5)
    arguments: dict[str, Any] = {"opacity": 0.25, "roi": "foreground", "foreground_polarity": "bright"}
    _, mask = plain(grey_texture, **arguments)(images, seeded())
    literal, literal_mask = plain(grey_texture, blend_inverse="perlin", **arguments)(images, seeded())
    assert torch.equal(literal_mask, mask)
    black = (literal == 0).all(1, keepdim=True)
    assert black.any()
    assert not (black & (mask == 1)).any()  # labelled normal
    assert not (black & disc).any()  # on the background
    untouched = ~black & (mask == 0)
    assert torch.equal(literal.mul(untouched), images.mul(untouched))
    on_mask = literal[(mask == 1).expand_as(literal)]
    torch.testing.assert_close(on_mask, torch.full_like(on_mask, 0.75 * 0.8 + 0.25 * 77 / 255))
    assert black.flatten(1).any(1).logical_and(mask.flatten(1).sum(1) == 0).sum() == 0  # no blob, no black


def test_both_readings_of_equation_2_agree_without_foreground(noise_textures: Path) -> None:
    images = torch.rand(8, 3, SIZE, SIZE)
    masked = plain(noise_textures, num_augmentations=3)(images, seeded())
    literal = plain(noise_textures, num_augmentations=3, blend_inverse="perlin")(images, seeded())
    assert torch.equal(masked[0], literal[0])
    assert torch.equal(masked[1], literal[1])


def test_full_opacity_is_the_texture_to_the_bit(grey_texture: Path) -> None:
    images = torch.rand(8, 3, SIZE, SIZE)
    image, mask = plain(grey_texture, opacity=1.0)(images, seeded())
    assert torch.equal(image, torch.where(mask == 1, torch.tensor(77 / 255), images))


def test_opacity_is_one_draw_per_image_over_its_range(grey_texture: Path) -> None:
    images = torch.ones(400, 3, 32, 32)
    image, mask = plain(grey_texture, max_tries=30)(images, seeded())
    opacity = (1 - image[:, 0]) / (1 - 77 / 255)
    per_image = [own[own_mask == 1] for own, own_mask in zip(opacity, mask[:, 0], strict=True)]
    assert max(float(values.max() - values.min()) for values in per_image) < 1e-6
    means = torch.stack([values.mean() for values in per_image])
    assert 0.1 <= means.min() < 0.13
    assert 0.97 < means.max() <= 1
    assert means.mean() == pytest.approx(0.55, abs=0.05)


# Masks, foreground and rotation


def test_masks_lie_on_the_foreground_of_either_polarity(noise_textures: Path) -> None:
    for inside, outside in ((0.9, 0.2), (0.2, 0.9)):
        images, disc = disc_images(12, inside, outside)
        _, mask = plain(noise_textures, roi="foreground")(images, seeded())
        assert mask.sum() > 0
        assert (mask.bool() & ~disc).sum() == 0


def test_wrong_polarity_puts_the_masks_on_the_background(noise_textures: Path) -> None:
    images, disc = disc_images(12, 0.9, 0.2)
    _, mask = plain(noise_textures, roi="foreground", foreground_polarity="dark")(images, seeded())
    assert (mask.bool() & disc).sum() == 0


def test_no_anomaly_in_the_black_corners_of_a_rotated_image(noise_textures: Path) -> None:
    """A dark object on a bright background: the corners that rotation leaves black are darker still."""
    images, _ = disc_images(24, 0.3, 0.9)
    transform = plain(noise_textures, roi="foreground", rotate_image_probability=1.0, rotation_degrees=(20, 70))
    synthetic = transform.corrupt(images, seeded())
    corners = (synthetic.target == 0).all(1, keepdim=True)
    assert corners.flatten(1).float().mean(1).min() > 0.02
    assert (synthetic.mask.bool() & corners).sum() == 0
    naive = otsu_foreground(synthetic.target, "dark")
    assert (naive & corners).any()  # what the order of the two steps prevents


def test_no_anomaly_in_the_black_corners_without_foreground_either(noise_textures: Path) -> None:
    images = torch.full((24, 3, SIZE, SIZE), 0.6)
    transform = plain(noise_textures, rotate_image_probability=0.5, rotation_degrees=(20, 70))
    target, image, mask = transform.corrupt(images, seeded())
    corners = (target == 0).all(1, keepdim=True)
    rotated = corners.flatten(1).any(1)
    assert 4 < rotated.sum() < 20
    assert (mask.bool() & corners).sum() == 0
    assert torch.equal(image[corners.expand_as(image)], target[corners.expand_as(target)])
    assert mask.flatten(1).any(1).all()  # all the same, each has one


def test_target_and_mask_rotate_together(noise_textures: Path) -> None:
    """A bright bar stays under the masks, wherever rotation takes it."""
    images = torch.full((24, 3, SIZE, SIZE), 0.1)
    images[..., 20:44, 10:54] = 0.9
    transform = plain(noise_textures, roi="foreground", rotate_image_probability=1.0)
    target, _, mask = transform.corrupt(images, seeded())
    on_mask = target[mask.expand_as(target) == 1]
    assert (on_mask > 0.5).float().mean() > 0.97  # bilinear edges
    assert not torch.equal(target, images)


def test_share_of_rotated_targets(noise_textures: Path) -> None:
    images = torch.rand(1000, 3, 32, 32)
    target = plain(noise_textures, probability=0, rotate_image_probability=0.3).corrupt(images, seeded()).target
    rotated = (target != images).flatten(1).any(1)
    assert rotated.float().mean() == pytest.approx(0.3, abs=0.05)
    assert target.min() >= 0
    assert target.max() <= 1


def test_forward_rotates_no_image(noise_textures: Path) -> None:
    images = torch.rand(16, 3, SIZE, SIZE)
    image, mask = plain(noise_textures, rotate_image_probability=1.0)(images, seeded())
    outside = (mask == 0).expand_as(image)
    assert torch.equal(image[outside], images[outside])


def test_corrupt_changes_its_target_on_the_mask_alone(noise_textures: Path) -> None:
    transform = PerlinAnomaly(noise_textures, probability=0.7, rotate_image_probability=0.5)
    target, image, mask = transform.corrupt(torch.rand(32, 3, SIZE, SIZE), seeded())
    outside = (mask == 0).expand_as(image)
    assert torch.equal(image[outside], target[outside])
    assert not torch.equal(image, target)


# Probability, retries, statistics


def test_probability_zero_is_the_identity(noise_textures: Path) -> None:
    images = torch.rand(8, 3, SIZE, SIZE)
    image, mask = plain(noise_textures, probability=0)(images)
    assert torch.equal(image, images)
    assert mask.sum() == 0


def test_share_of_corrupted_images(noise_textures: Path) -> None:
    _, mask = plain(noise_textures, probability=0.5, max_tries=30)(torch.rand(600, 3, 32, 32), seeded())
    assert mask.flatten(1).any(1).float().mean() == pytest.approx(0.5, abs=0.07)


def test_every_image_gets_a_mask_that_is_promised_one(noise_textures: Path) -> None:
    _, mask = plain(noise_textures)(torch.rand(200, 3, SIZE, SIZE), seeded())
    assert mask.flatten(1).any(1).all()


def test_one_try_leaves_about_a_twentieth_empty(noise_textures: Path) -> None:
    _, mask = plain(noise_textures, max_tries=1)(torch.rand(600, 3, SIZE, SIZE), seeded())
    assert 0.02 < mask.flatten(1).any(1).logical_not().float().mean() < 0.09
    assert 0.05 < mask.mean() < 0.06


@pytest.mark.parametrize("blend_inverse", ["mask", "perlin"])
def test_images_whose_foreground_is_never_met_stay_normal(blend_inverse: str, noise_textures: Path) -> None:
    """Noise never exceeds 2, so every try fails, for every image or for the chosen ones."""
    images = torch.rand(6, 3, SIZE, SIZE)
    image, mask = plain(noise_textures, threshold=2.0, blend_inverse=blend_inverse)(images)
    assert torch.equal(image, images)
    assert mask.sum() == 0


def test_rotation_of_the_noise_makes_oblique_masks(noise_textures: Path) -> None:
    """Noise of 1 x 32 cells makes vertical streaks; without rotation their rows are alike."""
    images = torch.rand(16, 3, SIZE, SIZE)

    def row_change(**arguments: Any) -> float:
        _, mask = plain(noise_textures, **arguments)(images, seeded())
        return float((mask[..., 1:, :] != mask[..., :-1, :]).float().mean() / mask.mean())

    never, always = (row_change(rotate_noise_probability=share, rotation_degrees=(40, 50)) for share in (0.0, 1.0))
    assert never != pytest.approx(always, rel=0.05)


def test_rbae_pastes_opaquely_anywhere(grey_texture: Path) -> None:
    images = torch.rand(32, 3, SIZE, SIZE)
    image, mask = RbAE.configure_augmenter(textures=grey_texture, num_augmentations=0)(images, seeded())
    assert torch.equal(image, torch.where(mask == 1, torch.tensor(77 / 255), images))
    assert mask.flatten(1).any(1).all()
    preset = RbAE.configure_augmenter(textures=grey_texture)
    assert (preset.operations, preset.num_augmentations, preset.rotate_noise_probability) == ("anomalib", 3, 1.0)


def test_rbae_s_operations_run_in_the_transform(noise_textures: Path) -> None:
    images = torch.rand(32, 3, SIZE, SIZE)
    image, mask = RbAE.configure_augmenter(textures=noise_textures)(images, seeded())
    assert torch.equal(image[(mask == 0).expand_as(image)], images[(mask == 0).expand_as(image)])
    assert image.min() >= 0
    assert image.max() <= 1


# The interface


def test_same_generator_state_same_result_and_the_default_generator_is_left_alone(noise_textures: Path) -> None:
    images = torch.rand(8, 3, SIZE, SIZE)
    transform = PerlinAnomaly(noise_textures, probability=0.8)
    transform(images)  # fills the pool
    state = torch.get_rng_state()
    first, again, other = (transform.corrupt(images, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first.image, other.image)
    torch.manual_seed(9)
    implicit = transform(images)
    torch.manual_seed(9)
    assert all(torch.equal(*pair) for pair in zip(implicit, transform(images), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_get_the_same_anomalies(dtype: torch.dtype, noise_textures: Path) -> None:
    images = torch.randint(0, 256, (8, 3, SIZE, SIZE)) / 256  # exact in each of them
    transform = PerlinAnomaly(noise_textures, probability=1.0, rotate_image_probability=0.5)
    expected = transform.corrupt(images, seeded())
    target, image, mask = transform.corrupt(images.to(dtype), seeded())
    assert target.dtype == image.dtype == mask.dtype == dtype
    assert torch.equal(mask.float(), expected.mask)
    torch.testing.assert_close(image.float(), expected.image, atol=5e-3, rtol=0)
    outside = (mask == 0).expand_as(image)
    assert torch.equal(image[outside], target[outside])


@pytest.mark.parametrize("batch", [True, False])
def test_input_is_not_modified_and_a_single_image_stays_single(batch: bool, noise_textures: Path) -> None:
    images = torch.rand(3, SIZE, SIZE) if not batch else torch.rand(1, 3, SIZE, SIZE)
    before = images.clone()
    transform = plain(noise_textures, rotate_image_probability=1.0)
    image, mask = transform(images)
    target, _, _ = transform.corrupt(images)
    assert torch.equal(images, before)
    assert image.shape == target.shape == images.shape
    assert mask.shape == (*images.shape[:-3], 1, SIZE, SIZE)
    assert image.data_ptr() != images.data_ptr()


def test_memory_layout_does_not_matter(noise_textures: Path) -> None:
    images = torch.rand(4, 3, SIZE, SIZE)
    expected = plain(noise_textures)(images, seeded())
    for other in (
        images.to(memory_format=torch.channels_last),
        images.mT.contiguous().mT,
        images.expand(4, -1, -1, -1),
    ):
        assert all(torch.equal(*pair) for pair in zip(plain(noise_textures)(other, seeded()), expected, strict=True))
    stretched = images[:1].expand(4, -1, -1, -1)  # four views of one memory
    image, mask = plain(noise_textures)(stretched, seeded())
    outside = (mask == 0).expand_as(image)
    assert torch.equal(image[outside], stretched[outside])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_deterministic_algorithms_change_nothing(layout: torch.memory_format, noise_textures: Path) -> None:
    images = torch.rand(4, 3, SIZE, SIZE).to(memory_format=layout)
    transform = PerlinAnomaly(noise_textures, probability=0.8, blend_inverse="perlin")
    expected = transform.corrupt(images, seeded())
    torch.use_deterministic_algorithms(True)
    try:
        result = transform.corrupt(images, seeded())
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(*pair) for pair in zip(result, expected, strict=True))


def test_autocast_changes_nothing(noise_textures: Path) -> None:
    images = torch.rand(4, 3, SIZE, SIZE)
    transform = PerlinAnomaly(noise_textures, probability=1.0)
    expected = transform.corrupt(images, seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = transform.corrupt(images, seeded())
    assert all(torch.equal(*pair) for pair in zip(result, expected, strict=True))


def test_no_file_is_read_after_the_first_batch(noise_textures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = plain(noise_textures)
    transform(torch.rand(1, 3, SIZE, SIZE))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("read a file in the training step"))
    transform(torch.rand(8, 3, SIZE, SIZE))


def test_copies_and_pickles_work_alike_and_the_state_dict_is_empty(noise_textures: Path) -> None:
    images = torch.rand(2, 3, SIZE, SIZE)
    transform = plain(noise_textures)
    expected = transform(images, seeded())
    assert transform.state_dict() == {}
    for other in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert all(torch.equal(*pair) for pair in zip(other(images, seeded()), expected, strict=True))


def test_textures_may_be_a_source_a_folder_or_nothing(noise_textures: Path) -> None:
    source = TextureSource(noise_textures)
    assert PerlinAnomaly(source).textures is source
    assert PerlinAnomaly(str(noise_textures)).textures.folder == noise_textures
    assert PerlinAnomaly().textures.folder is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.2}, "must lie in"),
        ({"opacity": (0.5, 1.5)}, "must lie in"),
        ({"opacity": (0.9, 0.1)}, "opacity must be a number or"),
        ({"rotate_noise_probability": -0.1}, "must lie in"),
        ({"perlin_log2_scales": (3, 2)}, "perlin_log2_scales"),
        ({"rotation_degrees": (10, -10)}, "rotation_degrees"),
        ({"foreground_polarity": "light"}, "foreground_polarity must be one of"),
        ({"blend_inverse": "none"}, "blend_inverse must be one of"),
        ({"operations": "imgaug"}, "operations must be one of"),
        ({"num_augmentations": 7}, "num_augmentations"),
        ({"max_tries": 0}, "max_tries"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerlinAnomaly(**arguments)


def test_bad_images_are_named(noise_textures: Path) -> None:
    transform = plain(noise_textures)
    with pytest.raises(ValueError, match="RGB"):
        transform(torch.rand(2, 1, SIZE, SIZE))
    with pytest.raises(ValueError, match="floating point"):
        transform(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8))
    with pytest.raises(ValueError, match="shape"):
        transform(torch.rand(SIZE, SIZE))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_same_and_the_host_waits_per_batch_not_per_image(noise_textures: Path) -> None:
    transform = PerlinAnomaly(noise_textures, probability=1.0, max_tries=1)
    images = torch.rand(32, 3, SIZE, SIZE)
    expected = transform.corrupt(images, seeded())
    on_device = images.cuda()
    waits = []
    for count in (8, 32):
        torch.cuda.set_sync_debug_mode("warn")
        with pytest.warns(UserWarning, match="synchronizing") as caught:
            result = transform.corrupt(on_device[:count], seeded())
        torch.cuda.set_sync_debug_mode("default")
        waits.append(len(caught))
    assert waits[0] == waits[1] <= 4
    assert (result.mask.cpu() != expected.mask).float().mean() < 1e-4
    assert (result.image.cpu() - expected.image).abs().mean() < 1e-3
