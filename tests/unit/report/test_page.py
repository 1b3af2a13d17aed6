"""The HTML page stands alone, shows everything, and cannot be made to run or load what a record says."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomalib_plus.report import read_store
from anomalib_plus.report.gallery import GalleryLimits
from anomalib_plus.report.page import render_page
from anomalib_plus.report.summary import Summary
from synthetic_results import add_gallery, failed, merged, record, write_plan, write_store

PAPERS = {("Fast", "bolt", "image_auroc"): 0.95, ("Fast", "nut", "image_auroc"): 0.9}
SECTIONS = ["leaderboard", "heatmaps", "categories", "papers", "costs"]
SECTIONS += ["training", "curves", "scores", "failures", "protocol"]
VOID = {"meta", "link", "img", "br"}


class Elements(HTMLParser):
    """All elements with their attributes, and whether they are nested as they should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"script", "style"}:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def render(summary: Summary, papers: dict | None = None, limits: GalleryLimits | None = None) -> tuple[str, Elements]:
    page, missing = render_page(summary, papers or {}, limits or GalleryLimits(), "Benchmark")
    assert missing == 0
    return page, Elements(page)


def rendered(folder: Path, *records: dict[str, Any], limits: GalleryLimits | None = None) -> Elements:
    return render(Summary(read_store(write_store(folder, records))), limits=limits)[1]


def sections(elements: Elements) -> list[str | None]:
    return [section["id"] for section in elements.named("section")]


@pytest.fixture(scope="module")
def page(summary: Summary) -> str:
    return render(summary, PAPERS)[0]


@pytest.fixture(scope="module")
def elements(page: str) -> Elements:
    return Elements(page)


def test_the_page_refers_to_nothing_outside_itself(page: str, elements: Elements) -> None:
    assert re.findall(r"\w+://[^\s\"'<]*", page) == []
    assert re.findall(r"@import|url\(|//cdn", page) == []
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert {name for name, _ in elements.found} & {"iframe", "object", "embed", "base", "form"} == set()


def test_the_policy_allows_our_script_alone(page: str, elements: Elements) -> None:
    (policy,) = [meta["content"] for meta in elements.named("meta") if meta.get("http-equiv")]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_every_section_is_there_and_linked(elements: Elements) -> None:
    assert sections(elements) == SECTIONS
    links = [link["href"] for link in elements.named("a")]
    assert links[0] == "#content"
    assert {f"#{name}" for name in SECTIONS} <= set(links)


