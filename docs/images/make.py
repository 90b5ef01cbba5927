"""Make the README's pictures again: runs the demo, saves its table, photographs a report with headless Chromium.

python docs/images/make.py
"""

import re
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from failguard.demo import run_demo
from failguard.demo.run import results_table

HERE = Path(__file__).parent
BROWSER = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1000,1180"
)

with tempfile.TemporaryDirectory() as folder:
    results = run_demo(directory=folder)
    console = Console(record=True, width=166, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(results_table(results, console.width))
    picture = console.export_svg(title="failguard demo")
    picture = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", picture, flags=re.S)  # no fonts from the network
    (HERE / "demo-table.svg").write_text(picture)
    report = next(r.report for r in results if r.scenario.name == "learning rate far too high")
    page = Path(report.locations["local"]).resolve() / "failguard" / "report.html"
    target = f"--screenshot={HERE / 'report.png'}"
    subprocess.run([*BROWSER.split(), f"--user-data-dir={folder}/browser", target, page.as_uri()], check=True)
