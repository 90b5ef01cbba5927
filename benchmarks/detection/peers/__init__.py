"""Other tools on the same programs, each at its documented defaults and in an environment of its own.

None of their code is here. An adapter wires a peer as its documentation shows, notes what it said and did, and
translates its words to our codes in one table, ``WORDS``. What a peer may mean by a word is read generously.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.detection.program import FRAMEWORKS

__all__ = ["PEERS", "Peer", "peer_watch"]


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes:
        name: As in tables and on the command line.
        adapter: Module beside this file with ``WORDS`` and ``watch(framework)``.
        frameworks: Whose programs it can watch.
        package: Distribution that it is in.
        pin: Version to install into its own environment; empty for what the main environment has already.
        wiring: How it was put to work, for readers of the table.
    """

    name: str
    adapter: str
    frameworks: tuple[str, ...]
    package: str
    pin: str
    wiring: str


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "arc-training",
            "arc_training",
            ("lightning", "torch"),
            "arc-training",
            "5.2.0.post1",
            "`Controller.step(loss)` in plain loops, its `LightningCallback` in Lightning; rolls back, halves the rate",
        ),
        Peer(
            "runmedic",
            "runmedic",
            FRAMEWORKS,
            "runmedic",
            "0.1.1",
            "`runmedic diagnose --json` on the logs of an unwatched run: the loss of each step (in Keras the running "
            "mean that it logs) and the metrics of each epoch",
        ),
        Peer(
            "trainpulse",
            "trainpulse",
            FRAMEWORKS,
            "trainpulse",
            "0.4.0",
            "`Monitor` with loss, rate and, in torch, gradient norm of each step; no step times, which mean little "
            "where a step takes milliseconds on a shared machine",
        ),
        Peer(
            "stabilityguard",
            "stabilityguard",
            ("torch",),
            "stabilityguard",
            "0.3.0",
            "`GuardedOptimizer` around the optimizer of a plain loop, `nan_action='skip'`; it is no torch optimizer, "
            "which Lightning asks for",
        ),
        Peer(
            "Keras TerminateOnNaN",
            "keras_terminate_on_nan",
            ("keras",),
            "keras",
            "",
            "one more callback",
        ),
        Peer(
            "Lightning EarlyStopping",
            "lightning_early_stopping",
            ("lightning",),
            "lightning",
            "",
            "`EarlyStopping('val_loss')`, whose `check_finite` is on; that its patience ran out is no alarm, but acts",
        ),
        Peer(
            "Lightning SpikeDetection",
            "lightning_spike_detection",
            ("lightning",),
            "lightning",
            "",
            "one more callback; it ends the run with an exception",
        ),
    )
}
"""Every peer by name."""


def peer_watch(name: str, framework: str) -> Any:
    """A new watch of a peer for one run of a program.

    Args:
        name: Of :data:`PEERS`.
        framework: Of the program.

    Raises:
        ValueError: There is no such peer, or it cannot watch programs of this framework.
    """
    if name not in PEERS:
        raise ValueError(f"no peer {name!r}; known are {', '.join(PEERS)}")
    peer = PEERS[name]
    if framework not in peer.frameworks:
        raise ValueError(f"{name} watches {', '.join(peer.frameworks)}, not {framework}")
    return import_module(f"{__name__}.{peer.adapter}").watch(framework)
