"""Run one job in this process: python -m anomalib_plus.benchmark.job RESULTS JOB_ID; RESULTS/jobs describes it.

The exit status is 0 when the job's record, "ok" or "failed", is in the store, and 75 when another process runs the job.
Any other status is a crash, which the parent process records.
"""

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError

from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.process import SUPERVISED, end_with_parent
from anomalib_plus.benchmark.record import FailureKind, failed, new_record, now, plain, protocol_of
from anomalib_plus.benchmark.store import ARTIFACTS, ResultStore
from anomalib_plus.files import unfinished_folder

BUSY = 75
_CPU_ALLOCATION = ("can't allocate memory", "not enough memory")


def run_job(job: Job, store: ResultStore, threads: int | None = None) -> dict[str, Any] | None:
    """Train, evaluate and measure; return the record, also of a failure.

    None in the processes of rank 1 and above of a distributed training.
    """
    record = new_record(job, now())
    try:
        return _measure(job, record, store, threads)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, URLError):
            message = f"The download of the weights or the data failed: {error}"
        return failed(record, _kind(error), message, traceback.format_exc())


def _kind(error: Exception) -> FailureKind:
    import torch

    text = str(error)
    on_cpu = isinstance(error, RuntimeError) and any(phrase in text for phrase in _CPU_ALLOCATION)
    out_of_memory = on_cpu or isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return "out_of_memory" if out_of_memory else "exception"


def _measure(job: Job, record: dict[str, Any], store: ResultStore, threads: int | None) -> dict[str, Any] | None:
    import torch
    from anomalib.data.utils import ValSplitMode

    from anomalib_plus import register
    from anomalib_plus.benchmark import costs, environment, gallery
    from anomalib_plus.benchmark.evaluation import evaluate, find_threshold, predict
    from anomalib_plus.benchmark.offline_weights import offer_lite_weights
    from anomalib_plus.benchmark.training import train
    from anomalib_plus.deployment.resizing import pre_process
    from anomalib_plus.training.reduced_training import ReducedTrainingWarning

    register()
    if threads:
        torch.set_num_threads(threads)
    offered = offer_lite_weights()
    protocol = protocol_of(job)
    with TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("error", category=ReducedTrainingWarning)  # it would not be the planned model
        trained = train(job, Path(scratch))
    if trained.engine.trainer.global_rank != 0:
        return None
    model, datamodule, device = trained.model, trained.datamodule, trained.device
    loader = datamodule.test_dataloader()
    predictions = predict(model, loader, protocol, device)
    images = pre_process(model.pre_processor, next(iter(loader)).image.to(device))
    record["costs"] |= costs.inference_costs(model.model, images) | {
        "fit_seconds": trained.seconds,
        "epochs": trained.engine.trainer.current_epoch,
        "steps": trained.engine.trainer.global_step,
        "peak_memory_mib": costs.peak_memory_mib(device),
    }
    record["model"]["no_model"] = getattr(model, "no_model", False)
    record["data"] |= {"train_images": len(datamodule.train_data), "test_images": len(datamodule.test_data)}
    record["environment"] |= {
        "device": environment.device_name(device),
        "threads": torch.get_num_threads(),
        "git_commit": environment.git_commit(),
        "weights_sha256": environment.weight_hashes(model, job.model["arguments"], offered),
    }
    evaluation = evaluate(predictions, protocol)
    record["metrics"] |= evaluation.metrics
    record["curves"] |= evaluation.curves
    record["training"] = trained.history
    record["scores"] = {
        "values": predictions.scores.tolist(),
        "labels": predictions.labels.astype(int).tolist(),
        "paths": gallery.relative_paths(predictions.paths),
    }
    is_test = datamodule.val_split_mode == ValSplitMode.SAME_AS_TEST
    validated = predictions if is_test else predict(model, datamodule.val_dataloader(), protocol, device)
    record["threshold"] = find_threshold(validated, is_test)
    record["validation_metrics"] = {} if is_test else evaluate(validated, protocol).metrics
    with unfinished_folder(store.artifacts(job.job_id), replace=True) as folder:
        prefix = f"{ARTIFACTS}/{job.job_id}"
        record["gallery"] = gallery.save_gallery(model, predictions, folder, prefix, job.gallery, job.seed, device)
    record["finished"] = now()
    return plain(record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and store its record."""
    parser = argparse.ArgumentParser(prog="python -m anomalib_plus.benchmark.job", description=__doc__)
    parser.add_argument("results", type=Path, help="folder of the results")
    parser.add_argument("job_id", help="name of the job's description in RESULTS/jobs")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--again", action="store_true", help="run the job although it has failed before")
    parser.add_argument(SUPERVISED, action="store_true", help="end when standard input is closed")
    options = parser.parse_args(arguments)
    if options.supervised:
        end_with_parent()
    store = ResultStore(options.results)
    job = Job.from_json(store.work_file(options.job_id, "json").read_text())
    is_helper = int(os.environ.get("LOCAL_RANK", "0")) > 0
    claim = None if is_helper else store.claim(job.job_id)
    if claim is None and not is_helper:
        return BUSY
    state = store.states().get(job.job_id)
    if state == "ok" or (state == "failed" and not options.again):
        return 0  # another sweep was faster
    if options.supervised and not is_helper:
        os.truncate(store.work_file(job.job_id, "log"), 0)  # what earlier runs wrote
    record = run_job(job, store, options.threads)
    if record is not None and not is_helper:
        store.append(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
