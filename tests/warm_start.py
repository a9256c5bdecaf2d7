"""Starts daemons as processes of their own from one that has imported all they need: dozens a minute on two cores.

`python -m tests.warm_start` reads one JSON object a line, the paths `config` and `log` and, where the daemon has a host
of its own, `namespace`; it answers with the pid.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from itgrix_kommo.cli import main as cli
from tests.hosts import enter


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who was killed leaves no zombie
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_daemon(Path(wanted["config"]), Path(wanted["log"]), wanted["namespace"])
        print(pid, flush=True)


def _become_daemon(config: Path, log: Path, namespace: str | None) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
    os.dup2(2, 1)
    if namespace is not None:
        enter(namespace)
    sys.argv = ["itgrix-kommo", "run", "--config", str(config)]
    status = 0
    try:
        cli.main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
