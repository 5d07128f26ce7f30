"""The pages in a real browser, by mouse and by keys; left out where there is no Chromium."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from core.runs.workspace import Workspace
from ensembles.config import EnsembleConfig
from ensembles.ensemble import ensemble

pytestmark = pytest.mark.skipif(
    not (which("chromium") and which("chromedriver")),
    reason="needs Debian's chromium and chromium-driver",
)

ROOT = Path(__file__).parents[2]

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1280,900"),
)


@pytest.fixture(scope="module")
def address(whole: Workspace) -> Iterator[str]:
    """A running `browse` of the whole workspace, which has two ensembles for a while."""
    corpus = whole.open_corpus()
    second = ensemble(
        corpus,
        whole,
        # Of few concepts an image, so that it decides otherwise than the first.
        config=EnsembleConfig(stackers=("mean",), leave_one_out=False, floor=0.9, top=1, most=1),
        submit=False,
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("RADFUSE_TOKEN", None)
    process = subprocess.Popen(
        [sys.executable, "cli.py", "browse", "-w", str(whole.root), "--port", "0"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?key=\S+", line), process.stderr
    yield line
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    for path in sorted(second.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    second.folder.rmdir()
    (whole.root / "review.csv").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.binary_location = which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(which("chromedriver")))
    made.set_page_load_timeout(120)
    yield made
    made.quit()


@pytest.fixture
def page(driver: Any, address: str) -> Iterator[Any]:
    """The first page; afterwards nothing was refused by the policy and no script failed."""
    driver.set_window_size(1280, 900)
    open_page(driver, address)
    assert "key=" not in driver.current_url
    driver.get_log("browser")
    yield driver
    assert [e for e in driver.get_log("browser") if "heat/" not in e["message"]] == []


_READY = "return document.readyState === 'complete'"


def texts(page: Any, selector: str) -> list[str]:
    """Of all that fit, at one moment: a page may be giving way to the next one."""
    found: list[str] = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText.trim())",
        selector,
    )
    return found


def open_page(page: Any, address: str) -> None:
    """Open, and wait for the end: on a busy machine `get` returns from the middle of a page."""
    page.get(address)
    wait(page, lambda: page.execute_script(_READY))


def click(page: Any, selector: str) -> None:
    """Click, and wait for the page where that leads to another one."""
    found = page.find_element("css selector", selector)
    if found.tag_name == "a":
        _go(page, found)
    else:
        found.click()
    wait(page, lambda: page.execute_script(_READY))


def follow(page: Any, word: str) -> None:
    """Click on the link of this text, and wait for its page."""
    _go(page, page.find_element("link text", word))


def _go(page: Any, link: Any) -> None:
    before = page.current_url
    link.click()
    wait(page, lambda: page.current_url != before)
    wait(page, lambda: page.execute_script(_READY))


def wait(page: Any, true: Callable[[], object]) -> None:
    from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    passing = (JavascriptException, StaleElementReferenceException)  # a page that gives way
    WebDriverWait(page, 60, ignored_exceptions=passing).until(lambda _: true())


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def loaded(page: Any) -> bool:
    """Whether every picture in sight was shown."""
    return bool(
        page.execute_script(
            "return [...document.images].filter((i) => i.loading !== 'lazy' || i.complete)"
            ".every((i) => i.hidden || (i.complete && i.naturalWidth > 0))"
        )
    )


def test_a_stranger_clicks_through_every_page(page: Any) -> None:
    wait(page, lambda: loaded(page))
    assert len(page.find_elements("css selector", ".tile")) == 48
    click(page, "a[rel=next]")
    assert len(page.find_elements("css selector", ".tile")) == 16
    click(page, "a.tile")
    assert texts(page, "h1") == ["valid_08"]
    wait(page, lambda: loaded(page))
    assert "Nearest labelled images" in texts(page, "h2")
    click(page, ".concepts a")
    assert "Calibration" in texts(page, "h2")
    for word, title in (
        ("Concepts", "Concepts"), ("Categories", "Categories"),
        ("Compare", "Compare two ensembles or submissions"), ("Help", "Help"), ("Images", "Images"),
    ):  # fmt: skip
        follow(page, word)
        assert page.find_element("css selector", "h1").get_attribute("textContent") == title
    follow(page, "Categories")
    follow(page, "CT")
    assert {"Concepts", "Lowest F1"} <= {*texts(page, "h2")}


def test_the_concepts_most_often_missed_in_ct_are_three_steps_away(page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    follow(page, "Concepts")
    Select(page.find_element("name", "category")).select_by_value("DRCT")
    Select(page.find_element("name", "order")).select_by_value("missed")
    click(page, ".filters button")
    assert texts(page, "h1") == ["Concepts in CT"]
    missed = [int(t) for t in texts(page, "tbody td:nth-of-type(4)")]
    assert missed == sorted(missed, reverse=True)
    assert texts(page, "th[aria-sort=descending] a") == ["− Missed"]
    click(page, "th[aria-sort=descending] a")  # the other way round, and back
    assert [int(t) for t in texts(page, "tbody td:nth-of-type(4)")] == sorted(missed)
    click(page, "th[aria-sort=ascending] a")
    assert texts(page, "h1") == ["Concepts in CT"]
    click(page, "tbody td:nth-of-type(4) a")  # the images where the first was missed
    assert f"{missed[0]} image" in texts(page, ".found")[0]


def test_a_concept_is_completed_by_its_name(page: Any) -> None:
    field = page.find_element("name", "concept")
    field.send_keys("strip")
    wait(page, lambda: page.find_elements("css selector", "#completions option"))
    option = page.find_element("css selector", "#completions option")
    assert option.get_attribute("value") == "stripes (C3)"
    field.send_keys("\n")
    wait(page, lambda: "where stripes is true" in "".join(texts(page, ".found")))
    assert page.find_element("name", "concept").get_attribute("value") == "stripes (C3)"
    click(page, ".filters button")  # what the field shows is taken again
    assert "where stripes is true" in texts(page, ".found")[0]


def test_a_form_that_several_concepts_fit_stays_filled(page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("name", "category")).select_by_value("DRCT")
    Select(page.find_element("name", "role")).select_by_value("missed")
    page.find_element("name", "concept").send_keys("c\n")
    wait(page, lambda: texts(page, "h1") == ["Which concept is meant?"])
    assert Select(page.find_element("name", "category")).first_selected_option.text == "CT (DRCT)"
    name = texts(page, ".candidates a")[0]
    click(page, ".candidates a")
    assert f"where {name} was missed" in texts(page, ".found")[0]
    assert Select(page.find_element("name", "category")).first_selected_option.text == "CT (DRCT)"
    page.get_log("browser")  # that the first answer was a refusal


def test_keys_move_open_and_go_back(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def focused() -> str:
        return str(page.execute_script("return document.activeElement.textContent"))

    press(page, "j")
    assert "train_00" in focused()
    press(page, "j", Keys.ARROW_RIGHT, "k")
    assert "train_01" in focused()
    press(page, Keys.ARROW_DOWN)
    below = focused()
    press(page, Keys.ARROW_UP)
    assert "train_01" in focused()
    assert below != focused()
    press(page, Keys.ENTER)
    wait(page, lambda: texts(page, "h1") == ["train_01"])
    press(page, "j")
    wait(page, lambda: texts(page, "h1") == ["train_02"])
    press(page, Keys.ARROW_LEFT)
    wait(page, lambda: texts(page, "h1") == ["train_01"])
    press(page, "u")
    wait(page, lambda: len(page.find_elements("css selector", ".tile")) == 48)
    press(page, "n")
    wait(page, lambda: len(page.find_elements("css selector", ".tile")) == 16)
    press(page, "p")
    wait(page, lambda: len(page.find_elements("css selector", ".tile")) == 48)
    press(page, "/")
    assert page.execute_script("return document.activeElement.name") == "concept"
    press(page, "jk")  # letters in a field are letters
    assert page.find_element("name", "concept").get_attribute("value") == "jk"


def test_an_image_is_marked_by_keys_and_found_again(page: Any) -> None:
    click(page, "a.tile")
    press(page, "m")
    assert page.execute_script("return document.activeElement.name") == "mark"
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("name", "mark")).select_by_visible_text("label doubtful")
    from selenium.webdriver.common.keys import Keys

    page.find_element("name", "note").send_keys("two\nsides", Keys.CONTROL, Keys.ENTER)
    wait(page, lambda: "Marked (1)" in texts(page, "nav a") and page.execute_script(_READY))
    assert texts(page, ".steps .aside") == ["Marked: label doubtful"]
    assert page.find_element("name", "note").get_attribute("value") == "two\nsides"
    follow(page, "All marked images (1)")
    assert "label doubtful" in texts(page, ".tile")[0]
    assert texts(page, ".change") == ["two\nsides"]
    assert texts(page, "nav a[aria-current=page]") == ["Marked (1)"]


def test_a_heat_map_or_why_there_is_none_appears(page: Any) -> None:
    click(page, "a.tile")
    click(page, ".where")
    caption = "[data-heat-caption]"
    wait(page, lambda: "being computed" not in texts(page, caption)[0])
    assert re.search(r"speak most for .*evidence, no proof|heat map:", texts(page, caption)[0])
    is_shown = "speak most" in texts(page, caption)[0]
    assert page.find_element("css selector", "[data-scale]").is_displayed() == is_shown
    grey = "return getComputedStyle(document.querySelector('.stack img')).filter"
    assert page.execute_script(grey) == ("grayscale(1)" if is_shown else "none")
    if is_shown:  # the layer lies on the image, in the same shape
        wait(page, lambda: loaded(page))
        image, layer = page.execute_script(
            "return [...document.querySelectorAll('.stack img')]"
            ".map((i) => i.naturalWidth / i.naturalHeight)"
        )
        assert abs(image - layer) < 0.02


def test_two_ensembles_are_compared(page: Any) -> None:
    follow(page, "Compare")
    facts = texts(page, ".facts")[0]
    assert re.search(r"F1 of the first 0\.\d+, of the second 0\.\d+, on the 56 labelled", facts)
    page.find_element("css selector", ".differ summary").click()
    assert {"floor", "top", "most"} <= {*texts(page, ".differ th")}
    click(page, "#categories ~ .scroll tbody tr:last-child td:nth-last-child(2) a")
    heading = texts(page, "#images")[0]
    assert re.fullmatch(r"Images that changed in X-ray: \d+", heading)
    assert page.execute_script("return scrollY") > 0
    assert texts(page, "#moved")[0].endswith(" in X-ray")
    # An image of these: what changed, the next one, the other ensemble, and back.
    click(page, "#images ~ .grid .tile")
    n = heading.rpartition(" ")[2]
    assert texts(page, ".steps span") == [f"1 of {n} images that changed in X-ray"]
    assert "What the second changed" in texts(page, "h2")[0]
    first = texts(page, "h1")
    press(page, "j")
    wait(page, lambda: texts(page, "h1") != first and page.execute_script(_READY))
    assert texts(page, ".steps span") == [f"2 of {n} images that changed in X-ray"]
    from selenium.webdriver.support.ui import Select

    before = texts(page, ".facts")
    chosen = Select(page.find_element("name", "run"))
    other = next(o for o in chosen.options if not o.is_selected())
    name = other.get_attribute("value") or ""
    chosen.select_by_value(name)
    click(page, ".deciders button")
    wait(page, lambda: texts(page, ".facts") != before and page.execute_script(_READY))
    assert (
        Select(page.find_element("name", "run")).first_selected_option.get_attribute("value")
        == name
    )
    assert texts(page, ".steps span") == [f"2 of {n} images that changed in X-ray"]
    press(page, "u")
    wait(page, lambda: texts(page, "#images") == [heading])
    follow(page, "swap")
    wait(page, lambda: texts(page, ".facts")[0] != facts)


def test_every_field_and_picture_has_words_and_a_narrow_page_fits(page: Any) -> None:
    address = page.current_url
    for path in ("", "image?id=train_00", "concepts", "concept?cui=C3", "categories", "compare"):
        page.set_window_size(420, 900)
        open_page(page, address + path)
        wordless = page.execute_script(
            "return [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
            ".filter((e) => !e.labels.length)"
            ".concat([...document.images].filter((i) => !i.hidden && !i.alt))"
            ".concat([...document.querySelectorAll('a, button')]"
            ".filter((e) => !e.textContent.trim())).map((e) => e.outerHTML)"
        )
        assert wordless == [], path
        width = page.execute_script("return document.documentElement.scrollWidth")
        assert width <= page.execute_script("return window.innerWidth") + 1, path
