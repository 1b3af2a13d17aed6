"""Superpixel filling colours whole superpixels, nothing else, and makes each label map once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from torch.nn.functional import interpolate

from anomalib_plus.transforms.superpixel_filling import SuperpixelFilling, draw_fillings, fill_superpixels
from anomalib_plus.transforms.superpixel_labels import superpixel_labels


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=seeded(seed))


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1) / 255
    return interpolate(image[None], (352, 352), mode="bilinear", antialias=True)[0]


@pytest.fixture(scope="module")
def filling() -> SuperpixelFilling:
    return SuperpixelFilling()


# The method (TSDN, section 3)


def test_exactly_50_superpixels_are_filled_whole_with_one_colour_each(
    photo: torch.Tensor, filling: SuperpixelFilling
) -> None:
    corrupted, mask = filling(photo, seeded())
    labels = superpixel_labels(photo.permute(1, 2, 0).contiguous().numpy(), 400, 100)
    inside = mask[0].numpy() == 1
    colours = corrupted.permute(1, 2, 0).numpy()
    filled = np.unique(labels[inside])
    assert len(filled) == 50
    assert np.array_equal(np.isin(labels, filled), inside)
    fill_colours = [np.unique(colours[labels == label], axis=0) for label in filled]
    assert all(len(colour) == 1 for colour in fill_colours)
    assert len(np.unique(np.concatenate(fill_colours), axis=0)) == 50
    assert np.array_equal(colours[~inside], photo.permute(1, 2, 0).numpy()[~inside])


def test_an_eighth_of_a_photo_is_covered(photo: torch.Tensor, filling: SuperpixelFilling) -> None:
    _, masks = filling(photo.expand(64, -1, -1, -1), seeded(), keys=["photo"] * 64)
    assert masks.mean().item() == pytest.approx(0.125, abs=0.01)


def test_labels_are_chosen_uniformly_and_colours_are_uniform() -> None:
    colours, filled = draw_fillings([400] * 4000, n_filled=50, generator=seeded())
    assert torch.all(filled.sum(dim=2) == 50)
    frequency = filled[:, 0].float().mean(dim=0)  # per label: mean 1/8, standard deviation 0.0052 for 4000 draws
    assert frequency.mean().item() == pytest.approx(0.125)
    assert frequency.std().item() == pytest.approx((0.125 * 0.875 / 4000) ** 0.5, rel=0.15)
    for channel in range(3):
        drawn = colours[:, channel][filled[:, 0]]
        histogram = torch.histc(drawn, bins=10, min=0, max=1) / drawn.numel()
        assert torch.allclose(histogram, torch.tensor(0.1), atol=0.004)
    red, green, _ = colours.transpose(0, 1)[:, filled[:, 0]]
    assert abs(torch.corrcoef(torch.stack([red, green]))[0, 1]) < 0.01


def test_fill_superpixels_agrees_with_a_loop() -> None:
    images = noise(2, 3, 5, 4)
    labels = torch.randint(0, 6, (2, 5, 4), generator=seeded(1), dtype=torch.int16)
    colours, filled = draw_fillings([6, 6], n_filled=2, generator=seeded(2))
    opacity = noise(2, 1, 6)
    corrupted, masks = fill_superpixels(images, labels, colours, filled, opacity)
    for b in range(2):
        for y in range(5):
            for x in range(4):
                label = int(labels[b, y, x])
                is_filled = bool(filled[b, 0, label])
                assert masks[b, 0, y, x] == is_filled
                share = float(opacity[b, 0, label]) * is_filled
                expected = share * colours[b, :, label] + (1 - share) * images[b, :, y, x]
                torch.testing.assert_close(corrupted[b, :, y, x], expected)


def test_white_noise_is_covered_like_a_photo(filling: SuperpixelFilling) -> None:
    _, mask = filling(noise(3, 256, 256), seeded())
    assert mask.mean().item() == pytest.approx(0.125, abs=0.02)


def test_fewer_superpixels_than_asked_to_fill_are_all_filled() -> None:
    corrupted, mask = SuperpixelFilling(n_segments=400)(noise(3, 5, 6), seeded())
    assert torch.equal(mask, torch.ones(1, 5, 6))
    assert corrupted.flatten(1).unique(dim=1).shape[1] == 30


@pytest.mark.parametrize("n_filled", [1, 10, 300, 400])
def test_any_number_of_superpixels_can_be_filled(n_filled: int, photo: torch.Tensor) -> None:
    filling = SuperpixelFilling(n_segments=400, n_filled=n_filled)
    image = interpolate(photo[None], (128, 128))[0]
    _, mask = filling(image, seeded())
    (labels, n_labels), *_ = filling.cache._maps.values()
    assert len(labels[mask[0] == 1].unique()) == min(n_filled, n_labels)


def test_probability_is_the_share_of_images_touched() -> None:
    image = noise(3, 32, 32)
    images, keys = image.expand(400, -1, -1, -1), ["image"] * 400
    corrupted, masks = SuperpixelFilling(probability=0.3)(images, seeded(), keys)
    touched = masks.amax(dim=(1, 2, 3)) == 1
    assert 0.2 < touched.float().mean() < 0.4
    assert torch.equal(corrupted[~touched], images[~touched])
    untouched, empty = SuperpixelFilling(probability=0.0)(images[:2], seeded(), keys[:2])
    assert torch.equal(untouched, images[:2])
    assert not empty.any()


# What every transform promises


def test_same_generator_state_same_result_and_other_seed_other_result(filling: SuperpixelFilling) -> None:
    images = noise(2, 3, 48, 40)
    first, second, other = filling(images, seeded(1)), filling(images, seeded(1)), filling(images, seeded(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    torch.manual_seed(5)
    default = filling(images)
    torch.manual_seed(5)
    assert torch.equal(filling(images)[0], default[0])


def test_a_batch_is_its_images_one_after_the_other(filling: SuperpixelFilling) -> None:
    images = noise(3, 3, 40, 56)
    corrupted, masks = filling(images, seeded())
    generator = seeded()
    singles = [filling(image, generator) for image in images]
    assert torch.equal(corrupted, torch.stack([single for single, _ in singles]))
    assert torch.equal(masks, torch.stack([mask for _, mask in singles]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_have_the_same_superpixels(dtype: torch.dtype, filling: SuperpixelFilling) -> None:
    images = noise(2, 3, 64, 64).to(torch.bfloat16)  # exact in all of them
    reference, reference_masks = filling(images.float(), seeded())
    corrupted, masks = filling(images.to(dtype), seeded())
    assert corrupted.dtype == masks.dtype == dtype
    assert torch.equal(masks, reference_masks.to(dtype))
    assert torch.equal(corrupted, reference.to(dtype))


def test_input_that_is_not_contiguous_or_needs_gradients_is_read_and_left_alone(filling: SuperpixelFilling) -> None:
    images = noise(2, 64, 64, 3).permute(0, 3, 1, 2).requires_grad_()
    before = images.detach().clone()
    corrupted, masks = filling(images, seeded())
    plain, _ = filling(before.contiguous(), seeded())
    assert torch.equal(corrupted, plain)
    assert torch.equal(images, before)
    corrupted.sum().backward()
    assert torch.equal(images.grad, (1 - masks).expand_as(images))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("keys", [None, ["a", "b"]])
def test_a_gpu_gives_the_result_of_the_cpu(keys: list[str] | None, filling: SuperpixelFilling) -> None:
    images = noise(2, 3, 64, 64)
    for on_gpu, on_cpu in zip(filling(images.cuda(), seeded(), keys), filling(images, seeded(), keys), strict=True):
        assert on_gpu.is_cuda
        assert torch.equal(on_gpu.cpu(), on_cpu)


_SHARED = SuperpixelFilling(max_cache_bytes=2**28)


def _check_promises(height: int, width: int, count: int, dtype: torch.dtype, kind: str, seed: int) -> None:
    if kind == "flat":
        images = torch.full((count, 3, height, width), 0.5)
    elif kind == "noise":
        images = noise(count, 3, height, width)
    else:  # white stripes on black: the ends of the range
        images = torch.zeros(count, 3, height, width)
        images[..., ::7, :] = 1
    images = images.to(dtype)
    before = images.clone()
    keys = [f"{kind} {index}" for index in range(count)]
    corrupted, masks = _SHARED(images, seeded(seed), keys)
    assert torch.equal(images, before)
    assert corrupted.shape == images.shape
    assert masks.shape == (count, 1, height, width)
    assert corrupted.dtype == masks.dtype == dtype
    assert torch.all((masks == 0) | (masks == 1))
    assert torch.all(masks.amax(dim=(1, 2, 3)) == 1)
    assert torch.all(masks.amin(dim=(1, 2, 3)) == 0)
    outside = masks.expand_as(images) == 0
    assert torch.equal(corrupted[outside], images[outside])
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    again, same_masks = _SHARED(images, seeded(seed), keys)
    assert torch.equal(again, corrupted)
    assert torch.equal(same_masks, masks)


_CASES = {
    "count": st.integers(1, 3),
    "dtype": st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    "kind": st.sampled_from(["flat", "noise", "stripes"]),
    "seed": st.integers(0, 2**32),
}
_SMALL, _ANY = st.integers(32, 96), st.integers(32, 512)


@settings(deadline=None, max_examples=25)
@given(height=_SMALL, width=_SMALL, **_CASES)
def test_promises_hold(**case: object) -> None:
    _check_promises(**case)


@pytest.mark.slow
@settings(deadline=None, max_examples=5000)
@given(height=_SMALL, width=_SMALL, **_CASES)
def test_promises_hold_in_thousands_of_cases(**case: object) -> None:
    _check_promises(**case)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(height=_ANY, width=_ANY, **_CASES)
def test_promises_hold_at_any_size(**case: object) -> None:
    _check_promises(**case)


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_filled": 0}, "n_filled must lie between 1 and n_segments=400, got 0"),
        ({"n_filled": 401}, "n_filled must lie between 1 and n_segments=400, got 401"),
        ({"n_segments": 8, "n_filled": 9}, "n_filled must lie between 1 and n_segments=8, got 9"),
        ({"opacity": 1.5}, r"opacity must be a number in \[0, 1\] or a range .*, got 1.5"),
        ({"opacity": (0.5, 0.2)}, r"opacity must be .*, got \(0.5, 0.2\)"),
        ({"probability": 1.1}, "probability must lie in"),
        ({"max_cache_bytes": -1}, "max_cache_bytes must not be negative"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperpixelFilling(**arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 1, 32, 32), "need RGB images.*got 1 channels"),
        (torch.rand(32, 32), "shape"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "floating point"),
        (torch.randn(3, 32, 32) * 2, r"in \[0, 1\], got values from"),
    ],
)
def test_images_that_are_not_rgb_in_the_unit_range_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperpixelFilling()(images)


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"], "ab", []])
def test_keys_must_be_one_per_image(keys: list[str] | str) -> None:
    with pytest.raises(ValueError, match="keys must be a list of 2 strings"):
        SuperpixelFilling()(noise(2, 3, 32, 32), keys=keys)
    with pytest.raises(ValueError, match="1 key for 2 images"):
        SuperpixelFilling().warm(noise(2, 3, 32, 32), keys=["a"])
