"""Everything about the resources of one run: the sampler, memory at the ends of steps, where time goes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from failguard.core.history import History
from failguard.core.statistics import median
from failguard.resources.emissions import kg_per_kwh
from failguard.resources.hang_watch import HangWatch
from failguard.resources.limits import ResourceLimits
from failguard.resources.pace import Pace
from failguard.resources.sampler import Sampler
from failguard.resources.stacks import place_of, thread_stacks, worker_states
from failguard.resources.step_memory import StepMemory
from failguard.resources.step_time import StepTimes
from failguard.resources.throughput import throughput
from failguard.resources.worker_stacks import WorkerStacks

__all__ = ["RunWatch"]

DEVICE_MEMORY_SHARE = 3e-4  # of the time of steps, for asking the allocator of a device
# What detectors look at.
WATCHED = (
    "host_memory_available_bytes",
    "disk_free_bytes",
    "children_rss_bytes",
    "gpu_utilization_percent",
    "gpu_throttled",
    "gpu_errors",
    "gpu_memory_left_bytes",
)

Probe = Callable[[], Mapping[str, float]]


class RunWatch:
    """Made by the guard; adapters give it probes, directories and times.

    Attributes:
        limits: As the user set them; ``None`` where resources are not to be watched.
        times: Where the time of the run goes.
        next_step: The step at whose end :meth:`end_step` is to be called; infinite where it is not.
        sampler: The sampler, ``None`` while there is none.
        own_step_s: What this rank took for its own part of a step, without waiting for others; 0 until it is known.
    """

    def __init__(self, setting: bool | ResourceLimits, history: History) -> None:
        """Args:
        setting: The keyword ``resources``.
        history: Takes in what is read.
        """
        self.limits: ResourceLimits | None = None
        if setting is not False:
            self.limits = ResourceLimits() if setting is True else setting
        self.times = StepTimes()
        self.next_step: float = math.inf if self.limits is None else 0
        self.sampler: Sampler | None = None
        self.own_step_s = 0.0
        self._history = history
        self._memory: StepMemory | None = None
        self._is_settling: Callable[[], bool] = lambda: False
        self._settles = False  # failguard itself may still load packages
        self._device_memory: Callable[[], float] | None = None
        self._device_pace = Pace(DEVICE_MEMORY_SHARE)
        self._probes: dict[str, Probe] = {}
        self._directories: list[str | os.PathLike[str]] = []
        self._hang_watch: HangWatch | None = None
        self._worker_stacks = WorkerStacks()
        self._hangs: list[dict[str, Any]] = []

    # What adapters tell

    def add_probe(self, name: str, read: Probe, device_memory: Callable[[], float] | None = None) -> None:
        """Readings that only a framework has, such as those of its allocator. Before the start.

        Args:
            name: For messages.
            read: Called about once a second on the sampling thread.
            device_memory: Bytes held on the device, comparable at the ends of steps; called there now and then.
        """
        self._probes[name] = read
        self._device_memory = device_memory or self._device_memory

    def add_directory(self, directory: str | os.PathLike[str]) -> None:
        """A folder that is written to, such as that of checkpoints."""
        self._directories.append(directory)
        if self.sampler is not None:
            self.sampler.add_directory(directory)

    def note_checkpoint(self, size_bytes: float) -> None:
        """A checkpoint was written, of this size."""
        self._history.machine_series("checkpoint_bytes").append(self._newest_step(), size_bytes)

    def compare_ranks(self, own_s: Sequence[float]) -> None:
        """Take in what each rank took for its own part of a step, by rank; 0 where a rank does not know."""
        if len(own_s) < 2 or min(own_s) <= 0:
            return
        slowest = max(range(len(own_s)), key=lambda rank: own_s[rank])
        step = self._newest_step()
        for name, value in (
            ("slowest_rank", float(slowest)),
            ("slowest_rank_s", own_s[slowest]),
            ("median_rank_s", median(own_s)),
        ):
            self._history.machine_series(name).append(step, value)

    # The run

    def start(
        self,
        directories: Sequence[str | os.PathLike[str]],
        step: Callable[[], int],
        is_settling: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start sampling.

        Args:
            directories: Folders that are written to.
            step: Tells the step in progress.
            is_settling: Tells whether failguard itself still loads packages, so that memory grows for that.
        """
        self._is_settling, self._settles = is_settling, True
        if self.limits is None:
            return
        self._memory = StepMemory()
        country = self.limits.emissions_country
        if country is not None:  # loading takes most of a second, which the sampling thread has
            self._probes["emissions"] = lambda: _loaded(country)
        self.sampler = Sampler(self.limits, [*directories, *self._directories], probes=self._probes, step=step)
        self.sampler.start()

    def watch_for_hangs(self, beat: Callable[[], object], on_pause: Callable[[Mapping[str, float]], bool]) -> None:
        """Start the thread that notices when nothing moves; see :class:`~failguard.resources.hang_watch.HangWatch`."""
        if self.limits is None:
            return
        self._worker_stacks.start()
        self._hang_watch = HangWatch(beat, on_pause)
        if self.limits.hang_after_s is not None:  # a wish for less than the usual pace
            self._hang_watch.quiet_s = min(self._hang_watch.quiet_s, self.limits.hang_after_s)
            self._hang_watch.look_every_s = min(self._hang_watch.look_every_s, max(self.limits.hang_after_s / 4, 0.05))
        self._hang_watch.start()

    def note_hang(self, step: int, idle_s: float) -> str | None:
        """Record where every thread and worker is. On the thread of the watch.

        Returns:
            The place of the training thread, ``None`` where it is not known.
        """
        training = self._hang_watch.training_thread if self._hang_watch is not None else None
        workers = worker_states()
        stacks = self._worker_stacks.collect([w["pid"] for w in workers])
        for worker in workers:
            if worker["pid"] in stacks:
                worker["stack"] = stacks[worker["pid"]]
        self._hangs.append({"step": step, "idle_s": idle_s, "stacks": thread_stacks(training), "workers": workers})
        return None if training is None else place_of(training)

    def end_step(self, step: int) -> None:
        """Read memory at the end of a step, and take in what was sampled since."""
        memory = self._memory
        if memory is None:
            self.next_step = math.inf
            return
        value = memory.read(step)
        self.next_step = memory.next_step
        self._settles = self._settles and self._is_settling()
        if value is not None and not self._settles:
            self._history.step_series("process_memory_bytes").append(step, value)
        if self._device_memory is not None and self._device_pace.due():
            started = perf_counter()
            try:
                self._history.step_series("gpu_memory_bytes").append(step, float(self._device_memory()))
            except Exception:  # noqa: BLE001 - a device that failed: its own next call says so
                self._device_memory = None
            self._device_pace.took(perf_counter() - started)

    def take_in(self) -> None:
        """Put what was sampled since the last time into the history."""
        if self.sampler is None:
            return
        for step, values in self.sampler.take_new():
            for name in ("elapsed_s", *WATCHED):
                if name in values:
                    self._history.machine_series(name).append(step, values[name])

    def time_steps(self, parts_s: Mapping[str, float], total_s: float, steps: int, last_step: int) -> None:
        """Take in steps in a row that were timed in parts; see :meth:`StepTimes.add_window`."""
        self.times.add_window(parts_s, total_s, steps)
        own_s = parts_s.get("data_wait", 0.0) + parts_s.get("forward", 0.0) + parts_s.get("callbacks", 0.0)
        self.own_step_s = own_s / max(steps, 1)
        if "data_wait" in parts_s and total_s > 0:
            share = min(max(parts_s["data_wait"] / total_s, 0.0), 1.0)
            self._history.step_series("data_wait_share").append(last_step, share)

    def stop(self) -> None:
        """Take a last sample and stop."""
        if self._hang_watch is not None:
            self._hang_watch.stop()
            self._hang_watch = None
        self._worker_stacks.stop()
        if self.sampler is not None:
            self.sampler.stop()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
            self.next_step = math.inf

    def summary(self, duration_s: float, failguard_s: float) -> dict[str, Any]:
        """What is known so far.

        Args:
            duration_s: Of the run.
            failguard_s: In failguard's own code on the training thread.

        Returns:
            The summary of the sampler, with ``time`` (see :meth:`StepTimes.summary`), ``throughput``,
            ``checkpoint_bytes``, and ``hangs``: one dict each with ``step``, ``idle_s``, ``stacks`` (text by thread,
            that of the training first) and ``workers`` (``pid``, ``name``, ``state``, ``stack``, ...). Empty where
            resources are not watched.
        """
        if self.limits is None or self.sampler is None:
            return {}
        found = self.sampler.summary()
        facts = self._history.facts
        step_s = self._history.steps.get("step_s")
        training_s = 0.0
        if step_s is not None:
            training_s = sum([b.mean * b.finite for b in step_s.blocks() if b.finite])
        time = self.times.summary(duration_s, training_s, failguard_s)
        if time:
            found["time"] = time
        rates = throughput(step_s, facts.batch_size, self.limits.tokens_per_step, max(facts.world_size, 1))
        if rates:
            found["throughput"] = rates
        if self.limits.show_table:
            found["show_table"] = True
        if self._hangs:
            found["hangs"] = list(self._hangs)
        checkpoints = self._history.machine.get("checkpoint_bytes")
        if checkpoints is not None and checkpoints.last is not None:
            found["checkpoint_bytes"] = checkpoints.last
        return found

    def _newest_step(self) -> int:
        series = self._history.steps.get("step_s")
        return (series.last_step or 0) if series is not None else 0


def _loaded(country: str) -> Mapping[str, float]:
    """Load what the bill will ask for. No reading."""
    kg_per_kwh(country)
    return {}
