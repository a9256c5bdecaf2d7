"""`python -m tests.lab build [--version 22|16]`: prepares the roots ahead of the tests."""

from __future__ import annotations

import argparse
import sys

from tests.lab.root import SUITES, LabUnavailableError, ensure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the Debian roots that are missing")
    build.add_argument("--version", choices=sorted(SUITES), action="append", help="one version only")
    chosen = parser.parse_args()
    try:
        for version in chosen.version or sorted(SUITES, reverse=True):
            print(f"Asterisk {version}: {ensure(version).path}")
    except LabUnavailableError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
