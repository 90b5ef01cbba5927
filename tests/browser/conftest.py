"""Debian's Chromium, driven by Selenium, with everything it says and fetches written down."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver")

TESTS = Path(__file__).parents[1]
reports = runpy.run_path(str(TESTS / "report" / "conftest.py"))
stores = runpy.run_path(str(TESTS / "integrations" / "mlflow" / "conftest.py"))

failing, healthy, crashed, hostile = (reports[name] for name in ("failing", "healthy", "crashed", "hostile"))
server, _empty_database = stores["server"], stores["_empty_database"]

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --hide-scrollbars --force-color-profile=srgb"
)
WIDE, PHONE = (1000, 900), (380, 780)


class Browser:
    """One window."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(60)

    def show(self, *, dark: bool, size: tuple[int, int]) -> None:
        """Set the colour scheme and the size of the window."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        width, height = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def open(self, address: str) -> None:
        """Open a page and forget what was said and fetched before."""
        self.said()
        self.fetched()
        self.driver.get(address)

    def said(self) -> list[str]:
        """Lines of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def fetched(self) -> list[str]:
        """Addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script's ``return``."""
        return self.driver.execute_script(script, *arguments)

    def photograph(self, path: Path) -> None:
        """The whole page as PNG."""
        height = min(int(self.run("return document.documentElement.scrollHeight")), 4000)
        width = int(self.run("return window.innerWidth"))
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.driver.save_screenshot(str(path))


@pytest.fixture(scope="session")
def _window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert shutil.which("chromium"), "no browser: run scripts/install_browser.sh"
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(_window: Browser) -> Browser:
    """The window, empty."""
    _window.driver.get("about:blank")
    _window.driver.switch_to.default_content()
    return _window
