"""Compare kinds and severities of synthetic defects by how well they rank models.

Trains the models of a benchmark's configuration on each data set once, and predicts its test images and synthetic
defects of every kind, of severities from 0.05 to 1. Every setting is then a choice of these defects. The table has, for
each setting, the rank correlation of the models' quality (mean of image AUROC and AUPRO) on the synthetic and on the
real defects, and the regret: the quality of the best model on the real defects minus that of the chosen one. Select a
setting on the --develop data sets; the others tell what it is worth.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch.utils.data import DataLoader

from anomalib_plus import Nuisance
from anomalib_plus.benchmark import ranking
from anomalib_plus.benchmark.choices import with_models, with_roots
from anomalib_plus.benchmark.evaluation import Predictions, predict
from anomalib_plus.benchmark.offline_weights import offer_lite_weights
from anomalib_plus.benchmark.plan import Budget, Job, Sweep, expand, load
from anomalib_plus.benchmark.protocol import Protocol
from anomalib_plus.benchmark.training import train
from anomalib_plus.files import unfinished_file
from anomalib_plus.validation.dataset import GOOD, SyntheticValidationDataset
from anomalib_plus.validation.kinds import default_kinds

SEVERITIES = (0.05, 1.0)
COLUMNS = ("scores", "labels", "maps", "masks")
Setting = Callable[[pandas.DataFrame], Any]


def settings() -> dict[str, Setting]:
    """Return the compared settings: each tells which defects it contains."""

    def between(low: float, high: float) -> Setting:
        return lambda samples: samples.severity.between(low, high)

    def without(kind: str) -> Setting:
        return lambda samples: samples.severity.between(0.3, 0.8) & (samples.kind != kind)

    ranges = [(0.3, 0.8), (0.05, 0.3), (0.1, 0.5), (0.2, 0.8), (0.05, 1.0), (0.5, 1.0)]
    return {
        **{f"all kinds, {low} to {high}": between(low, high) for low, high in ranges},
        **{f"without {kind.name}, 0.3 to 0.8": without(kind.name) for kind in default_kinds()},
    }


def measure(job: Job, protocol: Protocol, file: Path) -> None:
    """Train the model of a job and save its quality on the real defects and its predictions for synthetic ones."""
    with TemporaryDirectory() as scratch:
        trained = train(job, Path(scratch))
    trained.datamodule.setup("test")
    real = predict(trained.model, trained.datamodule.test_dataloader(), protocol, trained.device)
    validation = trained.datamodule.val_data.samples
    held_out = validation.image_path[validation.kind == GOOD].tolist()
    drawn = np.random.default_rng(job.seed).uniform(*SEVERITIES, len(held_out))
    parts, samples = [], []
    for kind in default_kinds():
        data = SyntheticValidationDataset(held_out, [kind], Nuisance(), job.seed)
        data.samples.loc[data.samples.kind != GOOD, "severity"] = drawn
        if parts:  # the good images are the same for every kind
            data.samples = data.samples[data.samples.kind != GOOD].reset_index(drop=True)
        loader = DataLoader(data, batch_size=8, collate_fn=data.collate_fn)
        parts.append(predict(trained.model, loader, protocol, trained.device))
        samples.append(data.samples[["kind", "severity"]])
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    made = pandas.concat(samples)
    columns |= {"kind": made.kind.to_numpy(str), "severity": made.severity.to_numpy(float)}
    quality = of_quality(real, protocol)
    with unfinished_file(file) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(stream, quality=quality, **columns)


def of_quality(predictions: Predictions, protocol: Protocol) -> float:
    """Return the mean of image AUROC and AUPRO, by which a build ranks its candidates."""
    roc = ranking.roc_curve(predictions.scores, predictions.labels)
    overlap = ranking.per_region_overlap(predictions.maps, predictions.masks)
    return (ranking.area_under(roc) + ranking.area_under(overlap, protocol.aupro_fpr_limit)) / 2


def of_settings(file: Path, protocol: Protocol) -> pandas.DataFrame:
    """Return the quality on the real defects and on the synthetic ones of each setting."""
    with np.load(file) as content:
        saved = dict(content)
    samples = pandas.DataFrame({name: saved[name] for name in ("kind", "severity")})
    found = []
    for name, contains in settings().items():
        rows = np.flatnonzero((samples.kind == GOOD) | contains(samples))
        predictions = Predictions(paths=[], sizes=None, **{column: saved[column][rows] for column in COLUMNS})
        found.append((name, of_quality(predictions, protocol), float(saved["quality"])))
    return pandas.DataFrame(found, columns=["setting", "synthetic", "real"])


def draw(rows: pandas.DataFrame, develop: Sequence[str]) -> Table:
    """Return the table; regrets in percent."""
    measured = set(rows.data)
    develop = [place for place in develop if place in measured]
    places = [*develop, *sorted(measured - set(develop))]
    table = Table(
        "setting", *(f"{place}: rho, regret, chosen" for place in places), "mean rho", "of the others", box=None
    )
    for setting, of_setting in rows.groupby("setting", sort=False):
        correlations, cells = [], []
        for place in places:
            models = of_setting[of_setting.data == place].set_index("model")
            rho = spearmanr(models.synthetic, models.real).statistic
            chosen = models.synthetic.idxmax()
            cells.append(f"{rho:.2f}, {100 * (models.real.max() - models.real[chosen]):.1f}, {chosen}")
            correlations.append(rho)
        means = [np.mean(part) if len(part) else np.nan for part in np.split(correlations, [len(develop)])]
        table.add_row(str(setting), *cells, *(f"{mean:.2f}" for mean in means))
    return table


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roots", type=Path, nargs="+", help="folders of categories in MVTec layout")
    parser.add_argument("--config", type=Path, default=Path("configs/benchmark/real.yaml"))
    parser.add_argument("--models", nargs="+", required=True, help="models of the configuration")
    parser.add_argument("--develop", nargs="+", default=["tile", "cube"], help="categories to select a setting on")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=90, help="processor time of a training")
    parser.add_argument("--output", type=Path, default=Path("results/tune_synthetic_defects"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    offer_lite_weights()

    sweep = with_roots(with_models(load(Sweep, options.config), options.models), options.roots)
    models = [
        model if model.budget else replace(model, budget=Budget(max_cpu_seconds=options.seconds))
        for model in sweep.models
    ]
    sweep = replace(sweep, models=tuple(models), seeds=(options.seed,), synthetic_validation={})
    measured = [(job, options.output / f"{job.job_id}.npz") for job in expand(sweep)]
    for job, file in measured:
        if not file.exists():
            measure(job, sweep.protocol, file)
    rows = [
        of_settings(file, sweep.protocol).assign(data=job.data["category"], model=job.model["label"])
        for job, file in measured
    ]
    Console(width=200).print(draw(pandas.concat(rows), options.develop))


if __name__ == "__main__":
    main()
