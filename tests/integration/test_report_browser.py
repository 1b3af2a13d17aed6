"""The report in a real Chromium: nothing is fetched, nothing complains, sorting and colours work, pictures are there.

Needs Selenium (``pip install ".[browser]"``) and Chromium with its driver (Debian: ``chromium`` and
``chromium-driver``); skipped elsewhere.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anomalib_plus.benchmark.protocol import METRICS
from anomalib_plus.benchmark.record import COSTS
from anomalib_plus.inspector.building.report import render
from anomalib_plus.report.command import main
from finished_build import finished_build
from synthetic_results import add_gallery, full_store, record, write_store

webdriver = pytest.importorskip("selenium.webdriver", reason="needs Selenium: pip install '.[browser]'")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs chromium and chromedriver in PATH", allow_module_level=True)

FLAGS = [f"--disable-{part}" for part in ("gpu", "quic", "background-networking", "component-update", "sync")]
FLAGS += ["--headless=new", "--no-sandbox", "--no-first-run", "--window-size=1280,900"]
LEADERBOARD = "document.querySelector('#leaderboard table')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    assert main([str(full_store(folder / "results")), "-o", str(folder / "report.html")]) == 0
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Any:
    """The report, freshly loaded, at the size of a desktop."""
    load(browser, address)
    return browser


def load(browser: Any, address: str) -> None:
    browser.get("about:blank")
    emulate(browser, "light", 1280)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)


def emulate(browser: Any, scheme: str, width: int) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def column(page: Any, index: int) -> list[str]:
    return page.execute_script(f"return Array.from({LEADERBOARD}.tBodies[0].rows, row => row.cells[{index}].innerText)")


def header(page: Any, index: int) -> Any:
    return page.execute_script(f"return {LEADERBOARD}.tHead.rows[0].cells[{index}]")


def background(page: Any) -> str:
    return page.execute_script("return getComputedStyle(document.body).backgroundColor")


def fetched(page: Any) -> list[str]:
    """Addresses of requests since the log was read, but those of embedded data."""
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url[:200] for url in sent if not url.startswith("data:")]


def test_it_loads_in_silence_and_fetches_nothing(page: Any, address: str) -> None:
    assert page.get_log("browser") == []
    assert fetched(page) == [address]


def test_every_picture_and_chart_has_a_size(page: Any) -> None:
    page.execute_script("document.querySelectorAll('details').forEach(box => box.open = true)")
    pictures = page.execute_script("return Array.from(document.images, i => [i.complete, i.naturalWidth, i.width])")
    assert len(pictures) > 100
    assert all(complete and natural > 0 and shown > 20 for complete, natural, shown in pictures)
    charts = page.execute_script(
        "return Array.from(document.querySelectorAll('figure.chart svg'), c => c.getBoundingClientRect().height)"
    )
    assert len(charts) > 30
    assert min(charts) > 100


def test_a_click_sorts_numbers_and_a_second_one_turns_them_around(page: Any) -> None:
    names, values = column(page, 0), column(page, 2)
    numbers = [float(value.split()[0]) for value in values[:-1]]
    assert numbers == sorted(numbers, reverse=True)
    button = header(page, 2).find_element("tag name", "button")
    button.click()
    assert header(page, 2).get_attribute("aria-sort") == "descending"
    button.click()
    assert header(page, 2).get_attribute("aria-sort") == "ascending"
    assert column(page, 2) == [*values[:-1][::-1], values[-1]]  # a model without results stays last
    assert column(page, 0) == [*names[:-1][::-1], names[-1]]
    announced = page.execute_script("return document.getElementById('announcer').textContent")
    assert announced.endswith("sorted by image AUROC, ascending")


def test_the_keyboard_reaches_and_sorts(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def active(script: str) -> Any:
        return page.execute_script(f"return document.activeElement{script}")

    page.switch_to.active_element.send_keys(Keys.TAB)
    assert active(".textContent") == "Skip to the content"
    assert active(".getBoundingClientRect().left") >= 0
    for _ in range(40):
        if active(".closest('th')?.cellIndex") == 0:
            break
        page.switch_to.active_element.send_keys(Keys.TAB)
    assert active(".textContent") == "model"
    assert page.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert column(page, 0) == sorted(column(page, 0))
    page.switch_to.active_element.send_keys(Keys.SPACE)
    assert column(page, 0) == sorted(column(page, 0), reverse=True)
    assert header(page, 0).get_attribute("aria-sort") == "descending"
    assert header(page, 2).get_attribute("aria-sort") is None


def test_colours_follow_the_system_until_they_are_chosen(page: Any) -> None:
    light = background(page)
    emulate(page, "dark", 1280)
    dark = background(page)
    assert light != dark
    button = page.find_element("css selector", "#theme button")
    button.click()
    assert (button.text, background(page)) == ("Colours: light", light)
    button.click()
    emulate(page, "light", 1280)
    assert (button.text, background(page)) == ("Colours: dark", dark)
    page.refresh()
    assert background(page) == dark
    page.find_element("css selector", "#theme button").click()
    assert background(page) == light


CONTRAST = """
const channels = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
const luminance = text => channels(text).map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => { for (; e; e = e.parentElement) {
  const colour = getComputedStyle(e).backgroundColor; if (!colour.endsWith(', 0)')) return colour; } };
