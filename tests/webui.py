"""NNI's web page in a real browser, for the tests marked ``browser``.

The browser is the system's Chromium; nothing is downloaded. Every request that would leave this
machine is refused, so a test sees what a user without network sees (the icons are empty boxes
then, because NNI loads their font from a public site).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

ROUTES = {"overview": "oview", "detail": "detail", "experiments": "experiment"}
"""Names of NNI's pages in their addresses."""

# What each page contains once it is drawn.
_DRAWN = {
    "overview": ".overview",
    "detail": "#tableList",
    "experiments": "[data-automationid=DetailsRow]",
}

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_ROW = "#tableList [data-automationid=DetailsRow]"


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """Open a page in the system's Chromium; skip the test if there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"needs one of {names}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            page = chromium.new_page(viewport={"width": 1600, "height": 1100})
            page.route("**/*", _only_this_machine)
            yield page
        finally:
            chromium.close()


def _only_this_machine(route: Route) -> None:
    """Refuse every request that would leave the machine."""
    if urlsplit(route.request.url).hostname in ("localhost", "127.0.0.1"):
        route.continue_()
    else:
        route.abort()


def open_page(page: Page, port: int, which: str) -> None:
    """Open one page of an experiment, one of `ROUTES`, and wait until it is drawn."""
    page.goto(f"http://127.0.0.1:{port}/{ROUTES[which]}")
    page.wait_for_selector(_DRAWN[which])


def best_metric(page: Page) -> float:
    """Return the best metric that the overview page shows."""
    return float(page.locator(".bestMetric .focus-text").inner_text())


def trial_rows(page: Page) -> list[dict[str, str]]:
    """Return the rows of the detail page's trial table, from column title to text.

    The columns are "Trial No.", "ID", "Duration", "Status" and "Default metric", unless a user
    chose others. The table is set to show all trials and is scrolled through, because it draws
    only what is near the window.
    """
    table = page.locator("#tableList")
    table.locator(".ms-Dropdown").click()
    page.get_by_role("option", name="All items").click()
    page.wait_for_selector(_ROW)
    titles = dict(
        table.locator("[role=columnheader]").evaluate_all(
            "heads => heads.map(head => [head.dataset.itemKey, head.innerText.trim()])"
        )
    )
    num_rows = table.locator("[role=grid]").evaluate("grid => grid.ariaRowCount - 1")  # less head
    page.wait_for_function(
        """([selector, count]) => {
            const rows = document.querySelectorAll(selector);
            rows[rows.length - 1].scrollIntoView();
            return rows.length === count;
        }""",
        arg=[_ROW, num_rows],
    )
    return [
        {titles[key]: text for key, text in row if titles.get(key)}
        for row in page.locator(_ROW).evaluate_all(
            """rows => rows.map(row => Array.from(
                row.querySelectorAll("[data-automation-key]"),
                cell => [
                    cell.dataset.automationKey,
                    (cell.querySelector(".idCopy > div") ?? cell).innerText.trim(),
                ]))"""
        )
    ]


def trial_parameters(page: Page, trial_id: str) -> dict[str, Any]:
    """Return the parameters that the detail page shows for a trial."""
    details = open_trial(page, trial_id)
    details.get_by_role("tab", name="Parameters").click()
    tree = details.locator(".bgHyper > ul > li > ul")
    tree.wait_for()
    read = tree.evaluate(
        """list => {
            const read = list => Object.fromEntries(Array.from(list.children, item => {
                const nested = item.querySelector(":scope > ul");
                const label = item.querySelector("label").innerText.replace(/:$/, "");
                return [label, nested ? read(nested) : item.lastElementChild.innerText];
            }));
            return read(list);
        }"""
    )
    return dict(_decoded(read))


def _decoded(tree: Any) -> Any:
    """Return a tree with its leaves, which the page writes as JSON, as values."""
    if isinstance(tree, dict):
        return {key: _decoded(value) for key, value in tree.items()}
    return json.loads(tree)


def open_trial(page: Page, trial_id: str) -> Locator:
    """Unfold a trial in the table of the detail page, and return what becomes visible."""
    row = page.locator(_ROW).filter(has=page.get_by_text(trial_id, exact=True))
    details = row.locator("xpath=..").locator(".openRow")
    if details.count() == 0:
        row.locator("[data-automation-key=_expand] i").click()
    details.wait_for()
    return details


def parallel_axes(page: Page) -> dict[str, list[str]]:
    """Return the axes of the detail page's hyper-parameter chart, from title to tick labels.

    The chart shows only succeeded trials, and nothing before there is one.
    """
    page.get_by_role("tab", name="Hyper-parameter").click()
    page.wait_for_selector(".parcoords .dimension .label")
    axes = page.locator(".parcoords .dimension").evaluate_all(
        """axes => axes.map(axis => [
            axis.querySelector(".label").textContent,
            Array.from(axis.querySelectorAll(".tick text"), tick => tick.textContent)])"""
    )
    return dict(axes)


def lines_are_drawn(page: Page) -> bool:
    """Whether the hyper-parameter chart, once opened, has lines: it may have only axes."""
    return bool(
        page.locator(".parcoords canvas.foreground").evaluate(
            """canvas => canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height).data.some(byte => byte > 0)"""
        )
    )


def screenshot(page: Page, path: Path) -> None:
    """Save the whole page as a PNG file, scrolled to the top, where the headline belongs."""
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=path, full_page=True)
