from __future__ import annotations

import json
import math

from failguard.trials.results import Outcome, Replay, Trial, Verification


def test_results_survive_json() -> None:
    found = Verification(
        Outcome.VERIFIED,
        "It helped.",
        from_step=0,
        batches=3,
        original=Replay([1.0, math.inf], [1.0, None], [2.0], 1, 1.0, math.nan, "loss"),
        trials=[Trial("learning_rate_too_high", "with less", True, "with less it fell", Replay(after=0.5)), Trial("x")],
        remarks=["r"],
    )
    text = json.dumps(found.to_dict(), allow_nan=False)
    read = Verification.from_dict(json.loads(text))
    assert read.to_dict() == found.to_dict()
    assert read.original is not None
    assert math.isnan(read.original.after)
    assert read.outcome is Outcome.VERIFIED
    assert str(read.outcome) == "verified"
