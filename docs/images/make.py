"""Make the README's pictures again: runs the demo, saves its table and diagnoses, photographs a report in Chromium.

python docs/images/make.py
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from failguard.demo import run_demo
from failguard.demo.run import DemoResult, results_table

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
BROWSER = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1000,1180"
)


def diagnosis(result: DemoResult) -> dict[str, object]:
    """What the README's table says of one training."""
    report = result.report
    best = next(iter(report.diagnosis.causes), None)
    return {
        "framework": result.framework,
        "training": result.scenario.name,
        "status": str(report.status),
        "finding": report.root.code if report.root else None,
        "step": report.root.step if report.root else None,
        "cause": best.code if best else None,
        "confidence": best.confidence if best else None,
        "evidence": best.evidence[:2] if best else None,
        "remedy": best.remedy if best else None,
    }


with tempfile.TemporaryDirectory() as folder:
    results = run_demo(directory=folder)
    console = Console(record=True, width=166, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(results_table(results, console.width))
    picture = console.export_svg(title="failguard demo")
    picture = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", picture, flags=re.S)  # no fonts from the network
    (HERE / "demo-table.svg").write_text(picture)
    (RESULTS / "demo.json").write_text(json.dumps([diagnosis(r) for r in results], indent=1) + "\n")
    report = next(r.report for r in results if r.scenario.name == "learning rate far too high")
    page = Path(report.locations["local"]).resolve() / "failguard" / "report.html"
    target = f"--screenshot={HERE / 'report.png'}"
    subprocess.run([*BROWSER.split(), f"--user-data-dir={folder}/browser", target, page.as_uri()], check=True)
