"""Whether an installed package has a vulnerability that is known: `make audit`. Arguments go on to pip-audit.

It ends with 1 if there is one, and with 0 if there is none or if nobody could be asked; the last line says which.
"""

import json
import subprocess
import sys

UNREACHABLE = ("ConnectionError", "Could not connect", "ConnectionPool", "Timeout", "ServiceError")


def main(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *(arguments or ["--local"])], capture_output=True, text=True)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        if any(sign in done.stderr for sign in UNREACHABLE):
            reason = done.stderr.strip().splitlines()[-1][:300]
            return say(0, f"NOT AUDITED: the list of known vulnerabilities can't be reached ({reason}).")
        print(done.stderr, file=sys.stderr)  # noqa: T201
        return say(1, f"pip-audit ended with {done.returncode} and no report.")
    # A mirror without such a list says of each package that it knows nothing, and pip-audit finds nothing wrong then.
    asked = [package for package in packages if "vulns" in package]
    vulnerable = [(package, fault) for package in asked for fault in package["vulns"]]
    for package, fault in vulnerable:
        fixed = ", ".join(fault["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {fault['id']}; mended in {fixed}")  # noqa: T201
    if vulnerable:
        return say(1, f"{len(vulnerable)} known vulnerabilities in {len(asked)} packages: raise their versions.")
    unknown = len(packages) - len(asked)
    if not asked:
        return say(0, f"NOT AUDITED: the service knows none of the {unknown} packages, so it lists no vulnerabilities.")
    rest = f"; NOT AUDITED: {unknown} that the service doesn't know" if unknown else ""
    return say(0, f"No known vulnerability in {len(asked)} packages{rest}.")


def say(status: int, sentence: str) -> int:
    print(sentence)  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
