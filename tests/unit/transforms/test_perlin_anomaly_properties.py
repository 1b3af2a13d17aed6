"""What must hold for every image size, batch and setting: few generated cases by default, thousands with -m slow."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from anomalib_plus.transforms.perlin_anomaly import PerlinAnomaly
from anomalib_plus.transforms.texture_source import TextureSource

TEXTURES: list[TextureSource] = []

sides = st.integers(32, 96) | st.integers(32, 96) | st.integers(32, 512)  # mostly small, for the sake of time

cases = given(
    seed=st.integers(0, 2**63 - 1),
    count=st.integers(1, 4),
    height=sides,
    width=sides,
    operations=st.sampled_from(["draem", "anomalib"]),
    foreground=st.booleans(),
    probability=st.sampled_from([0.5, 1.0]),
    opacity=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).map(tuple),
    rotate=st.sampled_from([0.0, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16]),
)


@pytest.fixture(autouse=True, scope="module")
def _textures_and_one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Four textures of noise in the pool; small images gain nothing from a second thread."""
    folder = tmp_path_factory.mktemp("textures")
    rng = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8)).save(folder / f"{index}.png")
    TEXTURES[:] = [TextureSource(folder)]
    TEXTURES[0].load((96, 96))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def check(
    seed: int,
    count: int,
    height: int,
    width: int,
    operations: str,
    foreground: bool,
    probability: float,
    opacity: tuple[float, float],
    rotate: float,
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    transform = PerlinAnomaly(
        TEXTURES[0],
        probability=probability,
        opacity=opacity,
        foreground=foreground,
        rotate_image_probability=rotate,
        rotate_noise_probability=rotate,
        operations=operations,
        max_tries=60,
    )
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(dtype)
    before = images.clone()
    target, image, mask = transform.corrupt(images, generator)

    assert torch.equal(images, before)
    assert target.shape == image.shape == images.shape
    assert mask.shape == (count, 1, height, width)
    assert target.dtype == image.dtype == mask.dtype == dtype
    for part in (target, image):
        assert part.isfinite().all()
        assert part.min() >= 0
        assert part.max() <= 1
    assert ((mask == 0) | (mask == 1)).all()
    outside = (mask == 0).expand_as(image)
    assert torch.equal(image[outside], target[outside])
    if rotate == 0:
        assert torch.equal(target, images)
    if probability == 1 and not foreground:
        assert mask.flatten(1).any(1).all()


def with_examples(number: int) -> Callable[..., None]:
    relaxed = settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))
    return relaxed(cases(check))


test_few_cases = with_examples(25)
test_thousands_of_cases = pytest.mark.slow(with_examples(5000))
