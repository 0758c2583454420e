"""The documentation names everything that there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from exporter.config import Config, parse_config
from exporter.exposition.metrics import FLEET_METRICS, SERVER_LABELS, SERVER_METRICS
from exporter.facts import Reason
from exporter.probes.tls.second_opinion import Ruling
from exporter.rules import PROFILES
from exporter.rules.certificates import CERTIFICATES_SOUND
from exporter.rules.cipher_suites import CIPHER_SUITES_RECOMMENDED
from exporter.targets import PRESETS
from exporter.workers import Death

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _read(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_metric_is_documented_with_its_labels() -> None:
    """docs/metrics.md is the metrics table."""
    documented = dict(re.findall(r"^\| `(tls_readiness_\w+)` \|([^|]*)\|", _read("metrics.md"), re.MULTILINE))
    labels = {each.name: each.labels for each in SERVER_METRICS} | {each.name: each.labels for each in FLEET_METRICS}

    assert documented.pop(SERVER_LABELS)
    assert {name: tuple(re.findall(r"\w+", text)) for name, text in documented.items()} == labels


def test_every_reason_is_documented() -> None:
    """docs/concepts.md has the closed list."""
    assert set(re.findall(r"^\| `(\w+)` \|", _read("concepts.md"), re.MULTILINE)) == set(Reason)


def test_the_outcomes_and_deaths_are_documented() -> None:
    """The closed lists of two labels are in the metrics table."""
    text = _read("metrics.md")

    assert all(f"`{word}`" in text for word in (*Ruling, *Death))


def test_every_rule_of_scans_is_documented() -> None:
    """docs/concepts.md says when they fail."""
    text = _read("concepts.md")

    assert all(f"| {rule.id} |" in text for rule in (CERTIFICATES_SOUND, CIPHER_SUITES_RECOMMENDED))


def test_the_configuration_example_is_valid_and_complete() -> None:
    """Every key is in the example, and the example loads."""
    example, targets = re.findall(r"```yaml\n(.*?)```", _read("configuration.md"), re.DOTALL)
    document = yaml.safe_load(example)
    config = parse_config(document, PROFILES)

    assert set(document) == set(Config.model_fields)
    assert set(document["probe"]) == set(type(config.probe).model_fields)
    assert set(document["scan"]) == set(type(config.scan).model_fields)
    assert {key for server in document["servers"][1:] for key in server} == set(type(config.servers[0]).model_fields)
    defaults = parse_config({"servers": ["a"]}, PROFILES)
    assert config.probe == defaults.probe
    assert config.scan.model_copy(update={"ca_file": None}) == defaults.scan
    assert isinstance(yaml.safe_load(targets), list)


def test_the_roles_are_documented() -> None:
    """docs/configuration.md has the presets."""
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", _read("configuration.md"), re.MULTILINE))

    for role, ports in PRESETS.items():
        core, optional = (
            ", ".join(f"{port.number} {port.service}" for port in ports if port.origin == origin)
            for origin in ("core", "optional")
        )
        assert [cell.strip() for cell in rows[role].split("|")] == [core, optional], role


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link has a file, and every anchor a heading."""
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, link
