"""`build` prepares the roots ahead of the tests; `record` plays scenes and saves what the PBX told as traces."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from itgrix_kommo.storage.trace import read_trace
from tests.lab.ami_control import AmiRefusedError
from tests.lab.golden import GOLDEN, write_golden
from tests.lab.observation import StepFailedError
from tests.lab.pair import Pair
from tests.lab.root import SUITES, LabUnavailableError, ensure
from tests.lab.scenes import SCENES, Scene
from tests.lab.stage import Lab

WITH_CEL = "-cel"
"""What the name of a directory of golden traces recorded with CEL ends with."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the Debian roots that are missing")
    build.add_argument("--version", choices=sorted(SUITES), action="append", help="one version only")
    record = commands.add_parser("record", help="record scenes as traces")
    record.add_argument("scene", nargs="*", help="names of scenes; all without any", metavar="SCENE")
    into = record.add_mutually_exclusive_group(required=True)
    into.add_argument("--into", type=Path, metavar="DIRECTORY", help="where NAME.trace is written, whole")
    into.add_argument("--golden", action="store_true", help=f"pruned, beside the tests: {GOLDEN.name}/VERSION")
    record.add_argument("--version", choices=sorted(SUITES), default="22", help="of Asterisk (default 22)")
    record.add_argument("--cel", action="store_true", help="with CEL over AMI")
    chosen = parser.parse_args()
    try:
        if chosen.command == "build":
            for version in chosen.version or sorted(SUITES, reverse=True):
                print(f"Asterisk {version}: {ensure(version).path}")
        else:
            if unknown := [name for name in chosen.scene if name not in SCENES]:
                parser.error(f"no scene named {', '.join(unknown)}; there are {', '.join(SCENES)}")
            scenes = [SCENES[name] for name in chosen.scene or SCENES]
            there = [scene for scene in scenes if chosen.version in scene.versions]
            failed = asyncio.run(record_scenes(there, chosen.into, chosen.version, cel=chosen.cel))
            if failed:
                print(f"not recorded: {', '.join(failed)}", file=sys.stderr)
                return 1
    except LabUnavailableError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


async def record_scenes(scenes: list[Scene], into: Path | None, version: str, *, cel: bool) -> list[str]:
    """The names of those that did not play to their end. `into` is None for golden traces."""
    failed = []
    directory = into or GOLDEN / (version + WITH_CEL * cel)
    pair = Pair(version)
    await pair.start()
    try:
        for scene in scenes:
            trace = directory / f"{scene.name}.trace"
            try:
                lab = Lab(pair)
                await record_scene(lab, scene, trace, cel=cel)
            except (StepFailedError, AmiRefusedError) as failure:
                print(failure, file=sys.stderr)
                trace.unlink(missing_ok=True)
                failed.append(scene.name)
                continue
            if into is None:
                write_golden(trace, list(read_trace(trace)), asterisk=version, clients=lab.clients)
            print(trace)
    finally:
        pair.stop()
    return failed


async def record_scene(stage: Lab, scene: Scene, trace: Path, *, cel: bool) -> None:
    async with stage as lab, contextlib.AsyncExitStack() as around:
        if cel:
            await around.enter_async_context(lab.cel())
        await around.enter_async_context(lab.record(trace))
        await scene(lab)


if __name__ == "__main__":
    sys.exit(main())
