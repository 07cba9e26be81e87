"""The unprivileged user that a server runs as when the shop itself is started by root.

Postgres refuses to run as root, and no server of a demo has to.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ServiceError

CANDIDATES = ("postgres", "nobody")
SHELL = "/bin/sh"
_REFUSED = 77
# Changes the user, then becomes the program. Where Python's subprocess is to change the user, it forks in full, and a
# full fork runs what libraries have registered for it: OpenBLAS waits for ever there while another thread multiplies.
_BECOME = f"""
import os, signal, sys
uid, gid, program = sys.argv[1:4]
try:
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
except PermissionError as error:
    print(error, file=sys.stderr)
    sys.exit({_REFUSED})
# Python ignores these for itself, and what is ignored stays so in the program.
for name in ("SIGPIPE", "SIGXFSZ"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
try:
    os.execv(program, sys.argv[3:])
except OSError as error:
    print(f"{{program}}: {{error.strerror}}", file=sys.stderr)
    sys.exit(127)
"""


@dataclass(frozen=True)
class ServerUser:
    """A user of this machine that is not root."""

    uid: int
    gid: int
    name: str

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Of a program's path and arguments, those that start it as this user, without root's groups."""
        return [sys.executable, "-I", "-S", "-c", _BECOME, str(self.uid), str(self.gid), *arguments]

    def owns(self, path: Path) -> None:
        """Hand this one file or folder, not what is in it, to the user."""
        os.chown(path, self.uid, self.gid)

    def can_enter(self, path: Path) -> bool:
        """Whether the user reaches `path` and may enter (a folder) or execute (a program) it.

        Asked of the system itself: permission bits alone would not see access lists and mount options.
        """
        asked = subprocess.run(  # noqa: S603
            self.command([SHELL, "-c", 'test -x "$0"', os.fspath(path)]),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # or Ctrl-C would cut the question short
        )
        if asked.returncode == _REFUSED:
            raise ServiceError(
                f"Root is not allowed to start a server as the user {self.name} here ({asked.stderr.strip()}). "
                "Start the shop as an ordinary user, or give DATABASE_URL and REDIS_URL."
            )
        # What was not answered must not pass for a no, for a no moves the data elsewhere.
        if asked.returncode not in (0, 1):
            raise ServiceError(
                f"Whether the user {self.name} can reach {path} could not be found out ({asked.returncode})."
            )
        return asked.returncode == 0


def server_user(data: Path) -> ServerUser | None:
    """Whom the server has to run as: nobody else (None) unless root starts it.

    Root hands a data folder that exists to its owner, a new one to the first of CANDIDATES that the machine has.
    Raises ServiceError where no unprivileged user can be found.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    if data.exists() and (owner := data.stat().st_uid) != 0:
        try:
            entry = pwd.getpwuid(owner)
            return ServerUser(owner, entry.pw_gid, entry.pw_name)
        except KeyError:
            return ServerUser(owner, data.stat().st_gid, str(owner))
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServerUser(entry.pw_uid, entry.pw_gid, name)
    raise ServiceError(
        "The shop's servers do not run as root, and this machine has neither a user `postgres` nor `nobody` "
        "to run them as. Start the shop as an ordinary user, or give DATABASE_URL and REDIS_URL."
    )
