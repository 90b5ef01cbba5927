"""What people read: HTML and Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from failguard.core.finding import Finding, Severity
from failguard.core.run_info import RunInfo
from failguard.report.run_report import RunReport

REPORTS = ["failing", "healthy", "early_stop", "crashed"]
VOID = {"meta", "br", "link", "img", "hr", "input"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "x" * 10_000,
    "\U0001f600 \u202eevil\u202c \ud800 \x1b[31m",
    "{{ 7 * 7 }} {% raw %} ${x} $\\frac{1}{0$",
    "]]></style></svg><script>1</script>",
    "``` | # * _ [a](javascript:alert(1))",
    "",
]


class Page(HTMLParser):
    """Checks nesting and collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def assert_inert(page: Page) -> None:
    """Nothing runs and nothing is fetched."""
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "img")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert (value or "").startswith("#")


@pytest.mark.parametrize("name", REPORTS)
def test_pages_are_well_formed_and_inert(name, request):
    report = request.getfixturevalue(name)
    for html in (report.to_html(), report._repr_html_()):
        assert_inert(Page(html))
        assert "url(http" not in html
        assert "@import" not in html


def test_a_failing_page_says_everything(failing):
    text = " ".join(Page(failing.to_html()).text.split())
    for words in (
        "Stopped at step 52 of 900 planned: loss.divergence",
        "Lower the learning rate from 8 to 0.01.",
        "The loss is nan.",
        "loss.divergence at error stops the run.",
        "sink mlflow was switched off",
        "The metric val_acc was not logged.",
        "Steps between checks of gradients",
        "420 MB on average, 440 MB at most",
        "DigitsNet",
        "0.012 s in all",
        "trainer.precision",
        f"failguard_runs/{failing.run.record_id}",
        failing.fingerprint,
        "Configuration values that look wrong",
    ):
        assert words in text, words


def test_curves_are_described_in_words(failing):
    page = Page(failing.to_html())
    figures = [a["aria-label"] for tag, a in page.tags if tag == "figure"]
    assert len(figures) == 2
    assert "not finite from step 52" in figures[0]
    assert figures[1].startswith("Gradient norm per step")
    assert sum(tag == "svg" for tag, _ in page.tags) == 4, "each for a wide and for a narrow window"


def test_it_has_headings_a_language_and_a_viewport(failing):
    page = Page(failing.to_html())
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1
    assert tags.count("h2") >= 4
    assert dict(page.tags)["html"]["lang"] == "en"
    assert any(tag == "meta" and a.get("name") == "viewport" for tag, a in page.tags)
    assert "prefers-color-scheme: dark" in failing.to_html()


def test_a_healthy_page_is_short_and_calm(healthy):
    text = Page(healthy.to_html()).text
    assert "Completed, nothing wrong" in text
    for word in ("Possible causes", "Timeline", "Exception", "What to try", "error"):
        assert word not in text
    markdown = healthy.to_markdown()
    assert markdown.startswith("# Completed, nothing wrong\n\nNothing went wrong.")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_as_text(hostile, text):
    report = hostile(text)
    page = Page(report.to_html())
    assert_inert(page)
    fragment = Page(report._repr_html_())
    assert_inert(fragment)
    assert "\x1b" not in report.to_html()
    assert "\u202e" not in page.text
    assert "x" * 2000 not in re.sub(r"(?s)<pre>.*?</pre>", "", report.to_html())
    if "script" in text:
        assert "alert(1)" in page.text or "<script>1" in page.text
    report.to_html().encode("utf-8", "replace")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_in_markdown(hostile, text):
    markdown = hostile(text).to_markdown()
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", markdown)
    assert not re.search(r"(?<!\\)<script", outside)
    assert not re.search(r"(?<!\\)\]\(javascript", outside)
    assert "x" * 2000 not in outside
    for line in outside.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (2, 3, 5)


def test_a_trace_with_fences_stays_in_its_fence(crashed):
    from dataclasses import replace

    crashed.exception = replace(crashed.exception, trace="```\n# not a heading\n````\n")
    assert "`````text\n" in crashed.to_markdown()


