"""What the script calls things, against the schema, the reader and the writer: without a PowerShell, by its text alone.

A registry value that is misspelt is absent on every host, and nobody would notice.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from exporter.demo.machines import document as writer
from exporter.demo.machines import usage
from exporter.probes.winrm.document import BEGIN, END, SCHEMA_VERSION
from exporter.probes.winrm.script import SCRIPT

TEXT: Final = SCRIPT.decode("ascii")
READ: Final = TEXT.partition("# What is read\n")[2].partition("# The document\n")[0]
"""All sections."""
_PIECES: Final = re.split(r"Add-Section '(\w+)'", READ)
SECTIONS: Final = dict(zip(_PIECES[1::2], _PIECES[2::2], strict=True))
"""The text of each."""
SCHEMA: Final[Any] = json.loads(
    (Path(writer.__file__).parents[2] / "probes" / "winrm" / "document.schema.json").read_text(encoding="utf-8")
)


def _literals(text: str) -> set[str]:
    """The words of its strings: parts of paths, names of values, files and properties."""
    strings = re.findall(r"'([^']*)'|\"([^\"]*)\"", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE))
    parts = re.split(r"\\|\$\{?\w+\}?", "\\".join(one or other for one, other in strings))
    return {part for part in parts if part}


def _words_of(*modules: Any) -> set[str]:
    """The same of Python modules."""
    strings = [
        node.value
        for module in modules
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return {part for text in strings for part in text.split("\\") if part}


def _items(section: str) -> set[str]:
    """The names that a section adds, those of its loops over literals included."""
    body = SECTIONS[section]
    names = set(re.findall(r"Add-(?:Item|List) '([^']+)'", body))
    for variable in re.findall(r"Add-Item \$(\w+)", body):
        (listed,) = set(re.findall(rf"foreach \(\${variable} in ((?:'[^']+'(?:, )?)+)\)", body))
        names |= set(re.findall(r"'([^']+)'", listed))
    return names


def test_the_sections_are_those_of_the_schema() -> None:
    assert SECTIONS.keys() == SCHEMA["properties"]["sections"]["properties"].keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_sections_items_are_those_of_the_schema(section: str) -> None:
    described = SCHEMA["properties"]["sections"]["properties"][section]["properties"]["items"]["properties"]

    assert _items(section) == described.keys()


def test_the_envelope_is_what_the_reader_looks_for() -> None:
    keys = re.findall(r"\$document\.Add\('(\w+)'", TEXT)

    assert set(keys) == SCHEMA["properties"].keys() - {"simulation"}
    assert f"$document.Add('schema_version', {SCHEMA_VERSION})" in TEXT
    assert f'$output = "{BEGIN}`r`n"' in TEXT
    assert f'"`r`n{END}`r`n"' in TEXT


ELSEWHERE: Final = {
    "before the sections": _PIECES[0],
    "Get-Exchange": TEXT.partition("function Get-Exchange {")[2].partition("\n}\n")[0],
}
REVIEWED: Final = {
    "folder", "key", "value", "type", "REG_SZ",  # keys of maps and their values
    "64", "*Role",  # put together otherwise
    "MsiInstallPath of ", " is no folder",
}  # fmt: skip
"""Words of the script that the writer has not."""


@pytest.mark.parametrize("place", [*SECTIONS, *ELSEWHERE])
def test_what_is_looked_for_is_what_the_writer_looks_for(place: str) -> None:
    """Word by word: the same keys, values, files, classes and properties."""
    ours = {word for word in _literals({**SECTIONS, **ELSEWHERE}[place]) if not word.startswith("^")}

    assert ours - _words_of(writer, usage) - SECTIONS.keys() - REVIEWED == set()


def test_every_reviewed_word_is_needed() -> None:
    assert not REVIEWED & _words_of(writer, usage)
    assert {word for text in (*SECTIONS.values(), *ELSEWHERE.values()) for word in _literals(text)} >= REVIEWED
