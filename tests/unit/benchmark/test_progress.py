"""Progress of a sweep on the console."""

import io

from rich.console import Console

from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.progress import SweepProgress, outcome
from anomalib_plus.benchmark.record import failed, new_record


def job(label="M"):
    model = {"label": label, "class_path": "x.M", "arguments": {}, "variant": None}
    data = {"label": "D", "class_path": "x.D", "category": "c", "arguments": {}}
    return Job(model, data, 0, {"max_epochs": 1}, {"image_size": [8, 8]}, {})


def shown(total, jobs, workers=1):
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with SweepProgress(total, 0, workers, Console(file=file)) as progress:
        for made, record, seconds in jobs:
            progress.running([made])
            progress.finished(made, record, seconds)
    file.flush()
    return file.buffer.getvalue().decode().splitlines()


def test_the_time_left_is_that_of_the_jobs_that_ran_here():
    record = new_record(job(), "")
    lines = shown(5, [(job(), record, None), (job(), record, 60.0), (job(), record, None), (job(), record, 120.0)], 2)
    assert lines == [
        "[1/5] M / D c / seed 0: ",
        "[2/5] M / D c / seed 0: , 1:00; about 1:30 left",
        "[3/5] M / D c / seed 0: ; about 1:00 left",
        "[4/5] M / D c / seed 0: , 2:00; about 0:45 left",
    ]
    assert shown(1, [(job(), record, None)]) == ["[1/1] M / D c / seed 0: ; done"]


def test_names_that_are_no_utf_8_do_not_end_a_sweep():
    odd = job("caf\udce9")
    record = failed(new_record(odd, ""), "exception", "no image: \udcff.png")
    (line,) = shown(1, [(odd, record, 1.0)])
    assert line == r"[1/1] FAILED caf\udce9 / D c / seed 0: exception: no image: \udcff.png, 0:01; done"
    assert "\udcff" in outcome(odd, record)
