"""Synthetic anomalies on the device."""

import inspect

import pytest
import torch

from anomalib_plus import transforms
from anomalib_plus.transforms import Augmenter

from .conftest import ON_CPU


def without_arguments() -> list[str]:
    """Names of the transforms that need no argument."""
    kinds = {name: getattr(transforms, name) for name in transforms.__all__}
    found = [name for name, kind in kinds.items() if inspect.isclass(kind) and issubclass(kind, Augmenter)]
    return [
        name
        for name in found
        if kinds[name] is not Augmenter
        and all(each.default is not each.empty for each in inspect.signature(kinds[name]).parameters.values())
    ]


@pytest.mark.parametrize("name", without_arguments())
def test_anomalies_are_those_of_the_cpu(name: str, device: torch.device) -> None:
    """For the same generator: the same masks but for rounding at their edges, the same images."""
    images = torch.nn.functional.interpolate(torch.rand(8, 3, 12, 12), (256, 256), mode="bicubic").clamp(0, 1)
    transform = getattr(transforms, name)()
    on_cpu = transform.corrupt(images, torch.Generator().manual_seed(0))
    found = transform.corrupt(images.to(device), torch.Generator().manual_seed(0))
    assert found.image.device.type == found.mask.device.type == device.type
    assert not torch.equal(on_cpu.image, images)
    assert (found.mask.cpu() != on_cpu.mask).float().mean() < 1e-3
    assert (found.image.cpu() - on_cpu.image).abs().mean() < 2e-3
    if ON_CPU:
        assert torch.equal(found.image, on_cpu.image)
