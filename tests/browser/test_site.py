"""The documentation site opens from disk: no console errors, nothing from the network, and the search finds a code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True, timeout=300)
    return folder


@pytest.mark.parametrize("page", ["index.html", "report.html", "api.html", "catalogue/loss.divergence.html"])
@pytest.mark.parametrize("size", [(1300, 900), (380, 780)])
def test_pages_open_from_disk(browser: Any, site: Path, page: str, size: tuple[int, int]) -> None:
    browser.show(dark=False, size=size)
    browser.open((site / page).as_uri())
    assert browser.run("return document.querySelector('h1').innerText.trim().length") > 0
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [line for line in browser.said() if "SEVERE" in line or "rror" in line] == []
    assert [address for address in browser.fetched() if address.startswith("http")] == []
    broken = "return [...document.images].filter(i => i.complete && i.naturalWidth === 0).map(i => i.src)"
    assert browser.run(broken) == []


def test_the_search_finds_a_code(browser: Any, site: Path) -> None:
    browser.show(dark=False, size=(1300, 900))
    browser.open((site / "index.html").as_uri() + "?q=divergence")
    field = browser.driver.find_element("css selector", "input.md-search__input")
    browser.run("arguments[0].focus(); arguments[0].value = 'divergence'", field)
    field.send_keys(" ")
    end = time.monotonic() + 30
    found = ""
    while "loss.divergence" not in found and time.monotonic() < end:
        found = browser.run("return document.querySelector('.md-search-result').innerText")
        time.sleep(0.2)
    assert "loss.divergence" in found
