"""How long ``failguard analyze`` takes for long logs, and what memory it needs. Linux only.

python benchmarks/long_logs.py [ROWS ...]

Writes benchmarks/results/long_logs.md and .json. Each log is a CSV file with a row a step, four columns of numbers, a
validation every 100,000 steps, and one NaN that must be found at its step.
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
ROWS = (100_000, 1_000_000, 10_000_000)
SCRIPT = """
import json, sys, time
from pathlib import Path
from failguard import analyze
started = time.perf_counter()
report = analyze(sys.argv[1])
seconds = time.perf_counter() - started
peak_kb = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
found = [report.root.code, report.root.step] if report.root else None
print(json.dumps({"seconds": round(seconds, 1), "peak_mb": round(peak_kb / 1024), "found": found}))
"""


def write_log(path: Path, rows: int) -> int:
    """A healthy course with one NaN; returns its step."""
    noise = random.Random(0)
    bad = int(0.765 * rows)
    with path.open("w") as file:
        file.write("epoch,step,train_loss,val_loss,grad_norm\n")
        for step in range(rows):
            loss = math.nan if step == bad else 2.3 * math.exp(-5 * step / rows) + noise.gauss(0, 0.01)
            validation = f"{loss + 0.1:.4f}" if step % 100_000 == 99_999 else ""
            file.write(f"{step // 100_000},{step},{loss:.5f},{validation},{1 + noise.random():.4f}\n")
    return bad


def main() -> None:
    results = []
    for rows in [int(argument) for argument in sys.argv[1:]] or ROWS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "metrics.csv")
            bad = write_log(path, rows)
            size_mb = round(path.stat().st_size / 1e6)
            done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True)
        result = {"rows": rows, "file_mb": size_mb, **json.loads(done.stdout)}
        assert result["found"] == ["loss.non_finite", bad], result
        results.append(result)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs"
    table = ["| rows | file, MB | seconds | peak memory, MB |", "|---|---|---|---|"]
    table += [f"| {r['rows']:,} | {r['file_mb']} | {r['seconds']} | {r['peak_mb']} |" for r in results]
    text = f"# failguard analyze on long logs\n\n{machine}\n\n" + "\n".join(table) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "long_logs.md").write_text(text)
    (RESULTS / "long_logs.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
