"""Progress of a sweep on the console."""

import io

from rich.console import Console

from anomalib_plus.benchmark.progress import SweepProgress, outcome
from anomalib_plus.benchmark.record import failed, new_record
from stub_job import make_job


def shown(total, jobs, workers=1):
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with SweepProgress(total, 0, workers, Console(file=file)) as progress:
        for made, record, seconds in jobs:
            progress.running([made])
            progress.finished(made, record, seconds)
    file.flush()
    return file.buffer.getvalue().decode().splitlines()


def test_the_time_left_is_that_of_the_jobs_that_ran_here():
    job = make_job()
    record = new_record(job, "")
    assert shown(5, [(job, record, seconds) for seconds in (None, 60.0, None, 120.0)], 2) == [
        "[1/5] Stub / Data c / seed 0: ",
        "[2/5] Stub / Data c / seed 0: , 1:00; about 1:30 left",
        "[3/5] Stub / Data c / seed 0: ; about 1:00 left",
        "[4/5] Stub / Data c / seed 0: , 2:00; about 0:45 left",
    ]
    assert shown(1, [(job, record, None)]) == ["[1/1] Stub / Data c / seed 0: ; done"]


def test_names_that_are_no_utf_8_do_not_end_a_sweep():
    odd = make_job(label="caf\udce9")
    record = failed(new_record(odd, ""), "exception", "no image: \udcff.png")
    (line,) = shown(1, [(odd, record, 1.0)])
    assert line == r"[1/1] FAILED caf\udce9 / Data c / seed 0: exception: no image: \udcff.png, 0:01; done"
    assert "\udcff" in outcome(odd, record)
