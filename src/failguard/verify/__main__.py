"""``python -m failguard.verify CAPSULE RESULT``: the process in which trials run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from time import monotonic

from failguard.core.capsule import CapsuleInfo, read_info
from failguard.core.facts import Facts
from failguard.errors import FailGuardError
from failguard.report.run_report import RunReport
from failguard.trials.process import REPORT
from failguard.trials.results import Verification
from failguard.verify.trial import Capsule, try_remedies

START_S = 3.0  # kept back of the time, for the start of Python and the last words

END_S = 10.0  # after the time was up


def main() -> int:
    """Run the trials and write what they give."""
    parser = argparse.ArgumentParser(prog="failguard.verify")
    parser.add_argument("capsule", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--limit-s", type=float, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--replay-only", action="store_true")
    given = parser.parse_args()
    # Should the process that waits for this one be killed, nobody else would end a step that hangs.
    last = Timer(given.limit_s + END_S, os._exit, (3,))
    last.daemon = True
    last.start()
    until = monotonic() + max(given.limit_s - START_S, 1.0)

    def tell(found: Verification) -> None:
        """Write what is known, in one go: this process may be ended at any time."""
        text = json.dumps(found.to_dict(), allow_nan=False)
        temporary = given.result.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, given.result)

    try:
        info = read_info(given.capsule)
        report = RunReport.load(given.capsule / REPORT)
        capsule = _open(given.capsule, info, report.facts, given.device)
        if given.replay_only:
            _replay(capsule, info.accumulate_batches, until, tell)
        else:
            try_remedies(capsule, report, given.steps, until, tell)
    except FailGuardError as error:
        tell(Verification(reason=f"Nothing could be tried: {error}."))
    return 0


def _open(folder: Path, info: CapsuleInfo, facts: Facts, device: str) -> Capsule:
    if info.framework == "keras":
        from failguard.verify.replay_keras import KerasCapsule

        return KerasCapsule(folder, info, facts)
    from failguard.verify.replay_torch import TorchCapsule

    return TorchCapsule(folder, info, facts, device)


def _replay(capsule: Capsule, accumulate: int, until: float, tell: Callable[[Verification], None]) -> None:
    """The steps with the longest lead before the failure, as they were."""
    which = 1 if len(capsule.moments) > 1 else 0
    step, batches = capsule.moments[which]
    found = Verification(from_step=step, batches=batches)
    found.original = capsule.replay(which, None, -(-batches // accumulate), until)
    tell(found)


if __name__ == "__main__":
    sys.exit(main())
