"""The image-only form: types in, types out, and inside torchvision pipelines."""

import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from anomalib_plus.transforms import Cutout, DeletePaste, ImageOnly


@pytest.mark.parametrize("shape", [(3, 40, 50), (2, 3, 40, 50)])
def test_gives_the_image_of_the_transform(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    torch.manual_seed(1)
    expected, _ = DeletePaste()(images)
    torch.manual_seed(1)
    result = ImageOnly(DeletePaste())(images)
    assert torch.equal(result, expected)
    assert type(result) is torch.Tensor


def test_bytes_stay_bytes_and_unchanged_pixels_keep_their_value() -> None:
    image = tv_tensors.Image(torch.randint(1, 256, (3, 64, 64), dtype=torch.uint8))
    result = ImageOnly(Cutout())(image)
    assert isinstance(result, tv_tensors.Image)
    assert result.dtype == torch.uint8
    hole = (result == 0).all(0)
    assert 0.01 < hole.float().mean() < 0.2
    assert torch.equal(result[:, ~hole], image[:, ~hole])


def test_companions_pass_untouched() -> None:
    image, mask = tv_tensors.Image(torch.rand(3, 32, 32)), tv_tensors.Mask(torch.zeros(32, 32, dtype=torch.uint8))
    pipeline = v2.Compose([ImageOnly(Cutout()), v2.Resize((16, 16))])
    result = pipeline({"image": image, "mask": mask, "label": 3})
    assert result["image"].shape == (3, 16, 16)
    assert result["mask"].sum() == 0
    assert isinstance(result["mask"], tv_tensors.Mask)
    assert result["label"] == 3


def test_pil_images_are_refused_instead_of_passed_through() -> None:
    with pytest.raises(TypeError, match="ToImage"):
        ImageOnly(Cutout())(Image.new("RGB", (32, 32)))
