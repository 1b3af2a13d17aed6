"""The whole build, with trainings that take milliseconds: selection, budgets, failures, interruption, report."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from anomalib_plus.benchmark import supervision
from anomalib_plus.inspector.building import argument_checks, finish
from anomalib_plus.inspector.building.build import Build
from anomalib_plus.inspector.building.command import Options, main
from anomalib_plus.inspector.bundle import read_bundle_info
from part_images import save_parts

TESTS = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _stub(monkeypatch):
    monkeypatch.setattr(supervision, "JOB_MODULE", "stub_build")
    monkeypatch.setattr(finish, "MODULE", "stub_build")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))


def write_candidates(file, one_pass=(), **models):
    entries = [{"label": label, "class_path": "x.Stub", "init_args": wish} for label, wish in models.items()]
    for entry in entries:
        entry |= {"budget": {"max_epochs": 1}} if entry["label"] in one_pass else {}
    file.write_text(yaml.safe_dump({"models": entries}))
    return str(file)


SIX = {
    "Best": {"quality": 2.0, "latency": 30.0, "gmacs": 3.0},
    "Fast": {"quality": 2.0, "latency": 10.0, "gmacs": 2.0},
    "Fair": {"quality": 0.5},
    "Poor": {"quality": 0.2},
    "Blind": {"quality": 0.0},
    "Broken": {"error": "told so"},
}
THREE = {label: SIX[label] for label in ("Best", "Fast", "Fair")}


@pytest.fixture
def options(tmp_path):
    save_parts(tmp_path / "good", 24)
    models = (write_candidates(tmp_path / "stubs.yaml", **THREE),)
    return Options(tmp_path / "good", tmp_path / "inspector", steps=3, models=models, workers=3)


def build(options, **changes):
    text = io.StringIO()
    made = Build(replace(options, **changes), Console(file=text, width=300))
    made.plan()
    made.run()
    return text.getvalue()


def runs(options):
    return sorted((options.output / "work" / "runs.txt").read_text().splitlines())


@pytest.fixture
def one(options, tmp_path):
    return replace(options, models=(write_candidates(tmp_path / "one.yaml", One={"quality": 2.0}),))


@pytest.fixture
def six(options, tmp_path):
    return replace(options, models=(write_candidates(tmp_path / "six.yaml", **SIX),))


def test_the_better_half_goes_on_and_the_fastest_of_the_level_ones_is_built(six):
    options, text = six, build(six)
    assert runs(options) == sorted(
        [*(f"{label} 3" for label in SIX), *(f"{label} 6" for label in ("Best", "Fast", "Fair")), "finish Fast"]
    )
    info = read_bundle_info(options.output)
    assert (info.name, info.format, info.image_size) == ("Stub", "openvino", (128, 128))
    choices = " ".join(info.choices)
    for expected in (
        "Best is level within the spread; Fast needs the fewest operations",
        "Broken failed (exception: told so)",
    ):
        assert expected in choices
        assert expected in text or "Broken" in expected
    assert re.search(r"Fast: 0 of 5 held-out good images of 4 parts are rejected .*the threshold is set for 17 %", text)
    assert (options.output / "model.ckpt").read_text() == "Fast"
    page = (options.output / "report.html").read_text()
    check_page(page)
    assert "failed in round 1: exception: told so" in page


def check_page(page):
    assert not re.search(r"https?://", page)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    data = json.loads(re.search(r'<script id="explorer-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    scores = [item["score"] for item in data["items"]]
    assert scores == sorted(scores)
    good = [item for item in data["items"] if not item["bad"]]
    assert (len(good), len(scores)) == (10, 20)
    assert all(item["image"].startswith("data:image/webp;base64,") for item in data["items"])
    assert len(data["intervals"]["good"]) == sum(not item["calibration"] for item in good) + 1
    assert data["threshold"] in scores


def test_the_same_build_again_trains_nothing_and_a_changed_one_says_what(options):
    text = build(options)
    assert "\n3 candidates; the first result follows when one is trained and tested." in text
    work = options.output / "work"
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file()) / 1e6
    assert f"{work} ({size:.0f} MB) is for building again" in text.splitlines()[-1]
    before = runs(options)
    text = build(options)
    assert "This build was finished before.\n" in text
    assert "Training " not in text
    assert "\n3 results are there and used again.\n" in text
    assert "Nothing is different from the build before." in text
    assert runs(options) == before
    text = build(options, false_alarms=0.3)
    assert "Training " in text, "the last training depends on more than the comparison"
    save_parts(options.good, 2, first=24)
    text = build(options, seed=1)
    assert "Images of good parts: 2 new, 0 gone, 0 with another content." in text
    assert "--seed was 0 and is 1." in text
    assert len(runs(options)) == 2 * len(before) + 1


def test_an_interrupted_build_goes_on(options, monkeypatch):
    finished = supervision.JobProcess.settle
    count = iter(range(100))

    def interrupt(process):
        state = finished(process)
        if next(count) == 1:
            raise KeyboardInterrupt
        return state

    monkeypatch.setattr(supervision.JobProcess, "settle", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(options, workers=1)
    assert not (options.output / "inspector.json").exists()
    done = runs(options)
    assert len(done) == 2
    assert "Going on with the build" in build(options)
    assert len(runs(options)) == len(done) + 2  # one job of the round, and the end
    assert read_bundle_info(options.output).choices[-1].startswith("Fast: ")


def test_the_next_candidate_is_taken_where_one_fails_or_is_too_slow(options, tmp_path):
    models = {
        "Fast": {"quality": 2.0, "gmacs": 1.0, "finish_error": "The export decides otherwise."},
        "Best": {"quality": 2.0, "gmacs": 2.0, "latency": 30.0},
        "Fair": {"quality": 0.5, "latency": 5.0},
    }
    wanted = (write_candidates(tmp_path / "three.yaml", **models),)
    text = build(options, models=wanted)
    assert "Fast is not taken: The export decides otherwise." in text
    assert "Best: 0 of 5" in text
    assert "Fast is not taken" in (options.output / "report.html").read_text()
    models["Fast"] |= {"latency": 50.0}
    wanted = (write_candidates(tmp_path / "three.yaml", **models),)
    assert "Fair: " in build(options, models=wanted, max_latency_ms=10.0)


def test_no_inspector_is_written_where_all_fail(options, tmp_path):
    broken = (write_candidates(tmp_path / "one.yaml", One={"error": "x"}, Two={"error": "y"}),)
    with pytest.raises(RuntimeError, match=r"Every candidate failed.*\n  One: exception: x\n  Two: exception: y"):
        build(options, models=broken)
    ends = (write_candidates(tmp_path / "end.yaml", One={"quality": 1.0, "finish_error": "no export"}),)
    with pytest.raises(RuntimeError, match="No candidate could be finished:\n  One is not taken: no export"):
        build(options, models=ends)
    assert not (options.output / "inspector.json").exists()


def test_one_step_is_singular_and_the_splits_name_the_parts(one):
    text = build(one, steps=1, group_by=r"(\d)\.png")
    splits = json.loads((one.output / "work" / "splits.json").read_text())
    parts = {name: {entry["part"] for entry in splits[name]} for name in ("training", "originals", "calibration")}
    assert all(entry["part"] == Path(entry["image"]).stem[-1] for entry in splits["calibration"])
    assert sum(map(len, parts.values())) == 10, "whole parts"
    shown = f"{len(splits['calibration'])} calibration images of {len(parts['calibration'])} parts support"
    assert shown in text
    assert shown in str(read_bundle_info(one.output).choices)
    assert "1 step in the first of 1 round" in text
    assert "Round 1, training of 1 step each: One" in text
    assert "Round 1, 1 step each: " in str(read_bundle_info(one.output).choices)
    assert "<dd>1 step, 1 s</dd>" in (one.output / "report.html").read_text()


def test_a_model_that_learns_in_one_pass_is_not_said_to_train_for_a_time(options, tmp_path):
    models = (write_candidates(tmp_path / "bank.yaml", ["Bank"], Bank={"quality": 2.0}),)
    text = build(options, models=models, steps=None, minutes=10.0)
    assert "Round 1, training of one pass over the images each: Bank" in text
    assert "the first result follows when one is trained and tested" in text
    assert "Round 1, one pass over the images each: " in str(read_bundle_info(options.output).choices)


def test_time_is_shared_and_a_failed_candidate_is_tried_once_more_when_the_build_is_started_again(options, tmp_path):
    def state():
        return json.loads((options.output / "work" / "state.json").read_text())

    flaky = {"quality": 5.0, "fails_first": True}
    models = {**SIX, "Blind": flaky}
    wanted = {"models": (write_candidates(tmp_path / "flaky.yaml", **models),), "steps": None, "minutes": 10.0}
    text = build(options, **wanted, workers=1)
    planned, before = state(), Counter(runs(options))
    first, second = (each["budget"]["max_seconds"] for each in planned["rounds"])
    assert f"6 candidates, 1 at a time; the first result follows after about {first + 20:.0f} seconds." in text
    assert re.search(r"Training Fast, [\d.]+ seconds; then a minute for calibration and export", text)
    assert 6 < first <= 0.55 * 600 / 2 / 6 - 20, "20 seconds of a job are not training"
    assert 60 < second < 0.55 * 600 / 3, "the jobs took less"
    (last,) = planned["final"].values()
    assert 600 - 60 - 60 < last["max_seconds"] <= 600 - 60
    text = build(options, **wanted, workers=1)
    assert "\n4 results are there and used again. Failed before, tried once more: Blind, Broken. 2 candidates, " in text
    assert [each["budget"] for each in state()["rounds"]] == [each["budget"] for each in planned["rounds"]]
    again = Counter(runs(options)) - before
    assert again == Counter([f"Blind {first:g}", f"Broken {first:g}", f"Blind {second:g}", "finish Blind"])
    assert read_bundle_info(options.output).choices[-1].startswith("Blind: ")


def test_no_round_is_shorter_than_the_one_before(six, monkeypatch):
    overheads = "anomalib_plus.inspector.building.halving.Halving._overhead"
    monkeypatch.setattr(overheads, lambda self: 200.0 if any(self.store.records()) else 5.0)
    build(six, steps=None, minutes=10.0, workers=1)
    state = json.loads((six.output / "work" / "state.json").read_text())
    assert [each["budget"]["max_seconds"] > 20 for each in state["rounds"]] == [True]


def test_one_training_does_not_get_the_time_of_two_workers(options, tmp_path):
    models = (write_candidates(tmp_path / "two.yaml", ["Bank"], Bank={"quality": 0.1}, Slow={"quality": 2.0}),)
    build(options, models=models, steps=None, minutes=10.0, workers=2)
    state = json.loads((options.output / "work" / "state.json").read_text())
    assert 0.55 * 600 - 40 < state["rounds"][0]["budget"]["max_seconds"] <= 0.55 * 600 - 20


def test_the_runners_up_of_a_model_that_needs_no_time_get_half_of_it(options, tmp_path):
    models = {"Bank": {"quality": 2.0}, "Slow": {"quality": 0.3}, "Slower": {"quality": 0.2}, "Slowest": {"quality": 0}}
    wanted = (write_candidates(tmp_path / "bank.yaml", ["Bank"], **models),)
    build(options, models=wanted, steps=None, minutes=10.0, workers=1)
    state = json.loads((options.output / "work" / "state.json").read_text())
    last = state["rounds"][1]
    assert last["labels"] == ["Bank", "Slow", "Slower"]
    assert 100 < last["budget"]["max_seconds"] <= 0.9 * 600 / 2 / 2
    assert sum(line.startswith("Bank") for line in runs(options)) == 1
    assert "Bank" in read_bundle_info(options.output).choices[-1]
    before = runs(options)
    assert "Nothing is different" in build(options, models=wanted, steps=None, minutes=10.0, workers=1)
    assert runs(options) == before


def test_bad_parts_choose_the_model_and_are_no_longer_a_test(one, tmp_path):
    save_parts(tmp_path / "bad", 4, first=50)
    text = build(one, bad=tmp_path / "bad")
    assert "4 images of bad parts" in text
    assert "of 4 of your bad parts are found" in text
    assert "so their count is no test" in (one.output / "report.html").read_text()
    before = runs(one)
    (changed,) = save_parts(tmp_path / "other", 1, first=60)
    shutil.copyfile(changed, tmp_path / "bad" / "part_050.png")
    build(one, bad=tmp_path / "bad")
    assert len(runs(one)) == 2 * len(before), "another bad part of the same name"


@pytest.fixture
def compared(monkeypatch):
    """Builds until the comparison; returns what it gets."""

    def stopped(options, **changes):
        got = []

        def stop(*arguments):
            got.extend(arguments)
            raise InterruptedError

        monkeypatch.setattr("anomalib_plus.inspector.building.build.Halving", stop)
        with pytest.raises(InterruptedError):
            build(options, **changes)
        return got

    return stopped


def test_images_of_one_part_are_drawn_together(options, compared):
    _, _, sources, *_ = compared(options, group_by=r"(\d)\.png")
    assert set(sources) < set("0123456789")


@pytest.mark.parametrize(
    ("changes", "most"),
    [({}, 200), ({"image_size": (256, 256)}, 50), ({"tile": 32}, 1600), ({"image_size": (900, 900), "tile": 512}, 8)],
)
def test_a_model_with_a_limit_of_pixels_trains_on_fewer_images_of_more_pixels(
    options, compared, tmp_path, changes, most
):
    bank = {"label": "Bank", "class_path": "x.Stub", "init_args": {"quality": 1.0}, "most_pixels": 200 * 128**2}
    (tmp_path / "bank.yaml").write_text(yaml.safe_dump({"models": [bank]}))
    (entry, *others), *_ = compared(options, models=(str(tmp_path / "bank.yaml"), *options.models), **changes)
    assert entry.data == {"most_training_images": most}
    assert [other.data for other in others] == [{}] * 3


def test_tiles_of_images_of_full_size(one):
    build(one, tile=32)
    info = read_bundle_info(one.output)
    assert info.tiles == {"tile": [32, 32], "overlap": 0.25, "scale": 1.0}
    assert (info.name, info.image_size) == ("Stub", (48, 48))
    jobs = [json.loads(file.read_text()) for file in (one.output / "work" / "jobs" / "jobs").glob("*.json")]
    descriptions = [job for job in jobs if "model" in job]
    assert {job["model"]["class_path"] for job in descriptions} == {"anomalib_plus.tiling.Tiled"}
    with pytest.raises(ValueError, match=r"--tile 64 is larger than the images \(48x48\)"):
        build(one, tile=64)


def test_a_dry_run_writes_nothing(options, capsys):
    arguments = ["--good", str(options.good), "--output", str(options.output), "--models", *options.models, "--dry-run"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "24 good images. 14 train, 5 select the model, 5 calibrate" in shown
    assert "3 of 3 candidates" in shown
    assert "20 minutes for 3 candidates in 1 round. About 55 %" in shown
    assert main([*arguments, "--minutes", "2", "--workers", "1"]) == 0
    assert "2 minutes for 3 candidates in 1 round. Too little: expect 2," in capsys.readouterr().out
    assert not options.output.exists()


def test_too_few_images_are_refused(options, capsys):
    for path in sorted(options.good.iterdir())[:5]:
        path.write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"19 usable images of good parts: 20 are the least.*\n  part_000.png is empty"
    ):
        main(["--good", str(options.good), "--output", str(options.output), "--dry-run"])


def test_what_would_mix_up_images_is_refused(options, tmp_path):
    with pytest.raises(ValueError, match="lies in the folder of images"):
        build(options, output=options.good / "inspector")
    for name in ("bad", "masks"):
        with pytest.raises(ValueError, match=rf"--{name} .* lies in the folder of good parts"):
            build(options, **{"bad": tmp_path / "bad", name: options.good / name})
    shutil.copytree(options.good, tmp_path / "bad")
    with pytest.raises(ValueError, match="24 images are both good and bad: "):
        build(options, bad=tmp_path / "bad")
    (tmp_path / "bad" / "part_000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 image of a bad part cannot be used; .*part_000.png is empty"):
        build(options, bad=tmp_path / "bad")
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / "roi.png")
    with pytest.raises(ValueError, match=r"roi.png is black, so nothing would be inspected"):
        build(options, roi=tmp_path / "roi.png")
    Image.fromarray(np.full((24, 48), 255, np.uint8)).save(tmp_path / "roi.png")
    with pytest.raises(ValueError, match=r"roi.png has 48x24 pixels, and 24 of 24 good images another size"):
        build(options, roi=tmp_path / "roi.png")
    assert not options.output.exists()


def test_packages_of_the_export_are_checked_before_the_training(options, monkeypatch):
    monkeypatch.setattr(argument_checks, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ValueError, match="--format openvino needs onnxscript: pip install onnxscript, or"):
        build(options)


def test_the_share_of_a_region_is_told(options, tmp_path):
    region = np.zeros((48, 48), np.uint8)
    region[:, :12] = range(1, 13)
    Image.fromarray(region).save(tmp_path / "roi.png")
    made = Build(replace(options, roi=tmp_path / "roi.png"), Console(file=io.StringIO()))
    made.plan()
    (told,) = [finding for finding in made.findings if finding.topic == "Region"]
    assert "leaves 25.0 % of the image" in told.seen
    assert "has 13 grey values: all but black counts" in told.decided


def test_a_copy_of_the_folder_uses_its_own_images(one, tmp_path):
    build(one)
    shutil.copytree(one.output, tmp_path / "copy")
    build(one, output=tmp_path / "copy")
    selection = json.loads((tmp_path / "copy" / "work" / "splits.json").read_text())["selection"]
    assert all(Path(entry["image"]).is_relative_to(tmp_path / "copy") for entry in selection)


def test_only_files_of_bundles_are_replaced(one):
    one.output.mkdir()
    for name in ("model.py", "model.onnx", "roi.png"):
        (one.output / name).write_text("before")
    build(one)
    assert (one.output / "model.py").read_text() == "before"
    assert not (one.output / "model.onnx").exists(), "of a build in another format"
    assert list(read_bundle_info(one.output).files) == ["model.bin", "model.xml"]


def test_two_builds_do_not_write_one_folder(options):
    from anomalib_plus.benchmark.store import ResultStore

    with (
        ResultStore(options.output / "work" / "jobs").claim("build"),
        pytest.raises(RuntimeError, match="Another build"),
    ):
        build(options)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--masks", "m"], "--masks belong to bad parts"),
        (["--roi", "no.png"], "no.png does not exist"),
        (["--false-alarms", "1"], "1 is not above 0 and below 1"),
        (["--minutes", "0"], "0 is not above 0"),
        (["--steps", "1.5"], "invalid integer value: '1.5'"),
        (["--image-size", "15", "64"], "15 is less than 16"),
        (["--tile", "1"], "1 is less than 16"),
        (["--seed", "-1"], "-1 is less than 0"),
        (["--seed", "4294967296"], "4294967296 is more than 4294967295"),
        (["--good", "nowhere"], "There is no folder nowhere"),
        (["--output", __file__], "is no folder or read-only"),
        (["--output", __file__ + "/below"], "is no folder or read-only"),
    ],
)
def test_wrong_arguments(options, extra, message, capsys):
    with pytest.raises(SystemExit):
        main(["--good", str(options.good), "--output", str(options.output), *extra])
    assert message in capsys.readouterr().err


COMMAND = """
import sys
sys.path.insert(0, {tests!r})
from anomalib_plus.benchmark import supervision
from anomalib_plus.inspector.building import finish
from anomalib_plus.inspector.building.command import main
supervision.JOB_MODULE = finish.MODULE = "stub_build"
sys.exit(main({arguments!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8])
def test_a_killed_build_goes_on(options, tmp_path, seconds):
    slow = {label: {**wish, "sleep": 0.5} for label, wish in SIX.items()}
    models = write_candidates(tmp_path / "slow.yaml", **slow)
    arguments = ["--good", str(options.good), "--output", str(options.output), "--models", models, "--steps", "3"]
    script = COMMAND.format(tests=str(TESTS), arguments=arguments)
    work = options.output / "work"
    first = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    while first.poll() is None and not (work / "splits.json").exists():
        time.sleep(0.05)
    time.sleep(seconds)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(1)  # its job notices
    subprocess.run([sys.executable, "-c", script], check=True)
    done = runs(options)
    assert len(set(done)) == 10
    again = Counter(done) - Counter(set(done)) - Counter(["Broken 3"])
    assert again.total() <= 1, "only what was running is repeated, and what had failed"
    assert read_bundle_info(options.output).choices[-1].startswith("Fast: ")
    check_page((options.output / "report.html").read_text())
