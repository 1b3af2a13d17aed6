"""Quality by which ``anomalib-plus build`` ranks its candidates."""

from collections.abc import Mapping


def qualities(image_aurocs: Mapping[str, float], aupros: Mapping[str, float | None]) -> dict[str, float]:
    """Return the mean of image AUROC and AUPRO of each model, or the image AUROC alone where a model has no AUPRO.

    Few images have few scores but many pixels, so the mean varies less than the image AUROC.
    """
    if None in aupros.values():
        return dict(image_aurocs)
    return {model: (image_auroc + aupros[model]) / 2 for model, image_auroc in image_aurocs.items()}  # type: ignore[operator]
