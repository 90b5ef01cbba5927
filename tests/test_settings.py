"""Wrong configuration fails at construction, naming what was given and what is allowed."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import fields
from typing import Any

import pytest

from failguard.adapter import GuardCallback
from failguard.core.finding import Finding
from failguard.errors import ConfigurationError
from failguard.policy import Policy
from failguard.resources import ResourceLimits
from failguard.settings import Settings
from failguard.sinks.console import Console


class OddEvents:
    code = "loss.spike"
    events = None

    def check(self, observation: Any, history: Any) -> None: ...


@pytest.mark.parametrize(
    "keywords",
    [
        {"alerts": "slack://abc123secret/def/ghi"},
        {"alerts": ["slack//abc123secret/def/ghi"]},
        {"config": "api_key=abc123secret"},
        {"tags": [("api_token", "abc123secret")]},
        {"record_dir": {"password": "abc123secret"}},
    ],
)
def test_a_message_about_a_keyword_shows_no_secret(keywords: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError) as error:
        GuardCallback(**keywords)
    assert next(iter(keywords)).rstrip("s") in str(error.value)
    assert "abc123secret" not in str(error.value) + caplog.text


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"patience": -1}, ["patience=-1", "None"]),
        ({"patience": 0}, ["patience=0"]),
        ({"patience": 2.5}, ["patience=2.5", "whole number"]),
        ({"patience": True}, ["patience=True"]),
        ({"mode": "lower"}, ["mode='lower'", "'min'", "'max'"]),
        ({"mode": None}, ["mode=None"]),
        ({"monitor": ""}, ["monitor=''"]),
        ({"monitor": 3}, ["monitor=3"]),
        ({"min_delta": -0.1}, ["min_delta=-0.1"]),
        ({"verify_remedies": "yes"}, ["verify_remedies='yes'", "'capture'"]),
        ({"verify_remedies": 1}, ["verify_remedies=1"]),
        ({"min_delta": float("nan")}, ["min_delta=nan"]),
        ({"overhead_budget": 0}, ["overhead_budget=0"]),
        ({"overhead_budget": 2}, ["overhead_budget=2"]),
        ({"policy": "strictt"}, ["strictt", "strict", "observe", "standard"]),
        ({"policy": "recover"}, ["recover", "standard"]),
        ({"policy": {"loss.divergense": "stop"}}, ["loss.divergense", "loss.divergence"]),
        ({"policy": {"loss.divergence": "halt"}}, ["halt", "stop"]),
        ({"policy": {"loss.non_finite": "skip"}}, ["skip", "later"]),
        ({"policy": {"loss.non_finite": "rollback"}}, ["rollback", "later"]),
        ({"ignore": ["loss.divergense"]}, ["loss.divergense", "loss.divergence"]),
        ({"ignore": "loss.divergence"}, ["ignore='loss.divergence'", "list"]),
        ({"detectors": "all"}, ["detectors='all'", "minimal", "standard", "full"]),
        ({"detectors": [object()]}, ["detectors", "check"]),
        ({"detectors": [OddEvents()]}, ["detectors", "events"]),
        ({"sinks": [Console(), Console()]}, ["sinks", "more than one", "'console'"]),
        ({"resources": "yes"}, ["resources='yes'", "ResourceLimits"]),
        ({"check_data": "yes"}, ["check_data='yes'"]),
        ({"restore_best_weights": "yes"}, ["restore_best_weights='yes'"]),
        ({"config": [1]}, ["config=[1]", "mapping"]),
        ({"tags": "a"}, ["tags='a'", "mapping"]),
        ({"sinks": "console"}, ["sinks='console'", "auto"]),
        ({"sinks": [object()]}, ["sinks", "Sink protocol"]),
        ({"record_dir": ""}, ["record_dir=''"]),
        ({"alerts": [3]}, ["alerts=3"]),
        ({"alerts": ["nonsense"]}, ["address", "Apprise"]),
        ({"experiment": 3}, ["experiment=3"]),
    ],
)
def test_unusable_values_are_named_with_what_is_allowed(keywords: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        GuardCallback(**keywords)
    for word in words:
        assert word.lower() in str(error.value).lower()


def test_an_unknown_keyword_is_named() -> None:
    with pytest.raises(TypeError, match="patients"):
        GuardCallback(patients=3)  # type: ignore[call-arg]


def test_every_keyword_is_documented_and_passed_on() -> None:
    signature = inspect.signature(GuardCallback.__init__)
    keywords = [f.name for f in fields(Settings) if f.name != "monitor_is_named"]
    assert list(signature.parameters)[1:] == keywords
    for name in keywords:
        assert name in (GuardCallback.__doc__ or "")
    defaults = Settings()
    for name, parameter in signature.parameters.items():
        if name not in ("self", "policy"):
            assert parameter.default == getattr(defaults, name)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [({}, False), ({"monitor": "val_loss"}, True), ({"monitor": "val_f1"}, True), ({"patience": 3}, True)],
)
def test_the_monitor_counts_as_named_only_when_the_user_named_it(keywords: dict[str, Any], named: bool) -> None:
    assert GuardCallback(**keywords).settings.monitor_is_named is named


@pytest.mark.parametrize(
    ("keywords", "keeps"),
    [
        ({}, False),
        ({"patience": 3}, True),
        ({"patience": 3, "restore_best_weights": False}, False),
        ({"restore_best_weights": True}, True),
        ({"policy": {"metric.overfitting": "stop"}}, True),
    ],
)
def test_best_weights_are_kept_when_something_would_restore_them(keywords: dict[str, Any], keeps: bool) -> None:
    assert Settings(**keywords).keeps_best_weights is keeps


def test_lists_as_command_lines_give_them_are_taken() -> None:
    settings = Settings(ignore=["loss.spike"], resources=ResourceLimits(), policy={"loss.divergence": "continue"})
    assert settings.ignore == ("loss.spike",)
    assert isinstance(settings.policy, Policy)


def test_a_guard_copies_and_pickles_before_a_run() -> None:
    guard = GuardCallback(patience=3, policy={"loss.divergence": "stop"}, tags={"team": "a"})
    assert copy.deepcopy(guard).settings == guard.settings
    assert pickle.loads(pickle.dumps(guard)).settings == guard.settings


class Quiet:
    """A detector of the user's own."""

    code = "loss.spike"
    TRIPS: tuple[()] = ()
    QUIET: tuple[()] = ()

    def check(self, observation: object, history: object) -> Finding | None:
        return None


def test_detectors_of_the_users_own_are_taken() -> None:
    assert len(Settings(detectors=[Quiet()]).detectors) == 1
