"""The figure of FEAR's stages."""

from pathlib import Path

import torch
from anomalib.data.utils import read_image
from lightning.pytorch import Trainer
from PIL import Image

from anomalib_plus import FEAR
from anomalib_plus.models.fear.figure import draw_stages, main


def small_model() -> FEAR:
    return FEAR(reconstruction_width=8, segmentation_width=8, pre_processor=FEAR.configure_pre_processor((64, 64)))


def panels(figure: object, row: int) -> list[torch.Tensor]:
    """What the axes of a row show, (H, W, 3) or (H, W) each."""
    axes = figure.axes[6 * row : 6 * row + 6]
    return [torch.as_tensor(axis.images[0].get_array()) for axis in axes]


def test_corrupted_rows_differ_from_the_image_where_the_mask_says_so_and_others_do_not(mvtec_layout: Path) -> None:
    files = sorted((mvtec_layout / "surface" / "train" / "good").iterdir())[:2]
    figure = draw_stages(small_model(), [read_image(file, as_tensor=True) for file in files], corrupted=1)
    image, _, corrupted, mask, _, _ = panels(figure, 0)
    assert mask.any()
    assert not ((corrupted != image).any(-1) & (mask == 0)).any()
    assert (corrupted != image).any()
    image, _, as_is, mask, _, _ = panels(figure, 1)
    assert torch.equal(as_is, image)
    assert not mask.any()


def test_command_draws_the_figure(mvtec_layout: Path) -> None:
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", devices=1)
    trainer.strategy.connect(small_model())
    trainer.save_checkpoint("model.ckpt")
    image = next((mvtec_layout / "surface" / "test" / "defect").glob("*.png"))
    main(["model.ckpt", str(image), "--corrupt", "1"])
    assert Image.open("fear_stages.png").width == 960
