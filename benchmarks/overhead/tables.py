"""Results of the overhead benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.overhead.figures import EMPTY, TARGET_PERCENT
from benchmarks.overhead.watches import LEVELS, PEERS

__all__ = ["BEGIN", "END", "markdown", "put_into_readme", "readme", "verdict"]

BEGIN, END = "<!-- overhead: begin -->", "<!-- overhead: end -->"  # around the table in the README

HEADER = (
    "| program | step, ms | overhead, % (95 %) | CPU, % (95 %) | own account, us | own, % | threads, % | noise, % | "
    "<= 1 % |"
)
TITLES = {"frameworks": "The default guard", "levels": "Levels of detectors", "sizes": "Sizes of models"}
ABOUT = (
    "Several trainings in one process take turns of about 50 ms: two with an empty callback, the others watched, in "
    "steady state. *overhead* is of a typical step: the median, over rounds, of the median step of a watched turn over "
    "the mean of the two empty ones, with its 95 % bootstrap interval. *CPU* is the ratio of summed CPU times, sampled "
    "checks included. *own account* is what failguard says it took on the training thread, a step (operations inside a "
    "compiled Keras step are not in it); *threads* is the CPU time of its threads as a share of the time. *noise* is "
    "the control: one empty callback against the other. The verdict says `noise` unless interval and account agree."
)


def markdown(kept: Mapping[str, Any]) -> str:
    """All tables with what they were measured on."""
    lines = ["# What watching costs", "", ABOUT, ""]
    parts = kept["parts"]
    for part, title in TITLES.items():
        if part in parts:
            lines += [f"## {title}", "", _origin(parts[part]), "", *_table(parts[part]["rows"], part == "levels"), ""]
    if "sizes" in parts:
        lines += ["![Cost against parameters](overhead-sizes.svg)", ""]
    if "peers" in parts:
        lines += ["## Beside other tools", "", _origin(parts["peers"]), "", *_peers(parts["peers"]["rows"]), ""]
    if "constants" in parts:
        lines += [
            "## Beside the step",
            "",
            _origin(parts["constants"]),
            "",
            *_constants(parts["constants"]["found"]),
            "",
        ]
    return "\n".join(lines)


def readme(kept: Mapping[str, Any]) -> str:
    """The short table for the README."""
    rows = kept.get("parts", {}).get("frameworks", {}).get("rows", [])
    return "\n".join(
        [
            "| program | step, ms | overhead, % (95 %) | own account | <= 1 % |",
            "|---|---|---|---|---|",
            *(
                f"| {r['program']} | {r['step_ms']:.2f} | {_interval(r['overhead'])} | {r['own_us']:.1f} us, "
                f"{r['own_percent']:.2f} % | {verdict(r)} |"
                for r in rows
                if r["watch"] == "standard" and r.get("overhead") is not None and r.get("own_us") is not None
            ),
        ]
    )


def put_into_readme(kept: Mapping[str, Any], path: Path) -> None:
    """Put the short table between its marks in a file."""
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{path} has no marks {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{readme(kept)}\n{END}{after}")


def verdict(row: Mapping[str, Any]) -> str:
    """``yes`` or ``no`` where interval and account leave no doubt, else ``noise``."""
    overhead = row.get("overhead")
    if overhead is None:
        return "-"
    own = row.get("own_percent") or 0.0
    if overhead["high"] <= TARGET_PERCENT and own <= TARGET_PERCENT:
        return "yes"
    return "no" if overhead["low"] > TARGET_PERCENT or own > TARGET_PERCENT else "noise"


def _origin(entry: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in entry["versions"].items())
    threads = f"; {entry['threads']} thread(s)" if "threads" in entry else ""
    load = "" if entry.get("load_at_start") is None else f"; load {entry['load_at_start']:.1f} at the start"
    machine = f"{entry['machine']}; Python {entry['python']}, {versions}{threads}{load}"
    return f"{machine}; {entry['date']}. `{entry['command']}`"


def _table(rows: Sequence[Mapping[str, Any]], with_level: bool) -> list[str]:
    noise = {r["program"]: r["overhead"] for r in rows if r["watch"] == EMPTY[1]}
    lines = [HEADER, "|" + "---|" * (HEADER.count("|") - 1)]
    for r in rows:
        if r["watch"] in EMPTY:
            continue
        name = f"{r['program']}, {r['watch']}" if with_level else r["program"]
        if r.get("overhead") is None:
            lines.append(f"| {name} | {r.get('said', '')} |" + " |" * 7)
            continue
        lines.append(
            f"| {name} | {r['step_ms']:.2f} | {_interval(r['overhead'])} | {_interval(r['cpu'])} | "
            f"{_number(r.get('own_us'), 1)} | {_number(r.get('own_percent'), 2)} | "
            f"{_number(r.get('threads_percent'), 2)} | {_interval(noise.get(r['program']))} | {verdict(r)} |"
        )
    return lines


def _peers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Each tool at its documented defaults, with failguard's default guard taking turns in the same process. "
        "failguard does more than each of them; *cheaper* says whether it also costs less, where the intervals leave "
        "no doubt.",
        "",
        "| tool | program | tool, % (95 %) | tool, CPU % | failguard, % (95 %) | failguard, CPU % | cheaper | how |",
        "|---|---|---|---|---|---|---|---|",
    ]
    own: Mapping[str, Any] | None
    for i, r in enumerate(rows):
        if r["watch"] not in PEERS:
            continue
        peer = PEERS[r["watch"]]
        title = f"{r['watch']}{f' {peer.pin}' if peer.pin else ''}"
        own = next((o for o in rows[i + 1 : i + 3] if o["watch"] in LEVELS and o["program"] == r["program"]), None)
        if r.get("overhead") is None:
            lines.append(f"| {title} | {r['program']} | {r.get('said', '')} | | | | - | {peer.wiring} |")
            continue
        mine = own["overhead"] if own is not None else None
        cheaper = "-"
        if mine is not None:
            cheaper = "noise"
            if mine["high"] < r["overhead"]["low"]:
                cheaper = "yes"
            elif mine["low"] > r["overhead"]["high"]:
                cheaper = "no"
        lines.append(
            f"| {title} | {r['program']} | {_interval(r['overhead'])} | {r['cpu']['value']:+.1f} | {_interval(mine)} | "
            f"{'-' if own is None else format(own['cpu']['value'], '+.1f')} | {cheaper} | {peer.wiring} |"
        )
    return lines


def _constants(found: Mapping[str, Any]) -> list[str]:
    def rows() -> list[tuple[str, str, str]]:
        memory, loop, dead = found.get("memory", {}), found.get("loop memory", {}), found.get("dead server", {})
        start, table = found.get("starts", {}), []
        if "memory_grown_bytes" in memory:
            name = f"memory after {memory['steps']:,} steps"
            table.append((name, f"{memory['memory_grown_bytes'] / 1e6:.1f} MB more than after 1,000", "<= 20 MB"))
            table.append(
                (f"local record of {memory['steps']:,} steps", f"{memory['record_bytes'] / 1e6:.2f} MB", "<= 5 MB")
            )
        if "watched_grown_bytes" in loop:
            watched, plain = loop["watched_grown_bytes"] / 1e6, loop["plain_grown_bytes"] / 1e6
            what = f"{watched:.1f} MB; without the guard {plain:.1f} MB"
            table.append((f"memory, plain loop over {loop['steps']:,} steps", what, "<= 20 MB"))
        for name in ("tracking at 10 steps/s", "tracking at 10,000 steps/s"):
            if "calls_per_minute" in found.get(name, {}):
                f = found[name]
                what = f"{f['calls_per_minute']:.0f} calls a minute at {f['steps_per_s']:,.0f} steps/s"
                table.append(("calls to MLflow", what, "do not grow with the rate"))
        for name in ("refuses", "hangs"):
            if name in dead:
                d, alone = dead[name], dead["none"]
                what = (
                    f"{d['step_us'] - alone['step_us']:+.2f} us a step, {d['finish_s']:.1f} s to finish, "
                    f"{alone['finish_s']:.1f} s without a server"
                )
                table.append((f"a server that {name}", what, "nothing a step, <= 5 s to exit"))
        if "import_ms" in start:
            loads = ", ".join(start["import_loads"]) or "no framework"
            table.append(("`import failguard`", f"{start['import_ms']:.0f} ms, loads {loads}", "<= 60 ms"))
            what = f"{start['help_ms']:.0f} ms, of which Python's own start {start['python_alone_ms']:.0f} ms"
            table.append(("`failguard --help`", what, "<= 400 ms"))
        return table

    said = [f"- {name}: {f['said']}" for name, f in found.items() if "said" in f]
    lines = ["| what | found | goal |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows())]
    return [*lines, *(["", *said] if said else [])]


def _interval(values: Mapping[str, float] | None) -> str:
    return "-" if values is None else f"{values['value']:+.2f} ({values['low']:+.2f} to {values['high']:+.2f})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
