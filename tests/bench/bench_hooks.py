"""What a PHP customization costs: asked of a waiting php-cgi, against starting `php` for each call.

    python -m tests.bench.bench_hooks [--calls N]

The same vendor-style file, the same payload, one call at a time, the two ways in turn. Exit status 1 if the waiting
process takes more than a tenth of the time at the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from itgrix_kommo.customizations import CATALOGUE, HookFile, Kind
from itgrix_kommo.customizations.answer import decode
from itgrix_kommo.customizations.job import Job
from itgrix_kommo.customizations.workers import PhpWorker, StartingWorker, Worker

AT_MOST = 0.1
SPEC = CATALOGUE["process_call_params"]
SOURCE = """<?php
function waited($call)
{
    return strtotime($call['channel']['answer_time']) - strtotime($call['channel']['start_time']);
}
$params['call_result'] = 'Waited ' . waited($params['call_full']) . ' s';
return array('state' => 'success', 'data' => $params);
"""


async def timed(worker: Worker, job: Job) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    answer = decode(await worker.run(job))
    taken = time.perf_counter() - begun
    if not isinstance(answer, dict) or answer["data"]["call_result"] != "Waited 12 s":
        raise SystemExit(f"a wrong answer: {answer!r}")
    return taken


async def measure(file: HookFile, php_cgi: str, php: str, calls: int) -> float:
    """The ratio of the medians."""
    job = Job(file, json.dumps(SPEC.params).encode())
    waiting, starting = PhpWorker(php_cgi), StartingWorker(php)
    times: dict[str, list[float]] = {"waiting php-cgi": [], "php for each call": []}
    await waiting.start()
    try:
        for _ in range(calls):
            times["waiting php-cgi"].append(await timed(waiting, job))
            times["php for each call"].append(await timed(starting, job))
    finally:
        await waiting.close()
    medians = [statistics.median(taken) for taken in times.values()]
    for name, taken in times.items():
        ninety_ninth = statistics.quantiles(taken, n=100)[98]
        print(f"  {name:<18} median {1000 * statistics.median(taken):7.2f} ms   99th {1000 * ninety_ninth:7.2f} ms")
    return medians[0] / medians[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=200, help="calls each way")
    options = parser.parse_args()
    logging.disable()
    php_cgi, php = shutil.which("php-cgi"), shutil.which("php")
    if php_cgi is None or php is None:
        raise SystemExit("php-cgi or php is missing: apt-get install php-cgi php-cli")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"{SPEC.name}.php")
        path.write_text(SOURCE)
        ratio = asyncio.run(measure(HookFile(SPEC.name, path, Kind.PHP), php_cgi, php, options.calls))
    print(f"  ratio of the medians {ratio:.3f}, at most {AT_MOST} is wanted")
    sys.exit(ratio > AT_MOST)


if __name__ == "__main__":
    main()
