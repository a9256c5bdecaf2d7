"""Run as a script: becomes the given program, which the kernel kills when the process that started it dies.

A killed daemon can't stop its workers, and php-cgi would wait for requests for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before we asked
        return
    os.execv(command[0], command)  # noqa: S606 - replacing itself by what it was given is all this does


if __name__ == "__main__":
    main()
