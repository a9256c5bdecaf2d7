"""`scripts/install`: asks the few things it must, then goes through the steps."""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from pathlib import Path

from scripts.installer import manager, service, settings, steps
from scripts.installer.host import Host, InstallError, alone, can_ask
from scripts.installer.places import CONFIG, SECRETS, Options

_ADDRESS = re.compile(r"https://[a-z0-9-]+\.(?:kommo\.com|amocrm\.ru|amocrm\.com)/?|http://127\.0\.0\.1:\d+/?")


def main() -> int:
    given = _parser().parse_args()
    host = Host(dry_run=given.dry_run)
    # The program is for the service's user too, whatever root usually grants.
    os.umask(0o022)
    try:
        with alone():
            _install(host, _options(given))
    except InstallError as error:
        print(f"\n✗ {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"\n✗ {where}{error.strerror}: mend that and run the installer again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n✗ interrupted: run the installer again, it goes on from here", file=sys.stderr)
        return 130
    print("\nA dry run: nothing was changed." if given.dry_run else f"\nInstalled. The configuration is {CONFIG}.")
    return 0


def _install(host: Host, options: Options) -> None:
    around = steps.look(host, options)
    steps.packages(host, options, around)
    steps.users(host)
    former = steps.program(host, options)
    settings.credentials(host, options, around)
    settings.configuration(host, options, around)
    manager.asterisk(host, around)
    service.service(host, options, around, former)
    if options.check:
        service.examine(host)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/install", description="Installs itgrix-kommo, or upgrades it.")
    parser.add_argument("--dry-run", action="store_true", help="print every step, change nothing")
    parser.add_argument("--kommo", metavar="ADDRESS", default="", help="the account, such as https://acme.kommo.com")
    token = parser.add_mutually_exclusive_group()
    token.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the long-lived token")
    token.add_argument("--token-stdin", action="store_true", help="read the token from standard input")
    parser.add_argument(
        "--employee", metavar="USER=EXTENSION", action="append", default=[], help="a Kommo user's id and his extension"
    )
    parser.add_argument("--no-packages", dest="packages", action="store_false", help="install no packages, name them")
    parser.add_argument("--no-start", dest="start", action="store_false", help="enable the service, don't start it")
    parser.add_argument("--no-check", dest="check", action="store_false", help="don't look at the end if all is there")
    parser.add_argument("--log-file", action="store_true", help="log to /var/log/itgrix_amo.log, not to the journal")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    return parser


def _options(given: argparse.Namespace) -> Options:
    """What was given, completed by what a person answers where nothing is configured yet. Raises InstallError."""
    asking = can_ask() and not (given.yes or given.dry_run or CONFIG.exists())
    kommo = given.kommo or (input("Kommo account, such as https://acme.kommo.com (empty: later): ") if asking else "")
    if kommo and not _ADDRESS.fullmatch(kommo.strip()):
        raise InstallError(f"{kommo!r} is no address of a Kommo account: give one such as https://acme.kommo.com")
    token = ""
    if given.token_file:
        token = given.token_file.read_text("utf-8")
    elif given.token_stdin:
        token = sys.stdin.readline()
    elif asking and not (SECRETS / "kommo_access_token").exists():
        token = getpass.getpass("The integration's long-lived token (not shown; empty: later): ")
    if not re.fullmatch(r"[!-~]*", token.strip()):
        raise InstallError("the token has spaces or foreign letters in it: give the token alone, in one line")
    employees = given.employee
    if asking and not employees:
        answer = input("Employees as USER=EXTENSION, such as 9100001=101 9100002=102 (empty: later): ")
        employees = answer.replace(",", " ").split()
    return Options(
        source=Path(__file__).resolve().parents[2],
        kommo=kommo.strip().rstrip("/"),
        token=token.strip(),
        employees=tuple(_employee(one) for one in employees),
        packages=given.packages,
        log_file=given.log_file,
        start=given.start,
        check=given.check,
    )


def _employee(text: str) -> tuple[int, str]:
    user, _, extension = text.partition("=")
    if not (user.isdecimal() and extension.isdecimal()):
        raise InstallError(f"{text!r} is no employee: give his id in Kommo and his extension, such as 9100001=101")
    return int(user), extension


if __name__ == "__main__":
    sys.exit(main())