const found = [];
for (const e of document.querySelectorAll('body *:not(script):not(svg *)')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
  const [a, b] = [luminance(getComputedStyle(e).color), luminance(behind(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) found.push(e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 30));
}
return found;
"""
LINES = """
const style = getComputedStyle(document.documentElement), probe = document.createElement('i'), found = [];
document.body.append(probe);
const luminance = name => { probe.style.color = style.getPropertyValue(name);
  return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number)
    .map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0); };
for (const name of ['--c0', '--c1', '--c2', '--c3', '--c4', '--c5', '--c6', '--c7', '--focus']) {
  const [a, b] = [luminance(name), luminance('--paper')].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 3) found.push(name);
}
probe.remove();
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_for_text_and_lines(page: Any, scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for what charts are drawn with."""
    emulate(page, scheme, 1280)
    page.execute_script("document.querySelectorAll('details').forEach(box => box.open = true)")
    assert page.execute_script(CONTRAST) == []
    assert page.execute_script(LINES) == []


def test_a_phone_scrolls_tables_not_the_page(page: Any) -> None:
    emulate(page, "light", 390)
    page.execute_script("document.querySelectorAll('details').forEach(box => box.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") == 390
    inner, outer = page.execute_script(
        f"const box = {LEADERBOARD}.parentElement; return [box.scrollWidth, box.clientWidth]"
    )
    assert inner > outer
    assert page.execute_script(f"return parseFloat(getComputedStyle({LEADERBOARD}).fontSize)") >= 14


def test_a_desktop_shows_every_column_and_the_heatmaps_early(browser: Any, tmp_path: Path) -> None:
    """All metrics and costs that the benchmark knows, with a spread, at 1,400 pixels."""
    metrics = dict.fromkeys(METRICS, 0.75)
    costs = dict.fromkeys(COSTS, 123456.0)
    records = []
    for label, variant in (
        ("EfficientAd", "random weights"),
        ("RamFAE", "narrow, learning_rate=0.002"),
        ("Fast", None),
    ):
        for seed, shift in enumerate((-0.25, 0.25)):
            shifted = {name: value + shift for name, value in metrics.items()}
            records.append(record(label, seed=seed, variant=variant, metrics=shifted, costs=costs))
            add_gallery(records[-1], tmp_path)
    write_store(tmp_path, records)
    assert main([str(tmp_path), "-o", str(tmp_path / "report.html")]) == 0
    emulate(browser, "light", 1400)
    browser.get((tmp_path / "report.html").as_uri())
    tables = browser.execute_script(
        "return Array.from(document.querySelectorAll('#leaderboard .scroll, #costs .scroll'),"
        " box => [box.querySelectorAll('th[scope=col]').length, box.scrollWidth, box.clientWidth])"
    )
    assert [columns for columns, _, _ in tables] == [len(METRICS) + 5, len(COSTS) + 1]
    assert [inner - outer for _, inner, outer in tables] == [0, 0]
    assert tables[0][2] > 1250, "the page uses the width"
    sections = browser.execute_script("return Array.from(document.querySelectorAll('section'), part => part.id)")
    assert sections[:2] == ["leaderboard", "heatmaps"]


def test_a_screenshot_is_no_blank(page: Any, tmp_path: Path) -> None:
    from PIL import Image

    assert page.save_screenshot(str(tmp_path / "report.png"))
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.width >= 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_the_threshold_of_a_build_moves_by_the_keyboard(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    file = tmp_path / "report.html"
    file.write_text(render(finished_build(tmp_path), tmp_path))
    load(browser, file.as_uri())
    counts, slider = browser.find_element(By.ID, "counts"), browser.find_element(By.ID, "cut")
    assert counts.text.startswith(
        "As built. Threshold 0.5000: 1 of 5 held-out good parts rejected (20.0 %, 95 % interval 0.5 to"
    )
    assert "1 of 5 synthetic defects missed" in counts.text
    assert browser.find_element(By.CSS_SELECTOR, ".legend svg").size["width"] < 50
    axis = [label.text for label in browser.find_elements(By.CSS_SELECTOR, "#histogram text")]
    assert axis == ["0.04", "score", "0.96"]
    slider.send_keys(Keys.ARROW_RIGHT)  # past the false alarm at 0.6
    assert "Threshold 0.6000: 0 of 5 held-out good parts rejected" in counts.text
    slider.send_keys(Keys.HOME)
    assert "5 of 5 held-out good parts rejected" in counts.text
    assert "0 of 5 synthetic defects missed" in counts.text
    assert counts.text.endswith("Of the calibration set, 5 of 5 rejected.")
    assert browser.find_elements(By.CSS_SELECTOR, "#accepted img") == []
    assert len(browser.find_elements(By.CSS_SELECTOR, "#rejected img")) == 4
    slider.send_keys(Keys.END)
    assert "5 of 5 synthetic defects missed" in counts.text
    browser.find_element(By.ID, "reset").send_keys(Keys.ENTER)
    assert counts.text.startswith("As built.")
    assert browser.get_log("browser") == []
    assert fetched(browser) == [file.as_uri()]