def test_structure_for_those_who_do_not_see_it(elements: Elements) -> None:
    names = [name for name, _ in elements.found]
    assert {"header", "nav", "main", "footer"} <= set(names)
    levels = [int(name[1]) for name in names if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    identities = [attributes["id"] for _, attributes in elements.found if attributes.get("id")]
    assert len(identities) == len(set(identities))
    referred = [attributes.get("aria-labelledby") or "" for _, attributes in elements.found]
    assert {name for text in referred for name in text.split()} <= set(identities)
    assert all(image["alt"] for image in elements.named("img"))
    assert all("aria-labelledby" in svg or svg.get("aria-hidden") for svg in elements.named("svg"))
    assert all(cell.get("scope") in {"row", "col"} for cell in elements.named("th"))
    assert len(elements.named("caption")) == len(elements.named("table"))
    assert elements.named("html")[0]["lang"] == "en"


def test_images_are_whole_and_small(summary: Summary, elements: Elements) -> None:
    pictures = elements.named("img")
    models = dict.fromkeys(summary.models("Fabrics"), 3 * 4 + 2 * 3) | {"TeacherStudent": 3 * 3 + 2 * 2}
    assert len(pictures) == (2 + 3) * sum(models.values()) - 18  # no run with seed 0 on one category of one model
    for attributes in pictures:
        with Image.open(BytesIO(base64.b64decode(attributes["src"].partition("base64,")[2]))) as picture:
            assert picture.size == (int(attributes["width"]), int(attributes["height"])) == (64, 64)
    small = render(summary, limits=GalleryLimits(per_kind=1, pixels=16))[1].named("img")
    assert {attributes["width"] for attributes in small} == {"16"}
    assert render(summary, limits=GalleryLimits(per_kind=0))[1].named("img") == []


def test_numbers_failures_and_protocol_are_shown(summary: Summary, elements: Elements) -> None:
    figure = summary.in_category("Parts", "Careful", "nut", "aupro")
    assert f"{100 * figure.mean:.1f} ± {100 * figure.std:.1f}" in elements.text
    assert "4 of 78 jobs failed" in elements.text
    assert "Hopeless on Parts gasket, seed 0: out_of_memory, loss is NaN at step 12" in elements.text
    assert "Error: CUDA out of memory" in elements.text
    for text in ("nearest, > 0.5", "256 × 256", "last epoch", "20 epochs", "net: abc"):  # noqa: RUF001
        assert text in elements.text


def test_the_page_is_the_same_for_the_same_results(summary: Summary, page: str) -> None:
    assert render(summary, PAPERS)[0] == page


HOSTILE = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def hostile_records(folder: Path) -> list[dict[str, Any]]:
    made = record(
        HOSTILE, HOSTILE, data=HOSTILE, variant=HOSTILE, started=HOSTILE, finished=HOSTILE,
        model={"class_path": HOSTILE, "arguments": {HOSTILE: HOSTILE}},
        protocol={HOSTILE: HOSTILE, "mask_rule": HOSTILE},
        environment={"device": HOSTILE, "git_commit": HOSTILE},
        metrics={HOSTILE: 0.5}, costs={HOSTILE + "s": 1.0},
    )  # fmt: skip
    add_gallery(made, folder)
    for entry in made["gallery"]:
        entry |= {"kind": HOSTILE, "path": HOSTILE}
    died = merged(failed(HOSTILE, HOSTILE, 1, HOSTILE), {"data": {"label": HOSTILE}, "error": {"kind": HOSTILE}})
    return [made, died]


def test_what_a_record_says_stays_text(tmp_path: Path) -> None:
    summary = Summary(read_store(write_store(tmp_path, hostile_records(tmp_path))))
    papers = {(HOSTILE, HOSTILE, "image_auroc"): 0.5}
    page, _ = render_page(summary, papers, GalleryLimits(), HOSTILE)
    elements = Elements(page)
    assert len(elements.named("script")) == 1
    assert all(attributes["src"].startswith("data:") for attributes in elements.named("img"))
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert elements.text.count(HOSTILE) > 30
    assert sections(elements) == SECTIONS


def test_images_that_are_missing_broken_or_elsewhere_are_named_not_read(tmp_path: Path) -> None:
    made = add_gallery(record(), tmp_path / "results")
    best, worst, chance, *_ = (entry["files"] for entry in made["gallery"])
    best["input"] = "artifacts/missing.png"
    (tmp_path / "results" / worst["overlay"]).write_text("no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    chance["mask"], chance["overlay"] = "../secret.png", str(tmp_path / "secret.png")
    summary = Summary(read_store(write_store(tmp_path / "results", [made])))
    page, missing = render_page(summary, {}, GalleryLimits(), "Benchmark")
    assert missing == 4
    assert page.count("image missing") == 4
    assert len(Elements(page).named("img")) == 18 - 4


def test_records_with_nothing_but_a_status(tmp_path: Path) -> None:
    kept = ("format", "job_id", "status", "seed", "model", "data")
    bare = {name: value for name, value in record().items() if name in kept}
    died = {name: value for name, value in failed("Other", "bolt", 0).items() if name in kept}
    summary = Summary(read_store(write_store(tmp_path, [bare, died | {"seed": None}])))
    _, elements = render(summary, PAPERS)
    assert sections(elements) == ["leaderboard", "categories", "failures", "protocol"]
    assert "the record gives no message" in elements.text


def test_odd_values_inside_records_leave_gaps(tmp_path: Path) -> None:
    odd = record(
        curves={"roc_image": {"x": [0, None, 1], "y": [0, 0.5, 1]}, "roc_pixel": None, "pro": {"x": None, "y": 3}},
        scores={"values": [0.1, None, 0.3], "labels": [0, 1, None]},
    ) | {"training": [{"epoch": 0, "train_loss": None}, {"epoch": 1}, None], "gallery": [{"kind": "best"}, 3]}
    shown = sections(rendered(tmp_path, odd))
    assert "training" not in shown
    assert {"curves", "scores", "heatmaps"} <= set(shown)


def test_a_page_of_an_unfinished_sweep_says_so(tmp_path: Path) -> None:
    made = [record(seed=seed) for seed in range(2)]
    planned = [*made, *(record("Slow", "nut", seed) for seed in range(3))]
    write_store(tmp_path, made)
    whole = render(Summary(read_store(tmp_path)))[1]
    write_plan(tmp_path, planned)
    part = render(Summary(read_store(tmp_path)))[1]
    assert "3 of 5 planned jobs have no result" in part.text
    assert sections(part)[-2:] == ["missing", "protocol"]
    assert {"href": "#missing"} in part.named("a")
    assert re.search(r"Slow\s+Parts\s+nut\s+0, 1, 2\s+3", part.text)
    assert "planned jobs5" in part.text
    for element in ("missing", "planned"):
        assert element not in whole.text


def test_good_parts_are_shown_with_the_decision_on_them(tmp_path: Path) -> None:
    made = add_gallery(record(threshold={"value": 0.5}), tmp_path)
    for entry, score in zip(made["gallery"], (0.9, 0.5, 0.7, 0.51, 0.1), strict=True):
        entry["score"] = score
    made["scores"] = {"values": [0.2, 0.51, 0.5, 0.9, 0.4, None], "labels": [0, 0, 1, 1, 1, 1]}
    elements = rendered(tmp_path, made)
    text = " ".join(elements.text.split())
    shown = [
        "good, highest score test/good/worst_good.png score 0.51, rejected, wrongly",
        "good, at random test/good/random_good.png score 0.1, accepted",
        "defective, lowest score test/scratch/worst.png score 0.5, accepted, wrongly",
        "defective, highest score test/scratch/best.png score 0.9, rejected",
        "defective, at random test/scratch/random.png score 0.7, rejected",
    ]
    places = [text.find(each) for each in shown]
    assert -1 not in places
    assert places == sorted(places)
    assert "1 of 2 good images is rejected, 2 of 3 defective ones accepted" in text
    assert sum(image["alt"].startswith("anomaly map") for image in elements.named("img")) == 5


def test_records_without_threshold_and_overlay_still_have_heatmaps(tmp_path: Path) -> None:
    made = add_gallery(record(), tmp_path)
    del made["threshold"]
    for entry in made["gallery"]:
        del entry["files"]["overlay"]
    elements = rendered(tmp_path, made)
    assert sum(image["alt"].startswith("anomaly map") for image in elements.named("img")) == 5
    assert "rejected" not in elements.text.replace("rejects", "")


def test_the_page_is_bounded_and_every_model_keeps_its_first_examples(tmp_path: Path) -> None:
    made = [add_gallery(record(label), tmp_path) for label in ("Fast", "Slow", "Third")]
    for each in made:
        each["gallery"] *= 2
    elements = rendered(tmp_path, *made, limits=GalleryLimits(per_kind=2, examples=18))
    assert elements.text.count("score 0.") == 18
    # All 15 first examples, then 3 second ones, those of the first kind.
    assert elements.text.count("worst_good.png") == 6
    assert elements.text.count("/best.png") == 3
    text = " ".join(elements.text.split())
    assert "12 examples are left out to keep the page small" in text


def test_short_trainings_are_named_beside_their_images(tmp_path: Path) -> None:
    short = add_gallery(record("Short", costs={"epochs": 3, "steps": 24}), tmp_path)
    long = add_gallery(record("Long", costs={"epochs": 300, "steps": 2400}), tmp_path)
    text = " ".join(rendered(tmp_path, short, long).text.split())
    assert text.count("short training: 3 epochs, 24 steps") == 1
    assert "what the models can do: Short (3 epochs, 24 steps)." in text
