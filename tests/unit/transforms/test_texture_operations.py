"""Each texture operation against torchvision or Pillow on 8-bit values, and chains of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from skimage import data
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from anomalib_plus.transforms.texture_operations import (
    OPERATION_SETS,
    OperationPlan,
    apply_operations,
    draw_operations,
)

DRAEM, ANOMALIB = tuple(OPERATION_SETS["draem"]), tuple(OPERATION_SETS["anomalib"])


@pytest.fixture(scope="module")
def textures() -> Tensor:
    """Two photographs, uniform noise, and a plane of one value: (4, 3, 60, 84), uint8."""
    photographs = [np.asarray(Image.fromarray(image).resize((84, 60))) for image in (data.coffee(), data.rocket())]
    noise = np.random.default_rng(0).integers(0, 256, (60, 84, 3), np.uint8)
    flat = np.full((60, 84, 3), (10, 128, 250), np.uint8)
    return torch.from_numpy(np.stack([*photographs, noise, flat])).permute(0, 3, 1, 2).contiguous()


def run(textures: Tensor, names: tuple[str, ...], *chain: tuple[str, float, float]) -> Tensor:
    """One chain of operations for every texture."""
    order = torch.tensor([[names.index(name) for name, _, _ in chain]] * len(textures))
    numbers = torch.tensor([[step[1:] for step in chain]] * len(textures), dtype=torch.float64)
    return apply_operations(textures.clone(), OperationPlan(names, order, numbers)).images()


def difference(result: Tensor, expected: Tensor) -> Tensor:
    return (result.int() - expected.int()).abs()


EXACT: dict[str, tuple[tuple[str, ...], tuple[str, float, float], Callable[[Tensor], Tensor]]] = {
    "equalize": (DRAEM, ("equalize", 0, 0), tv.equalize),
    "solarize": (DRAEM, ("solarize", 77.3, 0.2), lambda image: tv.solarize(image, 77.3)),
    "solarize, tails": (DRAEM, ("solarize", 77.3, 0.7), lambda image: image),
    "posterize to 3": (DRAEM, ("posterize", 3.9, 0), lambda image: tv.posterize(image, 3)),
    "posterize to 8": (DRAEM, ("posterize", 8.2, 0), lambda image: image),
    "autocontrast": (DRAEM, ("autocontrast", 0, 0), tv.autocontrast),
    "brighter": (DRAEM, ("brightness", 1.17, 0), lambda image: tv.adjust_brightness(image, 1.17)),
    "darker": (DRAEM, ("brightness", 0.83, 0), lambda image: tv.adjust_brightness(image, 0.83)),
    "sharper": (DRAEM, ("sharpness", 2.437, 0), lambda image: tv.adjust_sharpness(image, 2.437)),
    "blurred": (DRAEM, ("sharpness", 0.313, 0), lambda image: tv.adjust_sharpness(image, 0.313)),
    "invert": (ANOMALIB, ("invert", 0, 0), tv.invert),
}


@pytest.mark.parametrize("case", EXACT)
def test_equals_torchvision(case: str, textures: Tensor) -> None:
    names, step, reference = EXACT[case]
    result = run(textures, names, step)
    expected = torch.stack([reference(texture) for texture in textures])
    # float32 products may end on either side of an integer before they are cut off
    assert difference(result, expected).max() <= 1
    assert (result != expected).float().mean() < 1e-3


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_contrast_is_torchvision_s_within_a_level(factor: float, textures: Tensor) -> None:
    """torchvision cuts the grey image to integers before it takes the mean."""
    expected = torch.stack([tv.adjust_contrast(texture, factor) for texture in textures])
    assert difference(run(textures, ANOMALIB, ("contrast", factor, 0)), expected).max() <= 1


@pytest.mark.parametrize("shift", [-50 / 360, 0.0, 0.1])
@pytest.mark.parametrize("saturation", [0.5, 1.5])
def test_hue_and_saturation_are_torchvision_s_within_a_level(shift: float, saturation: float, textures: Tensor) -> None:
    expected = torch.stack([tv.adjust_hue(tv.adjust_saturation(texture, saturation), shift) for texture in textures])
    result = run(textures, ANOMALIB, ("hue_saturation", shift, saturation))
    wrong = difference(result, expected)
    assert wrong.max() <= 2
    assert (wrong > 1).float().mean() < 1e-3


def test_rotation_is_torchvision_s_within_a_level(textures: Tensor) -> None:
    expected = torch.stack([tv.rotate(texture, 31.0, interpolation=InterpolationMode.BILINEAR) for texture in textures])
    wrong = difference(run(textures, ANOMALIB, ("rotation", 31.0, 0)), expected)
    assert (wrong > 1).float().mean() < 1e-3


def test_auto_augment_is_torchvision_s_and_leaves_the_global_generator_alone(textures: Tensor) -> None:
    state = torch.get_rng_state()
    result = run(textures, ANOMALIB, ("auto_augment", 1234.5, 0))
    assert torch.equal(torch.get_rng_state(), state)
    for texture, augmented in zip(textures, result, strict=True):
        torch.manual_seed(1234)
        assert torch.equal(augmented, v2.AutoAugment()(texture))


@pytest.mark.parametrize("cutoff", [0.0, 3.0, 12.5, 20.0])
def test_autocontrast_cuts_off_like_pillow(cutoff: float, textures: Tensor) -> None:
    result = run(textures, DRAEM, ("autocontrast", cutoff, 0))
    for texture, own in zip(textures, result, strict=True):
        image = Image.fromarray(texture.permute(1, 2, 0).numpy())
        expected = torch.from_numpy(np.array(ImageOps.autocontrast(image, cutoff))).permute(2, 0, 1)
        wrong = difference(own, expected)
        assert wrong.max() <= 1
        assert (wrong > 0).float().mean() < 0.05


def test_brightness_adds_after_it_multiplies(textures: Tensor) -> None:
    expected = (textures.double() * 1.1 - 20).clamp(0, 255).floor()
    result = run(textures, DRAEM, ("brightness", 1.1, -20))
    assert difference(result, expected).max() <= 1
    assert (result != expected).float().mean() < 0.01


def test_a_chain_equals_its_operations_one_by_one(textures: Tensor) -> None:
    """Tables before and after sharpness, and histograms seen through a table, change nothing."""
    chains = [
        [("brightness", 1.1, 11), ("equalize", 0, 0), ("posterize", 4.5, 0)],
        [("solarize", 90, 0.1), ("sharpness", 2.1, 0), ("autocontrast", 7, 0)],
        [("equalize", 0, 0), ("sharpness", 0.4, 0), ("brightness", 0.9, -15)],
        [("posterize", 3, 0), ("autocontrast", 11, 0), ("equalize", 0, 0), ("sharpness", 2.9, 0)],
    ]
    for chain in chains:
        one_by_one = textures
        for step in chain:
            one_by_one = run(one_by_one, DRAEM, step)
        assert torch.equal(run(textures, DRAEM, *chain), one_by_one)


@pytest.mark.parametrize("names", ["draem", "anomalib"])
def test_textures_of_a_batch_do_not_mix(names: str, textures: Tensor) -> None:
    many = textures.repeat(8, 1, 1, 1)
    plan = draw_operations(names, len(many), 3, torch.Generator().manual_seed(1))
    together = apply_operations(many.clone(), plan).images()
    for index, result in enumerate(together):
        alone = OperationPlan(plan.names, plan.order[index : index + 1], plan.numbers[index : index + 1])
        assert torch.equal(apply_operations(many[index : index + 1].clone(), alone).images()[0], result)


@pytest.mark.parametrize(("names", "left"), [("draem", {"sharpness"}), ("anomalib", {"sharpness", "hue_saturation"})])
def test_some_pixels_are_finished_like_all(names: str, left: set[str], textures: Tensor) -> None:
    """The four corners, other pixels of the rim, and pixels inside."""
    many = textures.repeat(8, 1, 1, 1)
    augmented = apply_operations(many, draw_operations(names, len(many), 3, torch.Generator().manual_seed(2)))
    assert augmented.late.keys() == left
    places = torch.tensor([0, 83, 59 * 84, 60 * 84 - 1, 17, 84, 85, 2 * 84 - 1, 30 * 84 + 40, 59 * 84 + 5])
    rows, positions = torch.arange(len(many)).repeat_interleave(len(places)), places.repeat(len(many))
    assert torch.equal(augmented.at(rows, positions), augmented.images().flatten(2)[rows, :, positions].T / 255)


def test_three_distinct_operations_in_every_order() -> None:
    plan = draw_operations("draem", 6000, 3, torch.Generator().manual_seed(0))
    assert plan.order.shape == (6000, 3)
    assert all(len(set(row)) == 3 for row in plan.order.tolist())
    chains, counts = plan.order.unique(dim=0, return_counts=True)
    assert len(chains) == 6 * 5 * 4
    assert counts.min() > 20  # 50 expected


@pytest.mark.parametrize("names", ["draem", "anomalib"])
def test_numbers_fill_their_ranges(names: str) -> None:
    plan = draw_operations(names, 4000, 3, torch.Generator().manual_seed(0))
    for name, ranges in OPERATION_SETS[names].items():
        numbers = plan.numbers[plan.chosen(name)]
        for column, (low, high) in zip(numbers.T, ranges, strict=True):
            assert low <= column.min() <= low + 0.02 * (high - low)
            assert high - 0.02 * (high - low) <= column.max() <= high


def test_fear_posterizes_to_one_to_eight_bits_and_solarizes_half() -> None:
    plan = draw_operations("draem", 4000, 6)
    bits = plan.numbers[plan.chosen("posterize")][:, 0].floor()
    assert bits.unique().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    coins = plan.numbers[plan.chosen("solarize")][:, 1]
    assert 0.45 < (coins < 0.5).double().mean() < 0.55


def test_no_operation_changes_nothing(textures: Tensor) -> None:
    assert torch.equal(apply_operations(textures, draw_operations("draem", 4, 0)).images(), textures)
