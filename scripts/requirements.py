"""Print the part of constraints.txt that some extras need, for ``pip install --require-hashes -r``.

pip checks hashes only in requirements files, and there only if every package of the file has one. constraints.txt
holds everything that any extra needs; this picks what the package itself, its build, and the named extras need.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BY_EXTRA = {"pywinrm[kerberos]": {"pykerberos", "winkerberos"}}
"""What another package needs only with an extra of its own. The lock does not tell it from what it always needs, and
these need a compiler, which nobody should need who did not ask for them."""


def main(extras: list[str]) -> None:
    """Print the entries that these extras need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    optional = project["project"]["optional-dependencies"]
    wanted = {name(text) for text in project["project"]["dependencies"] + project["build-system"]["requires"]}
    wanted |= {"editables"}
    for extra in [*extras, *(extra for each in extras for text in optional[each] for extra in own_extras(text))]:
        wanted |= {name(text) for text in optional[extra]}
        wanted |= {each for text in optional[extra] for each in BY_EXTRA.get(with_extras(text), ())}
    entries = {name(entry): entry for entry in re.split(r"\n(?=\S)(?!    )", constraints()) if entry.strip()}
    for each in set().union(*BY_EXTRA.values()) - wanted:
        entries.pop(each, None)
    needed: set[str] = set()
    while new := {each for each in entries if each in wanted or parents(entries[each]) & needed} - needed:
        needed |= new
    sys.stdout.write("\n".join(entries[each] for each in sorted(needed)) + "\n")


def constraints() -> str:
    """The file's text."""
    return (ROOT / "constraints.txt").read_text(encoding="utf-8")


def name(text: str) -> str:
    """The normalised name at the beginning of a requirement."""
    match = re.match(r"[A-Za-z0-9._-]+", text)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def with_extras(text: str) -> str:
    """The same with the extras that it names."""
    match = re.match(r"[^<>=!~;\s]+", text)
    return match[0].lower() if match else ""


def own_extras(text: str) -> list[str]:
    """The extras of ours that a requirement on ourselves names."""
    match = re.match(r"tls-readiness-exporter\[([^]]*)\]", text)
    return match[1].split(",") if match else []


def parents(entry: str) -> set[str]:
    """The packages that an entry is there for, from the lock's ``# via`` comments."""
    return {name(line.strip(" #").removeprefix("via").strip()) for line in entry.splitlines() if "#" in line} - {""}


if __name__ == "__main__":
    main(sys.argv[1:])
