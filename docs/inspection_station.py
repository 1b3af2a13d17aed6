"""Judges each image that appears in INBOX; writes a heatmap of it and a line of results.csv into OUTBOX."""

import argparse
import csv
import time
from pathlib import Path

from anomalib.data.utils.image import is_image_file, read_image
from anomalib.deploy import OpenVINOInferencer
from anomalib.visualization.image.functional import overlay_image, visualize_anomaly_map
from PIL import Image

from anomalib_plus.data.image_files import inspect_image


def judge(inferencer: OpenVINOInferencer, path: Path, threshold: float, heatmap: Path) -> dict[str, object]:
    try:
        if problem := inspect_image(path).fault:
            raise ValueError(problem)
        verdict = inferencer.predict(read_image(path))
        score = float(verdict.pred_score.item())
        colours = visualize_anomaly_map(verdict.anomaly_map.squeeze())
        with Image.open(path) as image:
            overlay_image(image.convert("RGB"), colours.resize(image.size), alpha=0.4).save(heatmap)
    except Exception as error:  # a bad file must not stop the line: it is for a person to look at
        return {"decision": "unreadable", "problem": error}
    return {"score": round(score, 4), "decision": "reject" if score > threshold else "accept"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "inbox", "outbox"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--once", action="store_true", help="judge what is there and end")
    options = parser.parse_args()
    inferencer = OpenVINOInferencer(options.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    options.outbox.mkdir(parents=True, exist_ok=True)
    with (options.outbox / "results.csv").open("a+", newline="") as file:
        file.seek(0)
        done = {(row["file"], row["modified"]) for row in csv.DictReader(file)}
        table = csv.DictWriter(file, ["file", "modified", "score", "decision", "problem"])
        if not done:
            table.writeheader()
        while True:
            for path in filter(is_image_file, sorted(options.inbox.iterdir())):
                modified = path.stat().st_mtime
                if (path.name, str(modified)) in done or (time.time() - modified < 1 and not options.once):
                    continue  # judged before, or perhaps still being written
                row = judge(inferencer, path, options.threshold, options.outbox / f"{path.name}.heatmap.png")
                table.writerow({"file": path.name, "modified": modified, **row})
                file.flush()
                done.add((path.name, str(modified)))
            if options.once:
                return
            time.sleep(0.5)


main()
