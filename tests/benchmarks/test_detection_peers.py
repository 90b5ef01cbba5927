"""Peers of the detection benchmark: what they say is translated and counted fairly. No third-party peer is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from venv import EnvBuilder

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are no part of the package

from benchmarks.detection import tables
from benchmarks.detection.peers import PEERS, Peer, compare, environments, peer_watch, runmedic
from benchmarks.detection.peers.environments import NotInstallable, python_for
from benchmarks.detection.peers.judging import Verdict, peer_figures, verdict
from benchmarks.detection.peers.table import peer_table
from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch
from benchmarks.detection.program import PROGRAMS, Program, Run, Truth, half_of
from benchmarks.detection.scoring import Check, Score

from failguard.core.codes import FINDINGS

NAN, LOSS = float("nan"), 0.5
BLOWN = Truth(("loss.divergence",), ("learning_rate_too_high",), also=("loss.non_finite",))
FAULTY, HEALTHY = Check("faulty", 0.0), Check("healthy", 0.9)
THIRD_PARTY = [peer for peer in PEERS.values() if peer.pin]


def result(variant: str = "faulty", **keys: Any) -> dict[str, Any]:
    return {"program": "torch/a", "variant": variant, "seed": 0, "status": "completed", "findings": [], **keys}


def finding(*codes: str, severity: str = "error", step: int = 3, said: str = "word") -> dict[str, Any]:
    return {"code": codes[0], "codes": list(codes), "said": said, "severity": severity, "step": step}


class Optimizer:
    param_groups = [{"lr": 0.1}]


class Model:
    """Two parameters with gradients of norm 3 and 4, one without."""

    def parameters(self) -> list[Any]:
        grads = [SimpleNamespace(norm=lambda n=n: n) for n in (3.0, 4.0)]
        return [*(SimpleNamespace(grad=grad) for grad in grads), SimpleNamespace(grad=None)]


# Words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_words_are_translated_to_codes_that_exist(peer: Peer) -> None:
    words = import_module(f"benchmarks.detection.peers.{peer.adapter}").WORDS
    assert words
    for word, codes in words.items():
        assert codes, word
        assert set(codes) <= set(FINDINGS), word


def test_a_word_said_often_is_one_finding_at_its_first_step() -> None:
    watch = PeerWatch({"nan": NON_FINITE})
    watch.steps = 7
    watch.say("nan", "error")
    watch.steps = 8
    watch.say("nan", "error")
    (said,) = watch.seen()["findings"]
    assert (said["code"], said["step"], said["times"]) == ("loss.non_finite", 7, 2)
    json.dumps(watch.seen())


def test_the_root_is_the_first_loud_word() -> None:
    watch = PeerWatch({"nan": NON_FINITE, "flat": ("loss.plateau",), "spike": ("loss.spike",)})
    watch.say("nan", "error", 9)
    watch.say("spike", "warning", 4)
    watch.say("flat", "info", 1)
    assert watch.seen()["root"] == "loss.spike"
    assert PeerWatch({}).seen()["root"] is None


def test_an_unknown_word_is_an_alarm_that_names_nothing() -> None:
    watch = PeerWatch({})
    watch.say("gremlins", "error")
    judged = verdict(result(**watch.seen()), BLOWN, FAULTY)
    assert (judged.alarmed, judged.right_family) == (True, False)


# Verdicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "severity", "alarmed", "right"),
    [
        (("loss.divergence",), "error", True, True),
        (("gradient.exploding", "loss.divergence"), "warning", True, True),  # read generously
        (("loss.non_finite",), "error", True, True),  # an honest symptom
        (("metric.overfitting",), "warning", True, False),
        (("loss.divergence",), "info", False, False),
    ],
)
def test_a_right_family_is_a_loud_word_that_may_mean_the_fault(
    codes: tuple[str, ...], severity: str, alarmed: bool, right: bool
) -> None:
    judged = verdict(result(findings=[finding(*codes, severity=severity)]), BLOWN, FAULTY)
    assert (judged.alarmed, judged.right_family) == (alarmed, right)


def test_a_loss_that_was_seen_to_become_nan_may_be_called_so() -> None:
    said = result(findings=[finding(*NON_FINITE)])
    flat = Truth(("loss.no_learning",), ("learning_rate_too_low",))
    assert verdict(said, flat, Check("faulty", 0.0, first_bad=435)).right_family is True
    assert verdict(said, flat, FAULTY).right_family is False


def test_a_healthy_run_has_no_right_family() -> None:
    judged = verdict(result("fixed", findings=[finding("loss.spike", step=5)], actions=2), None, HEALTHY)
    assert (judged.alarmed, judged.right_family, judged.first_alarm_step, judged.actions) == (True, None, 5, 2)


def test_a_mutant_that_trains_well_is_not_judged_as_faulty() -> None:
    judged = verdict(result(findings=[finding("loss.divergence")]), BLOWN, Check("equivalent", 0.9))
    assert judged.right_family is None
    assert peer_figures([judged])["faulty"] == peer_figures([judged])["healthy"] == 0


def test_a_stop_is_no_breakage_but_an_error_is() -> None:
    stopped = verdict(result(status="stopped", error="TrainingSpikeException: 3"), BLOWN, FAULTY)
    broke = verdict(result(error="TypeError: outputs"), BLOWN, FAULTY)
    gone = verdict({"program": "torch/a", "variant": "fixed", "seed": 0, "crashed": "no end"}, None, HEALTHY)
    assert (stopped.broke, broke.broke, gone.broke) == ("", "TypeError: outputs", "no end")


def test_nothing_counts_where_a_peer_cannot_watch() -> None:
    judged = verdict(result(unusable="two optimizers", findings=[finding("loss.spike")]), BLOWN, FAULTY)
    assert (judged.unusable, judged.alarmed) == ("two optimizers", False)
    assert judged.to_dict()["unusable"] == "two optimizers"
    assert "right_family" not in judged.to_dict()


def test_figures_count_usable_runs_only() -> None:
    verdicts = [
        Verdict("a", "faulty", alarmed=True, right_family=True),
        Verdict("b", "faulty", alarmed=True, right_family=False),
        Verdict("c", "faulty", right_family=False, broke="TypeError"),
        Verdict("d", "faulty", unusable="framework"),
        Verdict("e", "healthy", alarmed=True, actions=4),
        Verdict("f", "healthy", actions=1),
        Verdict("g", "healthy"),
        Verdict("h", "weak", alarmed=True),
    ]
    assert peer_figures(verdicts) == {
        "runs": 8,
        "usable": 7,
        "broke": 1,
        "faulty": 3,
        "faulty_alarmed": 2,
        "right_family": 1,
        "healthy": 3,
        "healthy_alarmed": 1,
        "healthy_acted_on": 2,
    }


# Adapters, with stand-ins for the packages ------------------------------------------------------------------


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_arc_skips_an_update_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Controller:
        def __init__(self, model: Any, optimizer: Any) -> None:
            calls.append((model, optimizer))

        def step(self, loss: float) -> Any:
            bad = loss != loss
            kind = "nan_loss" if bad else None
            return SimpleNamespace(failure_type=kind, should_skip=bad, rolled_back=bad, lr_reduced=False)

        def close(self) -> None:
            calls.append("closed")

    stand_in(monkeypatch, "arc", Controller=Controller)
    watch = peer_watch("arc-training", "torch")
    with watch.loop("model", "optimizer") as guard:
        assert [guard.step(loss=loss, batch=None) for loss in (LOSS, NAN, LOSS)] == [True, False, True]
        guard.end_epoch(val_loss=1.0)
    seen = watch.seen()
    assert calls == [("model", "optimizer"), "closed"]
    assert (seen["findings"][0]["said"], seen["findings"][0]["step"]) == ("nan_loss", 1)
    assert (seen["actions"], seen["steps"]) == (1, 3)


def test_stabilityguard_does_the_update_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class GuardedOptimizer:
        total_spikes = step_count = 0

        def __init__(self, optimizer: Any, model: Any, log_dir: str) -> None:
            self.folder = Path(log_dir)

        def step(self) -> None:
            self.step_count += 1
            if self.step_count > 1:
                self.total_spikes += 1
                layers = ["0"] if self.step_count == 3 else []
                (self.folder / f"spike_step{self.step_count}.json").write_text(json.dumps({"nan_layers": layers}))

        def close(self) -> None: ...

    stand_in(monkeypatch, "stabilityguard", GuardedOptimizer=GuardedOptimizer)
    watch = peer_watch("stabilityguard", "torch")
    with watch.loop(Model(), Optimizer()) as guard:
        assert not any(guard.step(loss=LOSS) for _ in range(3))
    seen = watch.seen()
    assert [(f["said"], f["severity"], f["step"]) for f in seen["findings"]] == [
        ("spike", "warning", 1),
        ("nan", "error", 2),
    ]
    assert seen["actions"] == 2


@pytest.mark.parametrize("name", ["arc-training", "stabilityguard"])
def test_a_peer_of_one_optimizer_says_so_and_lets_the_loop_run(name: str) -> None:
    watch = peer_watch(name, "torch")
    with watch.loop(Model(), [Optimizer(), Optimizer()]) as guard:
        assert guard.step(loss=LOSS)
    assert "one optimizer" in watch.seen()["unusable"]


def test_trainpulse_is_fed_loss_gradient_norm_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []

    class Monitor:
        def log(self, name: str, step: int, value: float) -> list[Any]:
            logged.append((name, step, value))
            if name != "grad_norm":
                return []
            severity = SimpleNamespace(value="critical" if step else "warning")
            return [SimpleNamespace(detector="gradient", severity=severity, step=step)]

    stand_in(monkeypatch, "trainpulse", Monitor=Monitor)
    watch = peer_watch("trainpulse", "torch")
    with watch.loop(Model(), Optimizer()) as guard:
        assert all(guard.step(loss=LOSS) for _ in range(2))
        guard.end_epoch(val_loss=1.0)
    assert logged == [
        (name, step, value)
        for step in range(2)
        for name, value in (("loss", LOSS), ("grad_norm", 5.0), ("learning_rate", 0.1))
    ]
    assert [(f["code"], f["severity"]) for f in watch.seen()["findings"]] == [
        ("gradient.vanishing", "warning"),
        ("gradient.exploding", "error"),
    ]


def test_runmedic_reads_the_log_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    found = [
        {"check": "non_finite", "severity": "critical", "step": 1.0},
        {"check": "no_learning", "severity": "warning", "step": None},
    ]

    def run(command: list[str], **_: Any) -> Any:
        assert command[:4] == [sys.executable, "-m", "runmedic", "diagnose"]
        rows.extend(json.loads(line) for line in Path(command[4]).read_text().splitlines())
        return subprocess.CompletedProcess(command, 0, json.dumps([{"findings": found}]), "")

    monkeypatch.setattr(runmedic.subprocess, "run", run)
    watch = peer_watch("runmedic", "torch")
    with watch.loop(Model(), Optimizer()) as guard:
        guard.step(loss=LOSS)
        guard.step(loss=2 * LOSS)
        guard.end_epoch(val_loss=1.0)
    seen = watch.seen()
    assert rows == [{"step": 0, "train_loss": 0.5}, {"step": 1, "train_loss": 1.0}, {"step": 1, "val_loss": 1.0}]
    assert [(f["said"], f["severity"], f["step"]) for f in seen["findings"]] == [
        ("non_finite", "error", 1),
        ("no_learning", "warning", 2),
    ]


def test_a_run_that_logs_nothing_cannot_be_read() -> None:
    assert peer_watch("runmedic", "torch").seen()["unusable"] == "nothing is logged"


def test_an_unknown_peer_or_framework_is_named() -> None:
    with pytest.raises(ValueError, match="no peer 'nobody'; known are arc-training"):
        peer_watch("nobody", "torch")
    with pytest.raises(ValueError, match="stabilityguard watches torch, not keras"):
        peer_watch("stabilityguard", "keras")


# Built-ins, with their frameworks ---------------------------------------------------------------------------


@pytest.mark.framework
@pytest.mark.parametrize("bad", [False, True])
def test_keras_stops_on_a_loss_that_is_not_finite(bad: bool) -> None:
    import keras
    import numpy as np

    x = np.ones((40, 1), "float32")
    if bad:
        x[20:] = np.nan
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    watch = peer_watch("Keras TerminateOnNaN", "keras")
    model.fit(x, np.ones(40), batch_size=10, epochs=2, shuffle=False, verbose=0, callbacks=watch.callbacks)
    seen = watch.seen()
    assert [(f["said"], f["step"]) for f in seen["findings"]] == ([("invalid loss", 2)] if bad else [])
    assert (seen["status"], seen["actions"]) == (("stopped", 1) if bad else ("completed", 0))


def lightning_run(name: str, losses: list[float]) -> dict[str, Any]:
    """What a peer says about a fit with these losses, an epoch a value, reached in the middle of the epoch."""
    import lightning as L
    import torch
    from torch.utils.data import DataLoader

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return 0 * self.weight + losses[self.current_epoch if batch_idx > 1 else 0]

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", torch.tensor(losses[self.current_epoch]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    watch = peer_watch(name, "lightning")
    trainer = L.Trainer(
        max_epochs=len(losses),
        callbacks=watch.callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.zeros(4, 1), batch_size=1)
    with ExitStack() as stack:
        if "Spike" in name and max(losses, key=lambda v: v if v == v else 1e9) > 1:
            stack.enter_context(pytest.raises(RuntimeError, match="Training spike"))
        trainer.fit(Module(), loader, loader)
    return watch.seen()


@pytest.mark.framework
@pytest.mark.parametrize(
    ("name", "losses", "said", "severity", "status"),
    [
        ("Lightning EarlyStopping", [1.0, 0.9, NAN, 0.8], "NON_FINITE_METRIC", "error", "stopped"),
        ("Lightning EarlyStopping", [1.0] * 6, "PATIENCE_EXHAUSTED", "info", "stopped"),
        ("Lightning EarlyStopping", [1.0, 0.9, 0.8], None, None, "completed"),
        ("Lightning SpikeDetection", [1.0, 1.0, 50.0], "training spike", "error", "stopped"),
        ("Lightning SpikeDetection", [1.0, 0.9, 0.8], None, None, "completed"),
    ],
)
def test_lightning_built_ins_are_heard(
    name: str, losses: list[float], said: str | None, severity: str | None, status: str
) -> None:
    seen = lightning_run(name, losses)
    assert [(f["said"], f["severity"]) for f in seen["findings"]] == ([(said, severity)] if said else [])
    assert seen["status"] == status


# Environments -----------------------------------------------------------------------------------------------


def test_what_the_main_environment_has_runs_in_it() -> None:
    assert python_for(PEERS["Keras TerminateOnNaN"]) == sys.executable


def test_third_party_peers_are_pinned() -> None:
    assert {peer.name for peer in THIRD_PARTY} == {"arc-training", "runmedic", "trainpulse", "stabilityguard"}


def test_a_failed_install_says_why_and_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tries: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        tries.append(command)
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no matching distribution\nhint")

    monkeypatch.setattr(environments.subprocess, "run", run)
    monkeypatch.setattr(EnvBuilder, "create", lambda self, home: None)
    for _ in range(2):
        with pytest.raises(NotInstallable, match=r"^no matching distribution$"):
            python_for(PEERS["runmedic"], tmp_path)
    assert len(tries) == 2
    assert tries[0][-2:] == ["--no-deps", "runmedic==0.1.1"]


def test_an_installed_peer_is_not_installed_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environments.subprocess, "run", lambda *a, **k: pytest.fail("installed again"))
    (tmp_path / "runmedic").mkdir()
    (tmp_path / "runmedic" / "installed.txt").write_text("runmedic==0.1.1")
    assert Path(python_for(PEERS["runmedic"], tmp_path)).is_relative_to(tmp_path / "runmedic")


def test_an_environment_sees_its_own_packages_before_those_of_the_main_one(tmp_path: Path) -> None:
    home = tmp_path / "peer"
    EnvBuilder(with_pip=False).create(home)
    environments._add_main_packages(home)
    (own,) = home.glob("lib/python*/site-packages")
    (own / "numpy.py").write_text("mine = True")
    code = "import numpy, pytest; print(numpy.mine, pytest.__file__)"
    said = subprocess.run([home / "bin" / "python", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", pytest.__file__]


# Comparing --------------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two programs of the report half in two frameworks, one of the other half; two seeds each."""
    stems = {half: next(s for s in "abcdefgh" if half_of(s) == half) for half in ("report", "calibration")}
    monkeypatch.setattr("benchmarks.detection.program.PROGRAMS", PROGRAMS)
    for name in list(PROGRAMS):
        monkeypatch.delitem(PROGRAMS, name)
    names = [f"torch/{stems['report']}", f"keras/{stems['report']}", f"torch/{stems['calibration']}"]
    for name in names:
        monkeypatch.setitem(PROGRAMS, name, Program(name, lambda watch, fault, seed: 0.0, BLOWN))
    return [Run(name, variant, seed) for name in names for variant in ("faulty", "fixed") for seed in (0, 1)]


