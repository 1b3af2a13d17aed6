"""A finished build for tests of its report: ten good parts in two splits, five with a bright defect, and their maps."""

from pathlib import Path

import numpy as np
from PIL import Image

from anomalib_plus.inspector.building.candidates import Candidate
from anomalib_plus.inspector.building.command import Options
from anomalib_plus.inspector.building.findings import Finding
from anomalib_plus.inspector.building.halving import Round
from anomalib_plus.inspector.building.outcome import Outcome
from anomalib_plus.inspector.building.ranking import Score
from anomalib_plus.inspector.building.selection_images import entry
from part_images import draw_part, save_parts

THRESHOLD = 0.5
SCORES = {
    "calibration": [0.1, 0.2, 0.3, 0.4, THRESHOLD],
    "originals": [0.15, 0.25, 0.35, 0.6, 0.05],
    "selection": [0.45, 0.7, 0.8, 0.9, 0.95],
}
"""One false alarm of the held-out good parts, one missed defect."""


def finished_build(folder: Path, name: str = "part") -> Outcome:
    """Make the outcome; the maps lie in ``folder`` as a build leaves them. ``name`` begins the names of the defects."""
    good = save_parts(folder / "good", 10)
    splits = {
        "calibration": [entry(path, str(path)) for path in good[:5]],
        "originals": [entry(path, str(path)) for path in good[5:]],
        "selection": [],
    }
    for number in range(5):
        pixels, mask = draw_part(5 + number), np.zeros((48, 48), np.uint8)
        pixels[20:28, 20:28], mask[20:28, 20:28] = 250, 255
        image, mask_file = folder / f"{name}_{number}.png", folder / f"mask_{number}.png"
        Image.fromarray(pixels).save(image)
        Image.fromarray(mask).save(mask_file)
        splits["selection"].append(entry(image, str(image), 1, mask_file, "hole"))
    chosen = Candidate("x.Swift", label="Swift")
    maps = folder / "finish" / chosen.folder_name / "maps"
    maps.mkdir(parents=True)
    for share, scores in SCORES.items():
        for number, score in enumerate(scores):
            plane = np.full((16, 16), 0.05, np.float16)
            plane[6:10, 6:10] = score
            np.save(maps / f"{share}_{number:04d}.npy", plane)
    scores = [
        Score("Swift", 0.98, 0.9, 1.0, 0.8, 0.89, 3.0, 3.0, True),
        Score("Steady", 0.99, 0.92, 1.0, 0.8, 0.895, 9.0, 9.0, True),
        Score("Weak", 0.6, 0.4, 0.8, 0.3, 0.45, 5.0, 5.0, False),
    ]
    out = Score("Out", 0.5, 0.3, 0.7, None, 0.5, 5.0, 5.0, False)
    labels = ["Swift", "Steady", "Weak", "Out", "Broken"]
    rounds = [Round(labels, {"max_seconds": 20.0}, [*scores, out], {"Broken": "crash: <oops>"})]
    rounds.append(Round(["Swift", "Steady", "Weak"], {"max_seconds": 60.0}, scores))
    record = {
        "scores": SCORES, "threshold": THRESHOLD, "latency_ms": 4.2, "steps": 100,
        "seconds": 60.0, "difference": 1e-6,
    }  # fmt: skip
    findings = [Finding("Files", "10 image files", "10 are used.")]
    return Outcome(
        Options(folder / "good", folder / "inspector"), findings, {"Absent": "weights of x are not here"}, rounds,
        chosen, "Swift is the fastest.", [], record, splits, 300.0,
    )  # fmt: skip
