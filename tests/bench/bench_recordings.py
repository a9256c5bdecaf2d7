"""What converting costs, against bare ffmpeg doing the same, and what the event loop notices of it.

    python -m tests.bench.bench_recordings

Figures are ratios of one run: each pair is measured in turns, on the same files, by equally modest processes. Of costs
the best counts, of the event loop's lag the median of many short windows: the machine may have other work, which is
told by the spread. Exit status 1 where a limit is missed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from itgrix_kommo.recordings.conversion import PROMPT_NICENESS, Converter
from itgrix_kommo.recordings.job import Job
from itgrix_kommo.recordings.worker import be_modest
from tests.recorded_sounds import noise

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 7
WINDOWS = 20
WINDOW = 0.75  # seconds
TICK = 0.002  # seconds between two looks at the event loop
LIMITS = {"wall": 1.2, "cpu": 1.2, "memory": 2.0, "lag": 3.0}

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    wall: float
    cpu: float


def bare_cost(source: Path, target: Path) -> Cost:
    """What ffmpeg costs that is as modest as a worker: on a busy machine, modesty takes time."""
    form = ["-b:a", "32k", "-f", "mp3", str(target)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source), *form],
        start_new_session=True,
        preexec_fn=lambda: be_modest(PROMPT_NICENESS),  # noqa: PLW1509 - no thread here holds a lock it could need
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Cost(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime)


async def our_cost(converter: Converter, job: Job, worker: int) -> Cost:
    os.unlink(job.target)  # noqa: PTH108 - a small blocking call, between two measurements
    before = processor_time(worker)
    begun = time.perf_counter()
    assert await converter.convert(job) is not None
    return Cost(time.perf_counter() - begun, processor_time(worker) - before)


def processor_time(pid: int) -> float:
    """Seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_SECOND


def children() -> list[int]:
    """Everybody below this process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    below, found = {os.getpid()}, []
    while below := {pid for pid, parent in parents.items() if parent in below}:
        found += sorted(below)
    return found


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Appends, at the end, the MB of the peaks of all processes that ran below this one, added up."""
    peaks: dict[int, int] = {}
    over = threading.Event()
    result: list[float] = []

    def watch() -> None:
        while not over.wait(0.01):
            for pid in children():
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                for line in status.splitlines():
                    if line.startswith("VmHWM:"):
                        peaks[pid] = max(peaks.get(pid, 0), int(line.split()[1]))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield result
    finally:
        over.set()
        watching.join()
        result.append(sum(peaks.values()) / 1024)


async def lag(seconds: float) -> list[float]:
    """How many seconds each tick of the event loop came late."""
    late = []
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        late.append(loop.time() - due)
    return late


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


async def ready(_: Path) -> None:
    return


def told(name: str, limit: str, ours: str, theirs: str, ratio: float) -> bool:
    kept = ratio <= LIMITS[limit]
    print(f"{name:<46} {ours:>10} {theirs:>10} {ratio:6.2f}x  {'at most' if kept else 'MISSED:'} {LIMITS[limit]}x")
    return kept


async def ten_minutes(folder: Path) -> bool:
    source = noise(folder / "ten.wav", hours=1 / 6)
    job = Job((str(source),), (str(folder),), str(folder / "cache/aa/ten.mp3"), "32k", 0)
    converter = Converter(folder / "cache/work", timeout=60, made=ready, workers=1)
    await converter.start()
    (worker,) = children()
    await converter.convert(job)
    ours, theirs = [], []
    for _ in range(RUNS):
        theirs.append(await asyncio.to_thread(bare_cost, source, folder / "bare.mp3"))
        ours.append(await our_cost(converter, job, worker))
    await converter.close()
    kept = True
    for index, name in enumerate(Cost._fields):
        mine, other = min(cost[index] for cost in ours), min(cost[index] for cost in theirs)
        kept &= told(f"10 min at 8 kHz, warm worker: {name}", name, f"{mine:.3f} s", f"{other:.3f} s", mine / other)
    return kept


async def three_hours(folder: Path) -> bool:
    source = noise(folder / "long.wav", hours=3)
    with peak_memory() as theirs:
        await asyncio.to_thread(bare_cost, source, folder / "bare.mp3")
    job = Job((str(source),), (str(folder),), str(folder / "cache/aa/long.mp3"), "32k", 0)
    with peak_memory() as ours:
        converter = Converter(folder / "cache/work", timeout=600, made=ready, workers=1)
        assert await converter.convert(job) is not None
        await converter.close()
    return told(
        "3 h: peak memory of all processes", "memory", f"{ours[0]:.0f} MB", f"{theirs[0]:.0f} MB", ours[0] / theirs[0]
    )


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def eight_at_once(folder: Path, workers: int | None) -> bool:
    """The conversions are stopped and let go on by turns, so that both figures are of the same minute."""
    sources = [folder / f"eight{number}.wav" for number in range(8)]
    first = noise(sources[0], hours=1)
    for source in sources[1:]:
        shutil.copyfile(first, source)
    converter = Converter(folder / "cache/work", timeout=600, made=ready, workers=workers)
    await converter.start()
    jobs = [
        Job((str(source),), (str(folder),), str(folder / f"cache/{number:02x}/eight.mp3"), "32k", 0)
        for number, source in enumerate(sources)
    ]
    converting = [asyncio.create_task(converter.convert(job)) for job in jobs]
    quiet, busy = [], []
    for _ in range(WINDOWS):
        stopped = children()
        signal_all(stopped, signal.SIGSTOP)
        quiet.append(p99(await lag(WINDOW)))
        signal_all(stopped, signal.SIGCONT)
        await lag(WINDOW / 5)
        busy.append(p99(await lag(WINDOW)))
    assert not any(task.done() and task.exception() for task in converting)
    assert not all(task.done() for task in converting), "it was over too soon to tell"
    await converter.close()
    await asyncio.gather(*converting, return_exceptions=True)
    quiet.sort()
    busy.sort()
    ratio = statistics.median(busy) / statistics.median(quiet)
    figures = f"{statistics.median(busy) * 1000:.2f} ms", f"{statistics.median(quiet) * 1000:.2f} ms"
    if workers is None:
        kept = told("8 conversions at once: p99 lag", "lag", *figures, ratio)
    else:
        kept = True
        name = f"as if it had {workers} workers, which it never has"
        print(f"{name:<46} {figures[0]:>10} {figures[1]:>10} {ratio:6.2f}x")
    for title, windows in (("with conversions", busy), ("without", quiet)):
        low, high = windows[WINDOWS // 4] * 1000, windows[-WINDOWS // 4] * 1000
        print(f"    the middle half of {WINDOWS} windows {title}: {low:.2f} to {high:.2f} ms")
    return kept


async def main() -> bool:
    print(f"{'':<46} {'ours':>10} {'bare':>10}  ratio")
    kept = True
    for measure in (ten_minutes, three_hours):
        with tempfile.TemporaryDirectory() as folder:
            kept &= await measure(Path(folder))
    for workers in (None, 8):
        with tempfile.TemporaryDirectory() as folder:
            kept &= await eight_at_once(Path(folder), workers)
    return kept


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