def checks_of(runs: list[Run]) -> dict[str, Check]:
    return {run.key: FAULTY if run.faulty else HEALTHY for run in runs}


def test_the_compared_runs_are_chosen_by_rule(zoo: list[Run]) -> None:
    chosen = compare.compared_runs(zoo)
    assert len(chosen) == 4
    assert {run.seed for run in chosen} == {0}
    assert {PROGRAMS[run.program].half for run in chosen} == {"report"}


def test_peers_are_chosen_by_parts_of_names() -> None:
    assert [p.name for p in compare.chosen_peers("all")] == list(PEERS)
    assert [p.name for p in compare.chosen_peers("Runmedic,keras")] == ["runmedic", "Keras TerminateOnNaN"]
    with pytest.raises(ValueError, match="no peer has 'nobody' in its name"):
        compare.chosen_peers("runmedic,nobody")


@pytest.fixture
def compared(zoo: list[Run], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A comparison in which every peer sees a divergence in faulty runs, and trainpulse one in the others too."""

    def run_jobs(jobs: list[dict[str, Any]], *, on_result: Any, **_: Any) -> None:
        for job in jobs:
            loud = job["variant"] == "faulty" or job["watch"] == "peer:trainpulse"
            on_result({**job, "status": "completed", "findings": [finding("loss.divergence")] if loud else []})

    def python_for(peer: Peer) -> str:
        if peer.name == "stabilityguard":
            raise NotInstallable("no such version")
        return sys.executable

    monkeypatch.setattr(compare, "run_jobs", run_jobs)
    monkeypatch.setattr(compare, "python_for", python_for)
    lines: list[str] = []
    only = "arc,trainpulse,stabilityguard"
    kept: list[Any] = []
    found = compare.compare(zoo, checks_of(zoo), only=only, say=lines.append, keep=kept.append)
    assert [list(each["peers"].items()) for each in kept] == [[item] for item in found["peers"].items()]
    return found


def test_a_comparison_counts_what_each_peer_could_watch(compared: dict[str, Any]) -> None:
    arc, pulse = (compared["peers"][name]["figures"] for name in ("arc-training", "trainpulse"))
    assert (arc["runs"], arc["usable"], arc["right_family"], arc["healthy_alarmed"]) == (4, 2, 1, 0)
    assert (pulse["runs"], pulse["usable"], pulse["right_family"], pulse["healthy_alarmed"]) == (4, 4, 2, 2)
    assert compared["peers"]["stabilityguard"]["not_installable"] == "no such version"


def test_results_stay_until_their_peer_is_run_again(compared: dict[str, Any], tmp_path: Path) -> None:
    assert compare.known(tmp_path) is None
    assert compare.write(tmp_path, compared) == compare.known(tmp_path) == compared
    one = {"rule": compared["rule"], "peers": {"trainpulse": {**compared["peers"]["trainpulse"], "version": "9"}}}
    kept = compare.write(tmp_path, one)
    assert list(kept["peers"]) == list(compared["peers"])
    assert kept["peers"]["trainpulse"]["version"] == "9"
    assert kept["peers"]["arc-training"] == compared["peers"]["arc-training"]
    assert compare.known(tmp_path) == kept


def rows_of(lines: list[str]) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0].split(" ")[0]: row[1:] for row in cells[1:]}


def test_the_table_has_a_row_a_peer(compared: dict[str, Any]) -> None:
    lines = peer_table(compared)
    rows = rows_of(lines)
    assert rows["trainpulse"][:6] == ["4 of 4", "2/2 (100 %)", "2/2 (100 %)", "2/2 (100 %)", "0/2 (0 %)", "0"]
    assert rows["arc-training"][:3] == ["2 of 4", "1/1 (100 %)", "1/1 (100 %)"]
    assert rows["stabilityguard"] == ["not installable here", *["-"] * 6]
    assert "no such version" in "\n".join(lines)
    date = compared["peers"]["trainpulse"]["date"]
    assert any(line.startswith("- trainpulse") and date in line for line in lines)


def test_failguard_is_shown_on_exactly_the_same_runs(compared: dict[str, Any], zoo: list[Run]) -> None:
    def own(run: Run) -> Score:
        if run.faulty:
            return Score(run.key, "faulty", ("loss.divergence",), None, None, found=True, found_any=True)
        return Score(run.key, "healthy", (), None, None, alarm="warning" if run.program.startswith("keras") else "")

    rows = rows_of(peer_table(compared, [own(run) for run in zoo]))
    assert rows["trainpulse"][-1] == "2/2, 2/2, 1/2, 0/2"
    assert rows["arc-training"][-1] == "1/1, 1/1, 0/1, 0/1"
    only_torch = [own(run) for run in zoo if run.program.startswith("torch")]
    rows = rows_of(peer_table(compared, only_torch))
    assert (rows["trainpulse"][-1], rows["arc-training"][-1]) == ("-", "1/1, 1/1, 0/1, 0/1")


def test_the_page_shows_the_table(compared: dict[str, Any]) -> None:
    context = {"machine": "m", "versions": {}, "seeds": [0], "date": "d", "seconds": 1.0, "command": "c"}
    assert "## Peers" in tables.page([], context, compared)
    assert "## Peers" not in tables.page([], context, None)
