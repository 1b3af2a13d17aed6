"""Predict each image that appears in INBOX; write its heatmap and a line of results.csv to OUTBOX."""

import argparse
import time
from pathlib import Path

from anomalib.data.utils.image import read_image
from anomalib.deploy import OpenVINOInferencer
from anomalib.visualization.image.functional import overlay_image, visualize_anomaly_map
from anomalib_plus.deployment.station import ResultTable, announce, images_in
from PIL import Image

from anomalib_plus.image_files import inspect_image


def predict(inferencer: OpenVINOInferencer, path: Path, threshold: float, heatmap: Path) -> dict[str, object]:
    try:
        if problem := inspect_image(path).fault:
            raise ValueError(problem)
        prediction = inferencer.predict(read_image(path))
        score = float(prediction.pred_score.item())
        colours = visualize_anomaly_map(prediction.anomaly_map.squeeze())
        with Image.open(path) as image:
            overlay_image(image.convert("RGB"), colours.resize(image.size), alpha=0.4).save(heatmap)
    except Exception as error:  # a bad file must not stop the station: a person checks it
        return {"decision": "unreadable", "problem": str(error)}
    return {"score": round(score, 4), "decision": "accept" if score <= threshold else "reject"}  # NaN is rejected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "inbox", "outbox"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--once", action="store_true", help="predict the images in INBOX and end")
    options = parser.parse_args()
    inferencer = OpenVINOInferencer(options.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    options.outbox.mkdir(parents=True, exist_ok=True)
    table = ResultTable(options.outbox / "results.csv", ["score", "decision", "problem"])
    announce(f"monitoring {options.inbox}, rejecting scores above {options.threshold}, results in {options.outbox}")
    before = {}
    while True:
        images = images_in(options.inbox)
        for key in table.missing(images):
            if options.once or key in before:  # new images may still be incomplete
                path = images[key]
                row = predict(inferencer, path, options.threshold, options.outbox / f"{path.name}.heatmap.png")
                table.add(key, row)
                announce(key[0], *row.values())
        if options.once:
            return
        before = images
        time.sleep(1)


main()
