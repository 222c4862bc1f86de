"""The page as a browser shows it: Debian's Chromium through Playwright; axe-core judges how accessible it is."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

LAPTOP, PHONE = (1280, 900), (390, 844)
Scheme = Literal["light", "dark"]


@dataclass
class Visit:
    """The page in a window of its own, with all that the browser complained about and asked for."""

    window: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser(require: Callable[[object, str], None]) -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    require(chromium, "the page is looked at in Chromium, which is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(browser: Browser, page: Path) -> Iterator[Callable[..., Visit]]:
    """Opens the page in a window of a size and a colour scheme; the same window once only."""
    known: dict[tuple[tuple[int, int], Scheme], Visit] = {}

    def visit(size: tuple[int, int] = LAPTOP, scheme: Scheme = "light") -> Visit:
        if (size, scheme) not in known:
            window = browser.new_page(
                viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
            )
            window.set_default_timeout(300_000)  # [ms]: a machine may be busy
            visit = known[size, scheme] = Visit(window)
            window.on("console", lambda message: visit.complaints.append(message.text))
            window.on("pageerror", lambda error: visit.complaints.append(str(error)))
            window.on("requestfailed", lambda request: visit.complaints.append(request.url[:80]))
            window.on("request", lambda request: visit.requests.append(request.url))
            window.goto(page.as_uri())
        return known[size, scheme]

    yield visit
    for entry in known.values():
        entry.window.close()


def test_it_loads_without_a_complaint_and_no_request_leaves_the_machine(
    visit: Callable[..., Visit], page: Path
) -> None:
    visited = visit()
    assert visited.complaints == []
    loaded = [url for url in visited.requests if not url.startswith("data:")]
    assert loaded == [page.as_uri()]


def test_every_image_is_there(visit: Callable[..., Visit]) -> None:
    widths = visit().window.evaluate(
        """Promise.all([...document.querySelectorAll('img[src]')].map(
               image => image.decode().then(() => image.naturalWidth)))"""
    )
    assert len(widths) > 10
    assert min(widths) > 0


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_the_page_is_as_wide_as_its_window_also_with_everything_unfolded(
    visit: Callable[..., Visit], size: tuple[int, int]
) -> None:
    window = visit(size).window
    window.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    width = window.evaluate("document.documentElement.scrollWidth")
    window.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    assert width <= size[0]


def test_a_table_is_sorted_by_keyboard_and_says_so(visit: Callable[..., Visit]) -> None:
    window = visit().window
    table = window.locator("#table-2L_yields")
    head = table.locator("thead th").nth(2)

    def events() -> list[float]:
        cells = table.locator("tbody tr > :nth-child(3)").all()
        return [float(cell.get_attribute("data-sort") or "nan") for cell in cells]

    head.locator("button").focus()
    window.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert events() == sorted(events())
    window.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert events() == sorted(events(), reverse=True)
    assert events()[0] > events()[-1]


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_a_figure_is_enlarged_by_enter_with_its_links_and_escape_leads_back(
    visit: Callable[..., Visit], size: tuple[int, int]
) -> None:
    window = visit(size).window
    button = window.locator("#fig-2L_met_et button.zoom")
    viewer = window.locator("#viewer")
    small = button.locator("img").bounding_box()
    button.focus()
    window.keyboard.press("Enter")
    assert viewer.is_visible()
    large = viewer.locator("img").bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 1.5 * small["width"]
    assert viewer.locator("a", has_text="PDF").get_attribute("href") == "figures/2L_met_et.pdf"
    window.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert button.evaluate("button => button === document.activeElement")


def test_the_first_key_offers_to_skip_to_the_content(browser: Browser, page: Path) -> None:
    window = browser.new_page()
    window.set_default_timeout(300_000)
    window.goto(page.as_uri())
    window.keyboard.press("Tab")
    link = window.locator(":focus")
    assert link.inner_text() == "Skip to content"
    box = link.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert link.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
    window.keyboard.press("Enter")
    assert window.url.endswith("#main")
    window.close()


@pytest.mark.parametrize(("scheme", "low", "high"), [("light", 0.9, 1.0), ("dark", 0.0, 0.15)])
def test_light_and_dark_are_those_of_the_reader_and_both_are_accessible(
    visit: Callable[..., Visit], scheme: Scheme, low: float, high: float
) -> None:
    window = visit(LAPTOP, scheme).window
    paper = window.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) / 255 for part in paper.removeprefix("rgb(").removesuffix(")").split(","))
    assert low <= (red + green + blue) / 3 <= high
    # Contrast, texts for images, names of buttons, order of headings, language: the rules of WCAG 2 and best practice.
    found = Axe().run(window).response["violations"]
    assert [(rule["id"], [node["html"][:160] for node in rule["nodes"][:3]]) for rule in found] == []
