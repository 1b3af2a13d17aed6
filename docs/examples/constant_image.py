"""Evaluate RamFAE's anomaly map with a constant grey image instead of the reconstruction.

A constant image has no gradient, so the map marks every edge. If this scores as well as a trained model, the defects
are the strongest edges of the images, and the data set cannot show the quality of a model.
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from anomalib_plus import DemoSurfaces, RamFAE
from anomalib_plus.benchmark.evaluation import evaluate, predict
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.data import MVTec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of categories in MVTec layout (default: the demo)")
    parser.add_argument("--category", default="washer")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    options = parser.parse_args()

    protocol = Protocol(image_size=(options.size, options.size))
    window = {"smoothing_kernel": 21, "sigma": 3.5}  # as the READMEs' tables were measured, whatever the size
    model = RamFAE(widths=(8, 8), pre_processor=RamFAE.configure_pre_processor(protocol.image_size), **window).eval()
    model.model.reconstruct = partial(torch.full_like, fill_value=0.5)
    folder = {"root": options.root} if options.root else {}
    data = (MVTec if options.root else DemoSurfaces)(category=options.category, num_workers=0, **folder)
    data.prepare_data()
    data.setup()
    metrics = evaluate(predict(model, data.test_dataloader(), protocol, torch.device("cpu")), protocol).metrics
    for name in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro"):
        print(f"{name}: {metrics[name]:.3f}")


main()
