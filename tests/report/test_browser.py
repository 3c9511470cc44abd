"""report.html in a browser: filters, sorting, links, keyboard, themes, and data that stays text."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_shelleval.report.html import write_report
from tests.report.records import failed, record, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium (apt-get install chromium)"
)

EVIL = "</script><script>window.bad = 1</script><img src=x onerror='window.bad = 1'>\x1b[31mred\u202eabc"
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HANG = 180_000  # milliseconds, for a busy machine too: what takes longer never comes


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES, timeout=HANG)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    now, before = [], []
    for n in range(130):
        tags = ["git", "hard one"] if n % 10 == 0 else ["files"]
        seconds = {"durations": {"command": float(n)}}
        for model in ("small", "large"):
            bad = n % 3 == 0 and model == "small"
            make = failed(f"task-{n}", code=1, model=model, tags=tags, **seconds)
            good = record(f"task-{n}", model=model, tags=tags, **seconds)
            now.append(make if bad else good)
            before.append(good if n % 6 else make)
    now.append(
        failed(
            "evil",
            EVIL,
            3,
            model="small",
            task=EVIL,
            generated_command=EVIL,
            raw_response=EVIL,
            reasoning=EVIL,
            tags=[EVIL],
        )
    )
    now.append(record("lost", "error", model="small"))
    run = write_run(folder / "now", now)
    return write_report(run, baseline=write_run(folder / "before", before)).as_uri()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test on any console message, error or request."""
    context = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="light")
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith("file:") else said.append(r.url))
    page.set_default_timeout(HANG)
    yield page
    bad = page.evaluate("window.bad")
    context.close()
    assert bad is None
    assert said == []


def ids(page: Page) -> list[str]:
    return page.locator("#table tbody a.id").all_inner_texts()


# each of these waits: what a key, a click or a link does may come a moment later


def shows(page: Page, text: str) -> None:
    sync_api.expect(page.locator("#shown")).to_have_text(text, timeout=HANG)


def says(page: Page, selector: str, text: str) -> None:
    sync_api.expect(page.locator(selector)).to_contain_text(text, timeout=HANG)


def has(page: Page, selector: str, count: int) -> None:
    sync_api.expect(page.locator(selector)).to_have_count(count, timeout=HANG)


def becomes(page: Page, expression: str, value: str, *, reload: bool = False) -> None:
    deadline = time.monotonic() + HANG / 1000
    while (found := page.evaluate(expression)) != value:
        assert time.monotonic() < deadline, found
        if reload:
            page.reload()
        else:
            page.wait_for_timeout(20)


def test_filters(page: Page, report: str) -> None:
    page.goto(report)
    shows(page, "1 to 100 of 262")
    page.click(".statuses button.failed")
    shows(page, "1 to 45 of 45 (262 in all)")
    page.select_option("#f-tag", "git")
    shows(page, "1 to 5 of 5 (262 in all)")
    page.click("#clear")
    page.select_option("#f-model", "large")
    shows(page, "1 to 100 of 130 (262 in all)")
    page.click("#clear")
    page.select_option("#f-kind", "sandbox")
    assert ids(page) == ["lost"]
    page.click("#clear")
    page.fill("#q", "TASK-12 touch")
    says(page, "#shown", "of 22 ")
    page.fill("#q", "no such thing")
    says(page, "#shown", "No result")
    page.click("#clear")
    page.click("button.link.broken >> nth=0")
    assert set(page.locator("#table tbody td.c-change").all_inner_texts()) == {"broken"}
    page.reload()
    assert set(page.locator("#table tbody td.c-change").all_inner_texts()) == {"broken"}


def test_sorting_and_pages(page: Page, report: str) -> None:
    page.goto(report)
    page.click("[data-sort=task]")
    assert ids(page)[:4] == ["evil", "lost", "task-0", "task-0"]
    page.click("[data-sort=seconds]")
    page.click("[data-sort=seconds]")
    assert ids(page)[0] == "task-129"
    assert page.get_attribute("th.c-seconds", "aria-sort") == "descending"
    page.click("text=Last")
    shows(page, "201 to 262 of 262")
    has(page, "#table tbody tr", 62)


def test_deep_links_and_what_a_task_shows(page: Page, report: str) -> None:
    page.goto(report + "#task=task-3&model=small")
    page.wait_for_selector("dialog .body")
    assert page.locator("#detail-title").inner_text() == "task-3"
    text = page.locator("dialog").inner_text()
    for part in ("Baseline", "This run", "exit code 1", "Reply", "Timings", "touch task-3"):
        assert part in text
    assert re.search(r"\nshelleval reproduce \S+/now 'task-3\[small\]'\n", text)
    has(page, ".reasoning[open]", 0)
    has(page, ".sides .side", 2)
    page.click(".others a >> text=large")
    page.wait_for_selector("dialog .badge.passed >> nth=0")
    assert "model=large" in page.url
    page.goto(report + "#task=task-129")  # a task of another page of the table
    says(page, "#detail-title", "task-129")
    page.wait_for_selector("dialog .body")
    page.click("#close")
    has(page, "dialog[open]", 0)
    becomes(page, "document.activeElement.textContent", "task-129")
    page.goto(report + "#task=nobody")
    shows(page, "There is no task nobody")


def test_keyboard_alone(page: Page, report: str) -> None:
    page.goto(report)
    page.keyboard.press("/")
    becomes(page, "document.activeElement.id", "q")
    page.keyboard.type("task-11")
    says(page, "#shown", "of 22 ")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog .body")
    assert page.locator("dialog .row .tools").inner_text().split("\n")[1] == "2 of 22"
    page.keyboard.press("ArrowRight")
    says(page, "dialog", "3 of 22")
    page.evaluate("""() => { for (let i = 0; i < 2; i++) document.activeElement.dispatchEvent(
        new KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true})) }""")  # no time between
    says(page, "dialog", "1 of 22")
    page.keyboard.press("Escape")
    has(page, "dialog[open]", 0)
    becomes(page, "document.activeElement.className", "id")
    says(page, "#shown", "1 to 22 of 22")


def test_data_is_text(page: Page, report: str) -> None:
    page.goto(report + "#task=evil")
    page.wait_for_selector("dialog .body")
    page.click("dialog summary >> text=Reasoning")
    text = page.locator("dialog").inner_text()
    assert "</script><script>window.bad = 1</script><img src=x" in text
    assert "\\x1b[31mred\\u202eabc" in text
    has(page, "img", 0)
    whole = page.evaluate("document.body.innerText")
    assert not set(whole) & {"\x1b", "\u202e"}


def test_themes(page: Page, report: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.goto(report)
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    assert light != dark
    page.click("#theme")
    becomes(page, background, light)
    page.click("#theme")
    page.emulate_media(color_scheme="light")
    becomes(page, background, dark)
    page.reload()
    becomes(page, background, dark, reload=True)  # the browser keeps it a moment later
    page.emulate_media(media="print")
    becomes(page, background, "rgb(255, 255, 255)")


def test_narrow_windows_need_no_sideways_scrolling(page: Page, report: str) -> None:
    for address in (report, report + "#task=evil"):
        page.set_viewport_size({"width": 400, "height": 800})
        page.goto(address)
        page.wait_for_selector("#table tbody tr", state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.wait_for_selector("dialog .body")
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 400


def test_print_has_every_row(page: Page, report: str) -> None:
    page.goto(report)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    has(page, "#table tbody tr", 262)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    has(page, "#table tbody tr", 100)
