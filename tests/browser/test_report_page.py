"""The report in a real browser: from disk, and in MLflow's own artifact viewer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from failguard.core.containment import Containment
from failguard.report.run_report import RunReport
from failguard.report.summary import summarize
from failguard.sinks.delivery import Delivery
from failguard.sinks.files import LocalRecord
from failguard.sinks.mlflow import MlflowSink

pytestmark = pytest.mark.browser

WIDE, PHONE = (1000, 900), (380, 780)
VIEWS = [
    pytest.param(False, WIDE, id="light"),
    pytest.param(True, WIDE, id="dark"),
    pytest.param(False, PHONE, id="phone-light"),
    pytest.param(True, PHONE, id="phone-dark"),
]
HOSTILE = [
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=\"document.title='owned'\">'",
    "x" * 10_000,
    "\U0001f600 \u202eevil\u202c",
    "]]></style></svg><script>document.title='owned'</script>",
]
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA

# Each element with text of its own: contrast of its colour with the first opaque background behind it (WCAG 2.2).
CONTRAST = """
const rgb = c => { const m = c.match(/[\\d.]+/g).map(Number); return [m[0], m[1], m[2], m.length > 3 ? m[3] : 1]; };
const light = c => { const f = v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
  return .2126 * f(c[0]) + .7152 * f(c[1]) + .0722 * f(c[2]); };
const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
  if (c[3] > .99) return c; } return [255, 255, 255, 1]; };
const bad = [];
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || e.closest('svg') || getComputedStyle(e).visibility === 'hidden' || e.classList.contains('alt')) continue;
  const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < arguments[0]) bad.push(`${ratio.toFixed(2)}: ${e.tagName} ${e.textContent.trim().slice(0, 40)}`);
}
return bad;
"""
# What sticks out of the page at its right, unless it can be scrolled there.
STICKS_OUT = """
const width = document.documentElement.clientWidth, out = [];
for (const e of document.querySelectorAll('body *')) {
  if (e.getBoundingClientRect().right <= width + 1) continue;
  let inside = false;
  const kept = ['auto', 'scroll', 'hidden'];
  for (let p = e; p; p = p.parentElement) inside ||= kept.includes(getComputedStyle(p).overflowX);
  if (!inside) out.push(e.tagName + ' ' + e.className);
}
return out;
"""


@pytest.fixture
def page(tmp_path: Path) -> Callable[[RunReport], str]:
    """Write a report; returns its address."""

    def write(report: RunReport) -> str:
        path = tmp_path / "report.html"
        path.write_bytes(report.to_html().encode("utf-8", "replace"))
        return path.as_uri()

    return write


def assert_quiet(browser: Any, address: str) -> None:
    assert browser.said() == []
    assert set(browser.fetched()) == {address}


@pytest.mark.parametrize(("dark", "size"), VIEWS)
@pytest.mark.parametrize("name", ["failing", "healthy", "crashed"])
def test_from_disk(browser: Any, page: Any, request: pytest.FixtureRequest, name: str, dark: bool, size: Any) -> None:
    report = request.getfixturevalue(name)
    address = page(report)
    browser.show(dark=dark, size=size)
    browser.open(address)
    headline = browser.run("return document.querySelector('h1').textContent.trim()")
    assert headline == summarize(report).headline
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 19, 25)") is dark
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run(STICKS_OUT) == []
    assert browser.run(CONTRAST, LEAST_CONTRAST) == []
    levels = browser.run("return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), "no level of headings is left out"
    assert browser.run(
        "return [...document.querySelectorAll('figure')].every(f => f.getAttribute('aria-label').length > 20)"
    )
    assert_quiet(browser, address)
    pictures = os.environ.get("FAILGUARD_PICTURES")
    if pictures and name != "crashed":
        browser.run("document.querySelectorAll('details').forEach(d => d.open = false)")
        view = f"{'phone' if size == PHONE else 'wide'}-{'dark' if dark else 'light'}"
        browser.photograph(Path(pictures) / f"{name}-{view}.png")


@pytest.mark.parametrize(("dark", "size"), VIEWS[::3])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_shown_as_text(
    browser: Any, page: Any, hostile: Any, text: str, dark: bool, size: Any
) -> None:
    address = page(hostile(text))
    browser.show(dark=dark, size=size)
    browser.open(address)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("return document.title") != "owned"
    assert browser.run("return document.querySelectorAll('script, img, iframe').length") == 0
    shown = browser.run("return document.querySelector('.answers').innerText")
    assert text.replace("\u202e", " ").replace("\u202c", "").split()[0][:200] in shown
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run(STICKS_OUT) == []
    assert_quiet(browser, address)


def test_in_print_everything_is_unfolded_and_light(browser: Any, page: Any, failing: RunReport) -> None:
    browser.show(dark=True, size=WIDE)
    browser.open(page(failing))
    content = "getComputedStyle(document.querySelector('details'), '::details-content').contentVisibility"
    assert browser.run(f"return {content}") == "hidden", "folded on the screen"
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert browser.run(f"return {content}") == "visible"
    heights = browser.run(
        "return [...document.querySelectorAll('details tr')].map(r => r.getBoundingClientRect().height)"
    )
    assert min(heights) > 10
    assert browser.run("return getComputedStyle(document.body).color") == "rgb(28, 36, 48)", "the ink of the light page"
    assert browser.run(CONTRAST, LEAST_CONTRAST) == []


@pytest.fixture
def run_in_mlflow(server: Any, failing: RunReport, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address, in a real MLflow server, of a report that failguard's own sink has delivered there."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    failing.run = RunReport.from_dict(failing.to_dict()).run
    delivery = Delivery([LocalRecord(), MlflowSink()], Containment())
    delivery.start(failing)
    delivery.finish(failing, wait_s=120)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server.uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    run = next(r for r in client.search_runs(experiments) if "failguard.status" in r.data.tags)
    base = f"{server.uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return f"{base}/artifacts/failguard/report.html?workflowType=machine_learning"


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come within {seconds:.0f} s")


@pytest.mark.parametrize(("dark", "size"), VIEWS)
def test_in_mlflow(browser: Any, run_in_mlflow: str, dark: bool, size: Any) -> None:
    driver = browser.driver
    browser.show(dark=dark, size=size if size == PHONE else (1400, 1000))
    browser.open(run_in_mlflow)
    frame = until(lambda: driver.find_elements("css selector", "iframe"), "MLflow's viewer")[0]
    assert "allow-same-origin" not in (frame.get_attribute("sandbox") or ""), "it is sandboxed"
    driver.switch_to.frame(frame)
    until(lambda: driver.find_elements("css selector", "h1"), "the report")
    assert browser.run("return document.querySelector('h1').textContent.trim()").startswith("Stopped at step 52")
    assert browser.run("return document.querySelectorAll('svg').length") >= 2
    assert (
        browser.run(
            "return [...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width > 100).length"
        )
        >= 2
    )
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 19, 25)") is dark
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run(CONTRAST, LEAST_CONTRAST) == []
    driver.switch_to.default_content()
    said = [line for line in browser.said() if "srcdoc" in line or "report.html" in line or "Security Policy" in line]
    assert said == []
    elsewhere = [u for u in browser.fetched() if not u.startswith(("http://127.0.0.1", "about:", "data:", "blob:"))]
    assert elsewhere == []
    pictures = os.environ.get("FAILGUARD_PICTURES")
    if pictures and size != PHONE:
        driver.save_screenshot(f"{pictures}/report-in-mlflow-{'dark' if dark else 'light'}.png")
