from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from failguard.core.exceptions import exception_facts
from failguard.core.observation import ExceptionFacts


def caught(function: Callable[[], object]) -> ExceptionFacts:
    try:
        function()
    except BaseException as error:
        return exception_facts(error)
    raise AssertionError("nothing was raised")


def test_an_error_is_reduced_to_text() -> None:
    def login(password: str) -> None:
        raise RuntimeError("refused: token=hunter2")

    facts = caught(lambda: login(password="hunter2"))
    assert facts.type_name == "RuntimeError"
    assert facts.message == "refused: token=[redacted]"
    assert not facts.interrupt
    assert facts.trace.startswith("Traceback (most recent call last):")
    assert 'login(password="[redacted]")' in facts.trace
    assert "hunter2" not in f"{facts}"
    assert facts.frame is not None
    assert facts.frame.startswith("test_exceptions.py:")
    assert facts.frame.endswith(' in login: raise RuntimeError("refused: token=[redacted]")')


def test_the_frame_is_the_users_own_innermost_one() -> None:
    def parse() -> object:
        return json.loads("{")  # raises three frames deeper, in the standard library

    frame = caught(parse).frame
    assert frame is not None
    assert 'in parse: return json.loads("{")' in frame

    def convert() -> object:
        import numpy as np

        return np.linalg.inv(np.zeros((2, 2)))  # raises in an installed package

    frame = caught(convert).frame
    assert frame is not None
    assert "in convert: return np.linalg.inv" in frame


def test_a_missing_module_is_not_blamed_on_the_import_machinery() -> None:
    def load() -> None:
        import no_such_module_anywhere  # type: ignore[import-not-found]  # noqa: F401

    frame = caught(load).frame
    assert frame is not None
    assert "in load: import no_such_module_anywhere" in frame


def test_code_without_a_file_is_the_users() -> None:
    frame = caught(lambda: exec("def step():\n    1 / 0\nstep()", {})).frame
    assert frame == "<string>:2 in step"


def test_an_error_without_a_traceback() -> None:
    facts = exception_facts(ValueError("x"))
    assert facts.frame is None
    assert facts.trace == "ValueError: x\n"


def test_causes_are_kept() -> None:
    def chained() -> None:
        try:
            {}["loss"]
        except KeyError as error:
            raise ValueError("outer") from error

    facts = caught(chained)
    assert "KeyError: 'loss'" in facts.trace
    assert "The above exception was the direct cause" in facts.trace
    assert facts.type_name == "ValueError"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts(kind: type[BaseException]) -> None:
    def stop() -> None:
        raise kind()

    assert caught(stop).interrupt


def test_lightnings_system_exit_after_a_keyboard_interrupt() -> None:
    def fit() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    facts = caught(fit)
    assert facts.interrupt
    assert "KeyboardInterrupt" in facts.trace


def test_errors_are_no_interrupts() -> None:
    assert not caught(lambda: (_ for _ in ()).throw(MemoryError())).interrupt
    assert not caught(lambda: (_ for _ in ()).throw(StopIteration())).interrupt


def test_an_exception_whose_text_raises() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    def fail() -> None:
        raise Broken

    facts = caught(fail)
    assert facts.type_name == "Broken"
    assert "cannot be read" in facts.message
    assert "in fail" in facts.trace


def test_notes_that_raise() -> None:
    class Broken(Exception):
        @property
        def __notes__(self) -> list[str]:
            raise RuntimeError("no notes")

    def fail() -> None:
        raise Broken("text")

    facts = caught(fail)
    assert facts.message == "text"
    assert "in fail" in facts.trace


def test_size_is_bounded_and_both_ends_stay() -> None:
    def fail() -> None:
        raise RuntimeError("begin " + "line of text\n" * 100_000 + "the end")

    facts = caught(fail)
    assert len(facts.message) <= 4_000
    assert len(facts.trace) <= 100_000
    assert facts.trace.startswith("Traceback")
    assert facts.trace.rstrip().endswith("the end")
    assert "[cut, " in facts.trace


def test_endless_recursion() -> None:
    def down(n: int) -> int:
        return down(n + 1) + 1

    facts = caught(lambda: down(0))
    assert facts.type_name == "RecursionError"
    assert len(facts.trace) <= 100_000


def test_a_cause_that_is_the_error_itself() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    facts = exception_facts(first)
    assert facts.frame is None
    assert "ValueError: a" in facts.trace


def test_the_frame_of_a_cause_where_a_framework_raised_anew(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "framework.py"
    package.parent.mkdir()
    source = """
def run(function):
    try:
        function()
    except ValueError as error:
        anew = RuntimeError("anew")
        anew.__cause__ = error
        return anew
"""
    namespace: dict[str, Callable[[Callable[[], None]], BaseException]] = {}
    exec(compile(source, str(package), "exec"), namespace)

    def training_step() -> None:
        raise ValueError("bad")

    facts = exception_facts(namespace["run"](training_step))
    assert facts.type_name == "RuntimeError"
    assert facts.frame is not None
    assert "in training_step" in facts.frame


def test_the_frame_of_a_worker_process_is_named():
    trace = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "/usr/lib/python3/site-packages/torch/utils/data/_utils/worker.py", line 300, in _worker_loop\n'
        "    data = fetcher.fetch(index)\n"
        '  File "/home/me/project/data.py", line 12, in __getitem__\n'
        "    return self.images[index]\n"
        '  File "/usr/lib/python3/site-packages/numpy/lib.py", line 1, in f\n'
        "ValueError: bad row\n"
    )
    assert exception_facts(ValueError(trace)).frame == "data.py:12 in __getitem__: return self.images[index]"
