"""The section about resources: rows, advice, pages, pictures, comparison."""

from __future__ import annotations

from typing import Any

import pytest

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.finding import Status
from failguard.core.run_info import RunInfo
from failguard.report.advice import advice
from failguard.report.resource_plots import resource_plots
from failguard.report.resources import bill_rows, compare_rows, hang_texts, time_rows, usage_rows
from failguard.report.run_report import Compute, Overhead, Progress, RunReport


def report(**more: Any) -> RunReport:
    resources = {
        "bill": {
            "hours": 10.0,
            "gpus": 2,
            "gpu_hours": 20.0,
            "energy_kwh": 9.5,
            "energy_source": "counter",
            "cost": 60.0,
            "wasted_cost": 15.0,
            "gpu_utilization_percent": 35.0,
        },
        "time": {"phases_s": {"data_wait": 21960.0, "step": 10000.0, "validation": 3600.0, "failguard": 40.0}},
        "throughput": {"samples_per_s": 512.0, "steps_per_s": 16.0, "trend_percent": -12.0},
        "process_rss_bytes": {"peak": 3e9, "mean": 2e9},
        "gpus": [
            {
                "index": 0,
                "name": "Card",
                "memory_total_bytes": 80e9,
                "memory_used_bytes": {"peak": 20e9},
                "utilization_histogram": [5, 1, 0, 0, 0, 0, 0, 0, 0, 4],
            }
        ],
        "series": {
            "elapsed_s": [float(i) for i in range(10)],
            "gpu0_utilization_percent": [10.0, None, *[90.0] * 8],
            "process_rss_bytes": [1e9, 2e9, *[3e9] * 8],
        },
        **more.pop("resources", {}),
    }
    return RunReport(
        RunInfo("20250101-120000-aaaaaa", "", framework="lightning", run_name=more.pop("name", "wide")),
        status=Status.COMPLETED,
        progress=Progress(steps=576_000, duration_s=36_000.0),
        compute=Compute(used_h=10.0, wasted_h=more.pop("wasted_h", None)),
        overhead=Overhead(total_s=40.0, share=0.001),
        resources=resources,
        **more,
    )


def test_rows_say_what_it_cost_and_how_that_is_known() -> None:
    rows = dict(bill_rows(report().resources))
    assert rows["GPU-hours"] == "20 on 2 GPU(s)"
    assert rows["GPU energy"] == "9.5 kWh, from the cards' counters"
    assert rows["Cost"] == "60.00 (15.00 wasted)"
    times = dict(time_rows(report().resources))
    assert times["Waiting for data"].startswith("62 %")
    assert times["Speed at the end"] == "12 % slower than at the start"
    assert dict(usage_rows(report().resources)) == {"Memory of the process": "3 GB at most"}


def test_the_changes_that_help_most_come_first_with_their_evidence() -> None:
    remedy = "Load in the background: num_workers 0 -> 4, pin_memory=True, persistent_workers=True."
    diagnosis = Diagnosis("", (Cause("slow_input_pipeline", 0.9, (), remedy),))
    first, second = advice(report(diagnosis=diagnosis, wasted_h=3.0))
    assert first["change"] == remedy
    assert first["gain_share"] == pytest.approx(0.61)
    assert "61 %" in first["evidence"]
    assert "30 %" in second["evidence"]


def test_an_idle_gpu_with_memory_to_spare_asks_for_a_larger_batch() -> None:
    idle = report(resources={"time": {"phases_s": {"step": 36_000.0}}})
    (only,) = advice(idle)
    assert only["change"].startswith("Use a larger batch")
    assert "35 %" in only["evidence"]
    assert "25 %" in only["evidence"]


def test_a_run_without_waste_or_a_short_one_gets_no_advice() -> None:
    fine = report(
        resources={"time": {"phases_s": {"step": 36_000.0}}, "bill": {"hours": 10.0, "gpu_utilization_percent": 95.0}}
    )
    assert advice(fine) == []
    short = report()
    short.progress = Progress(steps=10, duration_s=5.0)
    assert advice(short) == []


def test_pages_have_the_section() -> None:
    hang = {
        "step": 7,
        "idle_s": 700.0,
        "stacks": {"MainThread": 'File "<b>x.py</b>", line 3'},
        "workers": [{"pid": 12, "state": "sleeping"}],
    }
    r = report(resources={"advice": [{"change": "Do <this>.", "evidence": "61 %."}], "hangs": [hang]})
    html = r.to_html()
    assert "Where the hours went" in html
    assert "Do &lt;this&gt;." in html
    assert "&lt;b&gt;x.py" in html
    assert html.count("<svg") >= 3
    markdown = r.to_markdown()
    assert "## Where the hours went" in markdown
    assert "| Cost | 60.00 (15.00 wasted) |" in markdown
    assert "Process 12 (state sleeping) at step 7, after 12 min without a step" in markdown


def test_pictures_in_words() -> None:
    titles = [p.title for p in resource_plots(report())]
    assert titles == [
        "Utilisation over time, in percent (seconds)",
        "Memory over time, in GB (seconds)",
        "How busy the GPUs were, in percent of the samples",
    ]
    histogram = resource_plots(report())[-1]
    assert "0 to 10 %: 50 %" in histogram.alt
    assert "90 to 100 %: 40 %" in histogram.alt


@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"bill": 3, "time": None, "throughput": [], "gpus": 3, "series": {"elapsed_s": 1}, "hangs": [3], "advice": 3},
        {"series": {"elapsed_s": [], "process_rss_bytes": []}, "hangs": {}, "gpus": [None, {}]},
    ],
)
def test_odd_records_are_shown_all_the_same(resources: dict[str, Any]) -> None:
    r = RunReport(RunInfo("a", "b"), resources=resources)
    assert r.to_html()
    assert r.to_markdown()
    assert hang_texts(resources) == []


def test_runs_are_compared_side_by_side() -> None:
    other = report(name="narrow", resources={"bill": {"hours": 1.0}})
    head, *rows = compare_rows([report(), other])
    assert head == ["", "wide", "narrow"]
    found = {row[0]: row[1:] for row in rows}
    assert found["Cost"] == ["60.00 (15.00 wasted)", "-"]
    assert found["Time"] == ["10.0 h", "60 min"]
