"""Draw the weights that the feature normality estimator of a trained TSDN gives to channels.

python -m anomalib_plus.models.tsdn.figure CHECKPOINT IMAGE writes tsdn_fne.png. The upper row shows the image
with filled superpixels and their true mask, the lower row the original image and the predicted mask. On the right each
dot is a channel: its weight against its similarity with the mask. An estimator that has learnt its target gives similar
channels low weights.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from anomalib.data.utils import read_image
from matplotlib.figure import Figure
from torch import Tensor

from anomalib_plus.deployment.resizing import pre_process
from anomalib_plus.models.tsdn.feature_normality import channel_similarity, scaled_distance
from anomalib_plus.models.tsdn.lightning_model import TSDN

_SHARE = 16  # 1/16 of the channels is shown as those of lowest weight, and as many as those of highest


class Normality(NamedTuple):
    """Intermediate results for one image."""

    image: Tensor
    """(3, H, W)."""
    mask: Tensor
    """True or predicted anomalous area (1, H, W)."""
    reconstruction: Tensor
    """(3, H, W)."""
    features: Tensor
    """Bottleneck (C, h, w)."""
    weights: Tensor
    """Weights of the channels (C,) in [0, 1]."""
    similarity: Tensor
    """Similarity of the channels with the mask (C,)."""

    @property
    def target(self) -> Tensor:
        """Target of the weights (C,)."""
        return scaled_distance(self.similarity[None])[0]

    @property
    def rank_correlation(self) -> float:
        """Spearman correlation of weights and similarity: -1 if the most similar channels have the lowest weights."""
        ranks = [values.argsort().argsort().float() for values in (self.weights, self.similarity)]
        return float(torch.corrcoef(torch.stack(ranks))[0, 1])


@torch.inference_mode()
def measure_normality(model: TSDN, image: Tensor, mask: Tensor | None = None) -> Normality:
    """Run the network and keep its intermediate results.

    Args:
        model: A model with ``gate="fne"``, which is set to evaluation mode.
        image: (3, H, W) in [0, 1] at the network's size.
        mask: Anomalous area (1, H, W); the network's prediction if None.

    Raises:
        ValueError: If the model has no normality estimator.
    """
    network = model.eval().model
    if network.estimator is None:
        msg = f"This TSDN has no normality estimator: it was built with gate={network.gate!r}, not 'fne'."
        raise ValueError(msg)
    features, skips = network.encode(image[None])
    known = network.predict_mask(features, skips) if mask is None else mask[None]
    weights = network.estimator(features).sigmoid()
    return Normality(
        image=image,
        mask=known[0],
        reconstruction=network.reconstruct(features, skips, weights[..., None, None])[0],
        features=features[0],
        weights=weights[0],
        similarity=channel_similarity(features, known, model.loss.ssim_size)[0],
    )


def plot_normality(rows: Sequence[tuple[str, Normality]]) -> Figure:
    """Draw a row of images and a scatter plot for each title and measurement."""
    figure = Figure(figsize=(15, 2.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 6, squeeze=False, width_ratios=[1, 1, 1, 1, 1, 1.5])
    for (title, result), (*images, scatter) in zip(rows, axes, strict=True):
        order = result.weights.argsort()
        few = max(len(order) // _SHARE, 1)
        panels = {
            title: result.image.permute(1, 2, 0),
            "mask": result.mask[0],
            f"{few} channels of lowest weight": _mean_map(result.features[order[:few]]),
            f"{few} channels of highest weight": _mean_map(result.features[order[-few:]]),
            "reconstruction": result.reconstruction.permute(1, 2, 0),
        }
        for axis, (name, values) in zip(images, panels.items(), strict=True):
            axis.imshow(values.numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set_title(name, fontsize=9)
            axis.axis("off")
        scatter.scatter(result.similarity, result.target, s=10, color="0.75", label="target")
        scatter.scatter(result.similarity, result.weights, s=14, label="weight")
        scatter.set_title(f"rank correlation {result.rank_correlation:.2f}", fontsize=9)
        scatter.set_xlabel("similarity of the channel with the mask (SSIM)", fontsize=8)
        scatter.set_ylim(-0.05, 1.05)
        scatter.legend(fontsize=8)
    return figure


def _mean_map(maps: Tensor) -> Tensor:
    """Average maps (C, h, w), each scaled to [0, 1]; a constant map is black."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low + 1e-8)).mean(dim=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure of a checkpoint and an image file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--output", type=Path, default=Path("tsdn_fne.png"))
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic defects")
    options = parser.parse_args(arguments)
    model = TSDN.load_from_checkpoint(options.checkpoint, map_location="cpu")
    image = pre_process(model.pre_processor, read_image(options.image, as_tensor=True))
    if model.augmenter is None:
        parser.error("the model was trained without synthetic defects (augmenter=False), which the figure needs")
    corrupted, mask = model.augmenter(image, torch.Generator().manual_seed(options.seed))
    rows = [
        ("with synthetic defects", measure_normality(model, corrupted, mask)),
        ("original image", measure_normality(model, image)),
    ]
    plot_normality(rows).savefig(options.output, dpi=100)


if __name__ == "__main__":
    main()
