"""The time limit counts work, not waiting."""

import time
from types import SimpleNamespace

import pytest

from anomalib_plus.benchmark.processor_timer import ProcessorTimer
from anomalib_plus.training.schedules import training_progress


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """CPU time of the process, set by hand."""
    used = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "process_time", lambda: used.seconds)
    return used


def trainer(*callbacks):
    one_process = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(callbacks=callbacks, max_epochs=None, max_steps=-1, should_stop=False, strategy=one_process)


def test_only_the_training_counts(clock):
    timer = ProcessorTimer(10.0)
    clock.seconds += 5
    assert timer.time_elapsed() == 0
    timer.on_train_start(trainer(), None)
    clock.seconds += 4
    assert timer.time_elapsed() == 4
    assert timer.time_remaining() == 6
    timer.on_train_end(trainer(), None)
    clock.seconds += 4
    assert timer.time_elapsed() == 4
    assert timer.time_elapsed("validate") == 0


def test_waiting_does_not_count():
    timer = ProcessorTimer(10.0)
    timer.on_train_start(trainer(), None)
    time.sleep(0.2)
    assert timer.time_elapsed() < 0.1


def test_the_fit_stops_at_the_limit_and_schedules_follow(clock):
    timer = ProcessorTimer(10.0)
    fit = trainer(timer)
    timer.on_train_start(fit, None)
    clock.seconds += 9
    timer.on_train_batch_end(fit)
    assert training_progress(fit, epoch=0) == pytest.approx(0.9)
    assert not fit.should_stop
    clock.seconds += 1
    timer.on_train_batch_end(fit)
    assert fit.should_stop
