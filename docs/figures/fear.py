"""Draw docs/images/fear_stages.png: what FEAR sees, plants, repairs and finds on images of the embedded demo.

anomalib train --config configs/demo/fear.yaml
python docs/figures/fear.py results/FEAR/DemoSurfaces/washer/latest/weights/lightning/model.ckpt
"""

import argparse

import matplotlib.pyplot as plt
import torch
from torchvision.transforms.v2.functional import resize

from anomalib_plus import FEAR, DemoSurfaces
from anomalib_plus.transforms.foreground import otsu_foreground

COLUMNS = ("clean or test image", "foreground", "network's input", "reconstruction", "map, 0 to 1", "true mask")
TRAINING_IMAGES = 2
DEFECTS = ("scratch", "hole", "contamination", "deformation")


def main() -> None:
    """Two training images with a planted defect above four test images with a real one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--output", default="docs/images/fear_stages.png")
    options = parser.parse_args()
    model = FEAR.load_from_checkpoint(options.checkpoint, map_location="cpu").eval()
    data = DemoSurfaces(category="washer")
    data.prepare_data()
    data.setup()

    size = model.pre_processor.transform.size
    clean = resize(torch.stack([data.train_data[index].image for index in range(TRAINING_IMAGES)]), size)
    model.augmenter.probability = 1.0
    planted, planted_masks = model.augmenter(clean, torch.Generator().manual_seed(2))
    items = [next(item for item in data.test_data if f"/{defect}/" in item.image_path) for defect in DEFECTS]
    tested = resize(torch.stack([item.image for item in items]), size)
    masks = torch.stack([item.gt_mask for item in items])[:, None].float()

    originals, inputs = torch.cat([clean, tested]), torch.cat([planted, tested])
    with torch.inference_mode():
        reconstructions = model.model.decoder(model.model.encoder(inputs)).clamp(0, 1)
        maps = model.model(inputs).anomaly_map
    true_masks = torch.cat([planted_masks, resize(masks, size)])
    pictures = (originals, otsu_foreground(originals), inputs, reconstructions, maps, true_masks)

    figure, axes = plt.subplots(len(originals), len(COLUMNS), figsize=(2 * len(COLUMNS), 2 * len(originals)))
    for row, columns in enumerate(zip(*pictures, strict=True)):
        for axis, picture, title in zip(axes[row], columns, COLUMNS, strict=True):
            axis.imshow(picture.float().permute(1, 2, 0), vmin=0, vmax=1, cmap="inferno" if "map" in title else "gray")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(title, fontsize=9)
    for row, label in enumerate((*["training"] * TRAINING_IMAGES, *DEFECTS)):
        axes[row][0].set_ylabel(label, fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(options.output, dpi=80)


if __name__ == "__main__":
    main()
