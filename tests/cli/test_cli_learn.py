"""``failguard learn`` over a real store."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from failguard.cli.app import app
from failguard.runs.registry import Registry

make_adder = runpy.run_path(str(Path(__file__).parents[1] / "runs" / "conftest.py"))["make_adder"]
Add = Callable[..., str]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("empty_store") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", "./mlruns").engine.dispose()
    return path


@pytest.fixture
def add(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    from mlflow.tracking import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return make_adder(MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"))


def learn(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["learn", *arguments])


def ms(days_ago: float) -> int:
    return int((datetime.now(UTC) - timedelta(days=days_ago)).timestamp() * 1000)


FAILED = {
    "failguard.status": "stopped",
    "failguard.outcome": "failure",
    "failguard.finding": "loss.divergence",
    "failguard.cause": "learning_rate_too_high",
    "failguard.fingerprint": "A",
}
GOOD = {"failguard.status": "completed", "failguard.outcome": "success"}


@pytest.fixture
def history(add: Add) -> list[str]:
    def config(lr: float) -> dict[str, str]:
        return {"failguard.config": json.dumps({"lr": lr})}

    runs = [
        add("a", start_ms=ms(20), tags={**FAILED, **config(0.3), "mlflow.user": "ada"}),
        add("b", start_ms=ms(10), tags={**FAILED, **config(0.3), "mlflow.user": "bob"}),
        add("c", start_ms=ms(5), tags={**FAILED, **config(0.3), "mlflow.user": "bob"}),
        add("d", start_ms=ms(3), tags={**GOOD, **config(0.03), "mlflow.user": "<b>eve</b>"}),
        add("e", start_ms=ms(2), tags={}, params={"lr": 0.03}),
    ]
    Registry().add_note(runs[2], "lesson", "use lr=0.03 <script>alert(1)</script>", author="bob")
    return runs


def test_the_screen(history: list[str]) -> None:
    result = learn("churn")
    assert result.exit_code == 0, result.stderr
    for text in (
        "5 runs, ",
        "Repeats     67 %. 2 of 3 failures had the fingerprint of an earlier run.",
        "Trend\nweek of ",
        "learning_rate_too_high  3         100 %  2        3 ",
        "Failures that came back",
        "Lessons\n",
        "Learning Champion  bob",
        "Pivot Master       <b>eve</b>  1 pivot, the last in churn: lr 0.3 → 0.03.",
    ):
        assert text in result.stdout, (text, result.stdout)
    explained = learn("churn", "--explain").stdout
    assert history[1][:8] in explained
    assert "The most lessons written on failed runs" in explained


def test_windows_members_and_json(history: list[str]) -> None:
    d = json.loads(learn("--since", "12d", "--json").stdout)
    assert (d["runs"], d["repeat_failure_rate"], d["outcomes"]["unknown"]) == (4, 0.5, 1)
    assert d["experiment_velocity"] == pytest.approx(4 / (12 / 7), rel=1e-3)  # until now
    assert [week["runs"] for week in d["by_week"]] != []
    assert json.loads(learn("--until", "4d", "--json").stdout)["runs"] == 3
    bob = json.loads(learn("--member", "bob", "--json").stdout)
    assert (bob["runs"], bob["repeat_failure_rate"]) == (2, 1.0)


def test_a_digest(history: list[str]) -> None:
    result = learn("churn", "--digest", "week")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("# What was learned in churn, ")
    assert "|  | this week | the week before | computed from |" in result.stdout
    assert "| Failures | 50 % | 100 % |" in result.stdout
    assert "| Repeats | 100 % | 100 % |" in result.stdout  # both had happened before the period
    assert "\\<script\\>" in result.stdout
    written = learn("churn", "--digest", "month", "-o", "d.html")
    assert (written.exit_code, written.stdout) == (0, "")
    page = Path("d.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;b&gt;eve&lt;/b&gt;" in page
    assert "://" not in page
    assert learn("--digest", "week", "-o", "d.md").exit_code == 0
    assert Path("d.md").read_text(encoding="utf-8").startswith("# What was learned, ")
    assert json.loads(learn("--digest", "week", "--json").stdout)["period"]["runs"] == 3


def test_a_digest_is_sent(history: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("apprise")
    import apprise

    sent: list[dict[str, Any]] = []

    def notify(self: object, **message: Any) -> bool:
        sent.append(message)
        return len(sent) == 1

    monkeypatch.setattr(apprise.Apprise, "notify", notify)
    result = learn("--digest", "week", "--send", "json://localhost/secret")
    assert (result.exit_code, result.stderr) == (0, "Sent to 1 address.\n")
    assert sent[0]["title"].startswith("What was learned, ")
    assert "Awards:\n - Learning Champion, bob, 1 lesson from 1 run that failed." in sent[0]["body"]
    again = learn("--digest", "week", "--send", "json://localhost/secret")
    assert again.exit_code == 2
    assert "could not be sent: json://..." in again.stderr
    assert "secret" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("chrun",), "no experiment 'chrun'"),
        (("--member", "eva"), "No run of the window is of 'eva'. Runs are of: "),
        (("--since", "yesteryear"), "is no time that is understood"),
        (("--since", "1d", "--until", "2d"), "ends"),
        (("-o", "d.md"), "add --digest week"),
        (("--send", "json://x"), "add --digest week"),
        (("--digest", "week", "-o", "d.txt"), "neither .md nor .html"),
        (("--digest", "week", "--since", "3d"), "leave --since out"),
        (("--digest", "year"), "year"),
        (("--digest", "week", "--send", "nonsense"), "is not understood"),
    ],
)
def test_what_cannot_be_done(history: list[str], arguments: tuple[str, ...], word: str) -> None:
    result = learn(*arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nothing_to_learn_from(add: Add) -> None:
    assert "No runs." in learn().stdout
    empty = learn("--digest", "week")
    assert empty.exit_code == 0
    assert "Nobody qualifies." in empty.stdout
    assert json.loads(learn("--json").stdout)["repeat_failure_rate"] is None