@pytest.mark.parametrize(
    "report",
    [
        RunReport(RunInfo("", "")),
        RunReport.from_dict({}),
        RunReport.from_dict({"status": "failed"}),
        RunReport(RunInfo("a", "b"), history=[{}, {"name": "loss", "per": "step", "start": "x"}]),
        RunReport(RunInfo("a", "b"), best={"value": "odd"}, resources={"gpus": 3, "series": None}),
    ],
    ids=range(5),
)
def test_missing_and_odd_parts_are_survived(report):
    Page(report.to_html())
    assert report.to_markdown()
    assert report._repr_html_()


def test_without_matplotlib_the_page_still_comes(failing, monkeypatch):
    from failguard.report import plots

    def broken(report: RunReport) -> list[plots.Plot]:
        raise ImportError("DLL load failed <script>")

    monkeypatch.setattr(plots, "plots", broken)
    page = Page(failing.to_html())
    assert_inert(page)
    assert "The curves could not be drawn: ImportError: DLL load failed <script>" in page.text
    assert "Lower the learning rate" in page.text


def test_markdown_of_a_failing_run(failing):
    markdown = failing.to_markdown()
    assert markdown.startswith("# Stopped at step 52 of 900 planned: loss.divergence\n")
    for words in ("**What to try:** Lower", "## Possible causes", "## Timeline", "| Steps | 53 of 900", "## Remarks"):
        assert words in markdown


def test_findings_in_the_pictures_have_their_number_of_the_timeline(failing):
    page = Page(failing.to_html())
    text = " ".join(page.text.split())
    assert "1 loss.divergence 2 loss.non_finite" in text, "the legend"
    assert "error 1 loss.divergence root" in text, "the timeline"
    assert "error 2 loss.non_finite" in text


def test_similar_runs_are_a_table(failing):
    failing.similar_runs = [{"run_id": "abc", "cause": "learning_rate_too_high"}, {"run_id": "def", "steps": 3}, "odd"]
    page = Page(failing.to_html())
    assert "Similar earlier runs" in page.text
    assert "learning_rate_too_high" in page.text
    markdown = failing.to_markdown()
    assert "| Run id | Cause | steps |" in markdown or "| Run id | Cause | Steps |" in markdown
    assert "| abc | learning\\_rate\\_too\\_high |  |" in markdown


def test_memory_is_drawn_from_enough_readings(failing):
    times = [float(i) for i in range(20)]
    failing.resources["series"] = {"elapsed_s": times, "process_rss_bytes": [4e8 + 1e6 * t for t in times]}
    assert "Memory over time" in failing.to_html()
    failing.resources["series"] = {"elapsed_s": times[:3], "process_rss_bytes": [4e8, None, 4e8]}
    assert "Memory over time" not in failing.to_html()


SEEN = "The same failure as in 1 earlier run, the last one <b>x</b> of 2025-01-01."
EARLIER = {
    "run": "<b>x</b>",
    "date": "2025-01-01",
    "finding": "loss.divergence",
    "cause": None,
    "fixed_by": "lr 8 -> 0.01 in run y",
    "lessons": ["warm [up](http://a)", "then * go"],
    "run_id": "a" * 32,
    "match": "failure",
    "fixed_by_run_id": "b" * 32,
}


def test_what_was_seen_before_is_told_and_ids_are_for_programs(failing):
    failing.findings.append(Finding("run.repeat_of_failure", Severity.WARNING, 40, 0, SEEN))
    failing.similar_runs = [EARLIER, {**EARLIER, "fixed_by": None, "lessons": []}]
    page = Page(failing.to_html())
    assert_inert(page)
    assert SEEN in page.text
    assert "lr 8 -> 0.01 in run y" in page.text
    assert "warm [up](http://a); then * go" in page.text
    assert "a" * 32 not in page.text
    assert "Cause" not in page.text.split("Similar earlier runs")[1][:80], "nothing is known of it"
    markdown = failing.to_markdown()
    assert "- **Seen before:** The same failure as in 1 earlier run, the last one \\<b\\>x" in markdown
    assert "| Run | Date | Finding | Fixed by | Lessons |" in markdown
    assert "None" not in markdown.split("## Similar earlier runs")[1].split("##")[0]
