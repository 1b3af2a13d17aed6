"""Report of a build: what it says, the explorer's data, and that it needs no other file."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from anomalib_plus.inspector.building.report import candidate_table, render
from finished_build import finished_build


def explorer(page):
    return json.loads(re.search(r'<script id="explorer-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def test_an_inspector_that_misses_more_than_it_finds_is_named_as_such(tmp_path):
    outcome = finished_build(tmp_path)
    assert "do not rely on it" not in outcome.sentence()
    outcome.record["scores"] = {**outcome.record["scores"], "selection": [0.1, 0.2, 0.3, 0.8, 0.9]}
    assert "2 of 5 synthetic defects are found" in outcome.sentence()
    assert outcome.sentence().endswith(
        "do not rely on it. Give --tile for small defects, a larger --image-size, more images or more --minutes."
    )


def test_more_rejected_good_parts_than_the_threshold_is_set_for_are_named(tmp_path):
    outcome = finished_build(tmp_path)
    assert "than the threshold is set for:" not in outcome.sentence()
    outcome.record["scores"] = {**outcome.record["scores"], "originals": [0.9] * 4 + [0.1]}
    assert "4 of 5 held-out good parts are rejected (95 % interval 28.4 to 99.5 %" in outcome.sentence()
    assert outcome.sentence().endswith("than the calibration images show. Give images of more parts.")


def test_a_build_that_takes_far_longer_than_it_was_to_says_so(tmp_path):
    outcome = finished_build(tmp_path)
    outcome.options = replace(outcome.options, steps=None, minutes=5)
    assert [replace(outcome, seconds=seconds).delay() for seconds in (300, 360)] == ["", ""]
    assert replace(outcome, seconds=400).delay().startswith("\nIt took 6.7 minutes instead of 5")


def test_the_sentence_counts_what_was_held_back(tmp_path):
    sentence = finished_build(tmp_path).sentence()
    assert sentence == (
        "Swift: 1 of 5 held-out good parts is rejected (95 % interval 0.5 to 71.6 %; the threshold is set for 17 %), "
        "4 of 5 synthetic defects are found; Steady is level within the spread."
    )


def test_the_rate_is_that_of_the_parts(tmp_path):
    outcome = finished_build(tmp_path)
    assert outcome.rate == 1 / 6
    for entry in outcome.splits["calibration"][1:]:
        entry["part"] = "one"
    assert outcome.rate == 1 / 3
    assert "the threshold is set for 33 %" in outcome.sentence()


def test_several_images_of_a_held_out_part_are_one_trial(tmp_path):
    outcome = finished_build(tmp_path)
    outcome.record["scores"] = {**outcome.record["scores"], "originals": [0.9] * 4 + [0.1]}
    assert "It rejects more" in outcome.sentence()
    for entry in outcome.splits["originals"][:4]:
        entry["part"] = "one"
    for number, entry in enumerate(entry for entry in outcome.splits["selection"] if entry["label"]):
        entry["part"] = str(number // 2)  # five defects on three parts
    assert "4 of 5 held-out good images of 2 parts are rejected (95 % interval 7.6 to 100.0 %" in outcome.sentence()
    assert "It rejects more" not in outcome.sentence(), "one part is no evidence for that"
    data = explorer(render(outcome, tmp_path))
    assert data["good"] == "held-out good images of 2 parts"
    assert data["intervals"]["good"] == [list(outcome.interval(k)) for k in range(6)]
    assert data["intervals"]["good"][5] == [pytest.approx(0.025**0.5), 1.0]
    assert data["intervals"]["bad"][5] == [pytest.approx(0.025 ** (1 / 3)), 1.0]


def test_the_page_needs_no_other_file_and_has_everything(tmp_path):
    page = render(finished_build(tmp_path, "<b>&'"), tmp_path)
    assert not re.search(r"https?://|@import|url\(", page)
    assert {uri[:5] for uri in re.findall(r"""(?:src|href)=["']([^"'#][^"']*)""", page)} == {"data:"}
    assert "<b>" not in page
    for expected in ("Missed defects", "Good parts with the highest scores", "As built"):
        assert expected in page
    missed = page.split("Missed defects")[1].split("<h3>")[0]
    assert missed.count('<div class="pair">') == 1
    assert "accepted, wrongly" in missed


def test_the_explorer_has_every_image_once_with_its_score(tmp_path):
    data = explorer(render(finished_build(tmp_path, "<!--<script>"), tmp_path))
    assert len(data["items"]) == 15
    assert [item["score"] for item in data["items"]] == sorted(item["score"] for item in data["items"])
    assert sum(item["bad"] for item in data["items"]) == 5
    assert sum(item["score"] > data["threshold"] for item in data["items"] if not item["bad"]) == 1
    assert data["intervals"]["bad"][0][0] == 0
    assert len(data["intervals"]["good"]) == 6, "the calibration images are no test"
    kinds = Counter((item["kind"], item["calibration"]) for item in data["items"])
    assert kinds == {("good, calibration", True): 5, ("good, selection", False): 5, ("hole", False): 5}


def test_the_explorer_names_what_it_counts(tmp_path):
    outcome = finished_build(tmp_path)
    page = render(outcome, tmp_path)
    assert explorer(page)["defective"] == "synthetic defects"
    assert "synthetic defects, drawn onto held-out" in page
    outcome.options = replace(outcome.options, bad=tmp_path)
    page = render(outcome, tmp_path)
    assert explorer(page)["defective"] == "of your bad parts"
    assert "and your bad parts. No image trained the model" in page


def test_the_table_says_what_became_of_each_candidate(tmp_path):
    rows = {row[0].text: [cell.text for cell in row] for row in candidate_table(finished_build(tmp_path)).rows}
    fates = {label: row[-1] for label, row in rows.items()}
    assert fates == {
        "Swift": "chosen",
        "Steady": "level with the best",
        "Weak": "behind",
        "Out": "out after round 1",
        "Broken": "failed in round 1: crash: <oops>",
        "Absent": "left out: weights of x are not here",
    }
    assert rows["Swift"][1:4] == ["98.0", "98.0", "90.0 to 100.0"]
