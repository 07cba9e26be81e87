"""Where a server's data and programs lie: in the project, or elsewhere when its user cannot reach the project.

Only root meets the second case: the server runs as an unprivileged user who cannot enter, say, /root. Then the data
lies below /var/lib/shop-similarity (or /var/tmp/shop-similarity), in a folder named by chance that the project
records, and the programs are copied next to it.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import ServiceError
from .users import ServerUser

ELSEWHERE = (Path("/var/lib/shop-similarity"), Path("/var/tmp/shop-similarity"))  # noqa: S108 - owner is checked  # nosec B108
SEARCHABLE = 0o711
READABLE = 0o755


def place_data(
    folder: Path,
    recorded: str | None,
    user: ServerUser | None,
    elsewhere: Sequence[Path] = ELSEWHERE,
) -> Path:
    """The folder that the server's data lies in: `folder`, or one elsewhere that `user` can reach.

    `recorded` is the place of an earlier start; it stays, so that no data seems lost when permissions change.
    Raises ServiceError if the recorded place is gone or no reachable place can be made.
    """
    if recorded is not None:
        place = Path(recorded)
        if not place.is_dir():
            raise ServiceError(
                f"The server's data lay in {place}, which is gone. Bring it back, or delete {folder} to start anew."
            )
        return place
    if user is None or user.can_enter(folder):
        return folder
    base = _shared_folder(elsewhere, user)
    place = base / secrets.token_hex(8)
    place.mkdir(mode=SEARCHABLE)
    place.chmod(SEARCHABLE)
    (place / "project").write_text(f"{folder}\n", encoding="utf-8")
    return place


def place_programs(
    folders: Sequence[Path],
    program: Path,
    user: ServerUser | None,
    report: Callable[[str], None],
    elsewhere: Sequence[Path] = ELSEWHERE,
) -> Path:
    """The path under which `user` can execute `program`, which lies in the first of `folders`.

    If the user cannot reach it, `folders` (neighbours of one another, so that libraries are still found by relative
    path) are copied to a shared place first.
    """
    if user is None or user.can_enter(program):
        return program
    parent = folders[0].parent
    # Another version or another build must not be served from an old copy.
    state = program.stat()
    base = _shared_folder(elsewhere, user) / f"programs-{folders[0].name}-{state.st_size}-{int(state.st_mtime)}"
    copied = base / program.relative_to(parent)
    if not base.exists():
        report(f"Copying {folders[0].name} to {base}, because the user {user.name} cannot reach {parent}.")
        temporary = base.with_name(f"{base.name}.{os.getpid()}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in folders:
            if folder.is_dir():
                shutil.copytree(folder, temporary / folder.name, symlinks=True)
        _open_for_reading(temporary)
        try:
            temporary.rename(base)
        except OSError:  # somebody else was faster
            shutil.rmtree(temporary, ignore_errors=True)
    if not user.can_enter(copied):
        raise ServiceError(f"The user {user.name} cannot execute {copied}; is {base.parent} mounted noexec?")
    return copied


def _open_for_reading(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(READABLE if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _shared_folder(elsewhere: Sequence[Path], user: ServerUser) -> Path:
    tried = []
    for base in elsewhere:
        try:
            base.mkdir(mode=READABLE, parents=True, exist_ok=True)
            state = base.lstat()
            if stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid():
                base.chmod(READABLE)
                if user.can_enter(base):
                    return base
            tried.append(f"{base} (not root's own folder, or not reachable for {user.name})")
        except OSError as error:
            tried.append(f"{base} ({error.strerror})")
    raise ServiceError(
        f"The user {user.name}, whom the server has to run as, cannot reach the project folder, and no other place "
        f"could be made: {'; '.join(tried)}. Move the project to a folder that everybody may enter."
    )
