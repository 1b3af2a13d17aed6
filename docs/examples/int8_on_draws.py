"""Measure the change of the image AUROC by INT8 on several draws of the demo's test images.

The first draw sets the value ranges; the others were used neither in training nor in the export.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

from anomalib.deploy import CompressionType, ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from sklearn.metrics import roc_auc_score

import anomalib_plus.deployment  # disables OpenVINO's usage data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name of the model, e.g. RamFAE")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--category", default="washer")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("results/int8_on_draws"))
    options = parser.parse_args()

    def draw(seed: int) -> anomalib_plus.DemoSurfaces:
        data = anomalib_plus.DemoSurfaces(options.folder / f"draw{seed}", options.category, seed, num_workers=0)
        data.prepare_data()
        data.setup()
        return data

    model = getattr(anomalib_plus, options.model).load_from_checkpoint(options.checkpoint)
    networks = []
    for name, compression in {"FP32": None, "INT8": CompressionType.INT8_PTQ}.items():
        folder = options.folder / options.model / name
        file = Engine().export(model, ExportType.OPENVINO, folder, compression_type=compression, datamodule=draw(0))
        networks.append(OpenVINOInferencer(file, config={"INFERENCE_PRECISION_HINT": "f32"}))

    changes = []
    for seed in range(options.draws):
        samples = draw(seed).test_data.samples
        scores = [[network.predict(path).pred_score.item() for path in samples.image_path] for network in networks]
        before, after = (100 * roc_auc_score(samples.label_index, of_network) for of_network in scores)
        changes.append(after - before)
        print(f"draw {seed}: FP32 {before:.1f}, INT8 {after - before:+.1f}")
    spread = f" ± {stdev(changes):.1f}" if len(changes) > 1 else ""
    print(f"{options.model}, {options.category}: INT8 {mean(changes):+.1f}{spread} points in the mean")


main()
