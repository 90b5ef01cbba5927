"""The background sampler: one daemon thread, a few readings a second at most, constant memory."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from failguard.core.log import logger
from failguard.resources.accelerators import Accelerators
from failguard.resources.limits import MB, ResourceLimits
from failguard.resources.process import ProcessReadings
from failguard.resources.series import Course, Running

__all__ = ["Sampler"]

# Running totals and fixed sizes, of which only the last value says something.
SINGLE_VALUES = frozenset(
    {
        "process_disk_read_bytes",
        "process_disk_written_bytes",
        "container_memory_limit_bytes",
        "gpu_allocation_retries",
        "gpu_out_of_memory_events",
    }
)
KEPT_SAMPLES = 4096  # that nobody has taken yet
_NOT_DRAWN = frozenset({"memory_total_bytes", "energy_j", "throttle_reasons"})
STOP_WAIT_S = 2.0  # a driver call can hang; the end of a run does not wait longer for it


class Sampler:
    """Samples what the process uses until it is stopped.

    :meth:`start`, :meth:`stop` and :meth:`summary` may be called from any thread, at any time and repeatedly. In a
    forked child the sampler rests: it keeps what was measured before the fork and starts nothing by itself.

    Attributes:
        limits: What is worth a remark.
        error: An error of the sampling thread itself, which ended it; ``None`` while all is well.
    """

    def __init__(
        self,
        limits: ResourceLimits | None = None,
        directories: Sequence[str | os.PathLike[str]] = (),
        *,
        probes: Mapping[str, Callable[[], Mapping[str, float]]] | None = None,
        step: Callable[[], int] | None = None,
        pid: int | None = None,
    ) -> None:
        """Args:
        limits: Interval and limits; ``None`` for the defaults.
        directories: Folders that are written to, for the free space on their disks. They need not exist yet.
        probes: Readings of others by name, such as those of a framework's allocator; called on the sampling thread.
            They give numbers with units in their names. One that raises is left out from then on.
        step: Tells the training step of a sample.
        pid: The process to sample; ``None`` for this one.
        """
        self.limits = limits or ResourceLimits()
        self.error: BaseException | None = None
        self._directories = [_absolute(d) for d in directories]
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._started_at = 0.0
        self._elapsed_s = 0.0
        self._cpu_s = 0.0
        self._cpu_s_before = 0.0
        self._samples = 0
        self._values: dict[str, Running] = {}
        self._gpus: Accelerators | None = None
        self._probes = dict(probes or {})
        self._step = step
        self._sampled_pid = pid
        self._new: deque[tuple[int, dict[str, float]]] = deque(maxlen=KEPT_SAMPLES)
        self._course = Course()
        self._unreadable: dict[str, str] = {}
        self._problem: str | None = None

    def start(self) -> None:
        """Start sampling, with the first sample at once. Does nothing while it runs."""
        self._note_fork()
        if self._thread is not None:
            return
        self._stop.clear()
        self._started_at = time.monotonic() - self._elapsed_s
        self._cpu_s_before = self._cpu_s
        self._thread = threading.Thread(target=self._run, name="failguard-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread. Waits at most 2 s for it. Does nothing when it does not run."""
        self._note_fork()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        thread.join(STOP_WAIT_S)
        if thread.is_alive():
            with self._lock:
                self._problem = f"The sampling thread did not end within {STOP_WAIT_S:g} s."

    def add_directory(self, directory: str | os.PathLike[str]) -> None:
        """One more folder that is written to, such as that of checkpoints."""
        path = _absolute(directory)
        if path not in self._directories:
            self._directories.append(path)

    def take_new(self) -> list[tuple[int, dict[str, float]]]:
        """The samples since the last call, oldest first: the training step and the readings of the moment."""
        taken = []
        while self._new:
            taken.append(self._new.popleft())
        return taken

    def summary(self) -> dict[str, Any]:
        """What was measured so far.

        Returns:
            ``interval_s``, ``duration_s``, ``samples``, ``sampler_cpu_s`` and ``sampler_cpu_share`` (of the duration);
            for each quantity that was read (``process_rss_bytes``, ``process_threads``, ``process_cpu_percent``,
            ``host_cpu_percent``, ``host_memory_available_bytes``, ``disk_free_bytes``) its ``start``, ``min``,
            ``mean``, ``peak`` and ``last``; ``process_disk_read_bytes`` and ``process_disk_written_bytes`` since the
            start; what probes gave; ``gpus``: one dict a card, see
            :meth:`~failguard.resources.gpu_record.GpuRecord.to_dict`;
            ``series``: the course over time as lists of equal length, at most 512 points (``gpu0_...`` is the first of
            ``gpus``); ``limits_exceeded``: sentences; ``unreadable``: quantities that could not be read; ``errors``:
            what went wrong with sampling itself. Empty parts are absent, except ``limits_exceeded``.
        """
        self._note_fork()
        with self._lock:
            summary: dict[str, Any] = {
                "interval_s": self.limits.interval_s,
                "duration_s": self._elapsed_s,
                "samples": self._samples,
                "sampler_cpu_s": self._cpu_s,
            }
            if self._elapsed_s > 0:
                summary["sampler_cpu_share"] = self._cpu_s / self._elapsed_s
            summary.update(_numbers(self._values))
            if self._gpus is not None and self._gpus.records:
                summary["gpus"] = self._gpus.to_dicts()
            summary["limits_exceeded"] = self._exceeded()
            if self._samples:
                summary["series"] = self._course.to_dict()
            if self._unreadable:
                summary["unreadable"] = dict(self._unreadable)
            errors = [] if self.error is None else [f"{type(self.error).__name__}: {self.error}"]
            if self._problem is not None:
                errors.append(self._problem)
            if errors:
                summary["errors"] = errors
            return summary

    def _note_fork(self) -> None:
        """In a forked child the thread is gone, and it may have held the lock at the fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._stop = threading.Event()
            self._thread = None

    def _run(self) -> None:
        gpus = None
        stop = self._stop
        try:
            process = ProcessReadings(self._directories, self._sampled_pid)
            self._sample(process, None)  # before NVML, which can take long to start
            gpus = Accelerators()
            with self._lock:
                self._gpus = gpus
                if gpus.problem is not None:
                    self._unreadable["gpus"] = gpus.problem
            while not stop.wait(self.limits.interval_s):
                self._sample(process, gpus)
            self._sample(process, gpus)
        except Exception as error:  # noqa: BLE001 - the thread must not print to the user's stderr; the report says it
            self.error = error
            logger.debug("failguard: the resource sampler ended", exc_info=True)
        finally:
            if gpus is not None:
                gpus.close()

    def _sample(self, process: ProcessReadings, gpus: Accelerators | None) -> None:
        values = {**process.read(), **self._probed()}
        cards = [] if gpus is None else gpus.read(process.pids)
        step = self._step() if self._step is not None else 0
        with self._lock:
            # Monotonic by definition; a suspended machine or a faulty clock must not make time run backwards.
            self._elapsed_s = max(time.monotonic() - self._started_at, self._elapsed_s)
            for name, value in values.items():
                self._values.setdefault(name, Running()).add(value)
            if gpus is not None:
                for record, card in zip(gpus.records, cards, strict=False):
                    record.add(self._elapsed_s, card)
                self._new.append((step, {"elapsed_s": self._elapsed_s, **values, **gpus.together(cards)}))
            else:
                self._new.append((step, {"elapsed_s": self._elapsed_s, **values}))
            for index, card in enumerate(cards):
                values.update({f"gpu{index}_{name}": v for name, v in card.items() if name not in _NOT_DRAWN})
            self._course.add(self._elapsed_s, values)
            self._unreadable.update(process.unreadable)
            self._samples += 1
            self._cpu_s = self._cpu_s_before + time.thread_time()  # of this thread, from its start

    def _probed(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, read in list(self._probes.items()):
            try:
                values.update({key: float(value) for key, value in read().items()})
            except Exception as error:  # noqa: BLE001 - a framework that is on its way out, or a driver
                del self._probes[name]
                with self._lock:
                    self._unreadable[name] = type(error).__name__
        return values

    def _exceeded(self) -> list[str]:
        exceeded = []
        limits = self.limits
        rss, free = self._values.get("process_rss_bytes"), self._values.get("disk_free_bytes")
        if limits.max_memory_increase_mb is not None and rss is not None:
            numbers = rss.to_dict()
            grown_mb = (numbers["peak"] - numbers["start"]) / MB
            if grown_mb > limits.max_memory_increase_mb:
                exceeded.append(
                    f"The memory of the process grew by {grown_mb:,.0f} MB, more than "
                    f"max_memory_increase_mb={limits.max_memory_increase_mb:g}."
                )
        if limits.min_disk_free_mb is not None and free is not None:
            least_mb = free.to_dict()["min"] / MB
            if least_mb < limits.min_disk_free_mb:
                exceeded.append(
                    f"Only {least_mb:,.0f} MB were free on a disk that the run writes to, less than "
                    f"min_disk_free_mb={limits.min_disk_free_mb:g}."
                )
        return exceeded


def _numbers(values: Mapping[str, Running]) -> dict[str, Any]:
    return {
        name: running.to_dict()["last"] if name in SINGLE_VALUES else running.to_dict()
        for name, running in values.items()
    }


def _absolute(directory: str | os.PathLike[str]) -> str:
    path = os.fspath(directory)
    try:
        return os.path.abspath(path)
    except OSError:  # the working folder was removed
        return path
