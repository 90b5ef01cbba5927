from __future__ import annotations

import itertools

import pytest

from failguard.resources.series import POINTS, Course, Running


def test_running_statistics() -> None:
    running = Running()
    for value in (3.0, 1.0, 5.0, 3.0):
        running.add(value)
    assert running.to_dict() == {"start": 3.0, "min": 1.0, "mean": 3.0, "peak": 5.0, "last": 3.0}
    assert running.count == 4


def test_course_is_bounded_and_covers_the_whole_run() -> None:
    course = Course()
    n = 100_000
    for i in range(n):
        course.add(float(i), {"a": float(i)})
    elapsed = course.to_dict()["elapsed_s"]
    assert POINTS / 2 <= len(elapsed) <= POINTS
    assert elapsed[0] == 0.0
    steps = {b - a for a, b in itertools.pairwise(elapsed)}
    assert len(steps) == 1, "the points are evenly spaced"
    assert elapsed[-1] >= n - 2 * steps.pop()


def test_course_marks_what_was_not_read() -> None:
    course = Course()
    course.add(0.0, {"a": 1.0})
    course.add(1.0, {"b": 2.0})
    assert course.to_dict() == {"elapsed_s": [0.0, 1.0], "a": [1.0, None], "b": [None, 2.0]}


@pytest.mark.parametrize("count", [1, POINTS, POINTS + 1, 2 * POINTS + 1])
def test_lists_have_equal_length(count: int) -> None:
    course = Course()
    for i in range(count):
        course.add(float(i), {"a": 1.0})
    lists = course.to_dict()
    assert len(lists["a"]) == len(lists["elapsed_s"]) <= POINTS
