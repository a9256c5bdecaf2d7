"""`build` prepares the roots ahead of the tests; `record` plays scenes and saves what the PBX told as traces."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tests.lab.pair import Pair
from tests.lab.root import SUITES, LabUnavailableError, ensure
from tests.lab.scenes import SCENES
from tests.lab.stage import Lab


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the Debian roots that are missing")
    build.add_argument("--version", choices=sorted(SUITES), action="append", help="one version only")
    record = commands.add_parser("record", help="record scenes as traces")
    record.add_argument("scene", nargs="*", help="names of scenes; all without any", metavar="SCENE")
    record.add_argument("--into", type=Path, required=True, metavar="DIRECTORY", help="where NAME.trace is written")
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
            asyncio.run(record_scenes(chosen.scene or list(SCENES), chosen.into, chosen.version, cel=chosen.cel))
    except LabUnavailableError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


async def record_scenes(names: list[str], into: Path, version: str, *, cel: bool) -> None:
    pair = Pair(version)
    await pair.start()
    try:
        for name in names:
            async with Lab(pair) as lab:
                trace = into / f"{name}.trace"
                if cel:
                    async with lab.cel(), lab.record(trace):
                        await SCENES[name](lab)
                else:
                    async with lab.record(trace):
                        await SCENES[name](lab)
            print(trace)
    finally:
        pair.stop()


if __name__ == "__main__":
    sys.exit(main())
