"""A snapshot as one JSON document: what ``audit --output json`` prints.

Fields may be added; those that are there stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import exporter
from exporter.facts import Certificate, CertificateChain, EndpointFacts, Fact, Known, Missing, T_co, dotted
from exporter.snapshot import ServerSnapshot, Snapshot
from exporter.verdicts import ProfileVerdict, Verdict

SCHEMA_VERSION = 1
_SECONDS = frozenset({"clock_offset"})  # what is a number of seconds, and no time


def document(snapshot: Snapshot) -> dict[str, Any]:
    """The document of a snapshot, made of what JSON has."""
    return {
        "schema_version": SCHEMA_VERSION,
        "generated_at": _time(snapshot.at),
        "version": exporter.__version__,
        "servers": [_server(server, snapshot.at) for server in snapshot.servers],
    }


def _server(server: ServerSnapshot, now: float) -> dict[str, Any]:
    used = [facts for facts in server.facts.endpoints if facts.in_use]
    unused = [facts for facts in server.facts.endpoints if not facts.in_use]
    return {
        "server": server.target.name,
        "role": server.target.role,
        "labels": dict(server.target.labels),
        "observed": {
            "sweep": _time(max((facts.tried_at for facts in used), default=0.0)),
            "scan": _time(max((facts.scanned_at for facts in used), default=0.0)),
            "collect": _time(server.facts.host.at) if isinstance(server.facts.host, Known) else None,
        },
        "host": _item(server.facts.host),
        "profiles": {name: _profile(verdict) for name, verdict in server.profiles.items()},
        "endpoints": [_endpoint(facts, now) for facts in used],
        "endpoints_not_in_use": [
            {"endpoint": facts.endpoint, "service": facts.service, "door": facts.door.value} for facts in unused
        ],
        "rules": [_rule(verdict) for verdict in server.verdicts],
    }


def _profile(verdict: ProfileVerdict) -> dict[str, Any]:
    return {
        "state": verdict.state.value,
        "blockers": list(verdict.blockers),
        "unknown": list(verdict.unknown),
        **({"reason": verdict.reason} if verdict.reason else {}),
        "next_step": verdict.next_step,
    }


def _endpoint(facts: EndpointFacts, now: float) -> dict[str, Any]:
    return {
        "endpoint": facts.endpoint,
        "service": facts.service,
        "origin": facts.origin,
        "address": facts.address,
        "up": facts.speaks_tls,
        "protocols": {protocol.value: _answer(fact) for protocol, fact in facts.accepted.items()},
        "certificates": _known(facts.certificates, lambda chains: [_chain(chain) for chain in chains]),
        "cipher_suites": {protocol.value: _known(fact, list) for protocol, fact in facts.cipher_suites.items()},
        "second_opinion_connections": len(facts.asked_within_a_day(now)),
    }


def _known(fact: Fact[T_co], shown: Callable[[T_co], Any]) -> dict[str, Any]:
    """A fact that a scan found: its value, or why there is none."""
    if isinstance(fact, Missing):
        return _unknown(fact)
    return {"state": "known", "at": _time(fact.at), "value": shown(fact.value)}


def _unknown(missing: Missing) -> dict[str, Any]:
    return {"state": "unknown", "reason": missing.reason.value, "detail": missing.detail}


def _chain(chain: CertificateChain) -> dict[str, Any]:
    return {
        "matches_name": chain.matches_name,
        "trusted": _known(chain.trusted, bool),
        **({"objection": chain.trusted.detail} if isinstance(chain.trusted, Known) and chain.trusted.detail else {}),
        "certificates": [_certificate(certificate) for certificate in chain.certificates],
    }


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": list(certificate.names),
        "not_before": _date(certificate.not_before),
        "not_after": _date(certificate.not_after),
        "public_key": certificate.public_key,
        "signature_hash": certificate.signature_hash,
        "sha512_signed": certificate.sha512_signed,
        "fingerprint_sha256": certificate.fingerprint_sha256,
    }


def _answer(fact: Fact[bool]) -> dict[str, Any]:
    state = ("accepted" if fact.value else "rejected") if isinstance(fact, Known) else "unknown"
    return {
        "state": state,
        **({"reason": fact.reason.value} if fact.reason else {}),
        **({"detail": fact.detail} if fact.detail else {}),
        **({"at": _time(fact.at)} if isinstance(fact, Known) else {}),
    }


def _item(value: Any) -> Any:
    """Anything that host facts are made of. Their floats are times, but for one; their tuples of numbers versions."""
    shown = value
    match value:
        case Known():
            shown = {"state": "known", "value": _item(value.value)}
        case Missing():
            shown = _unknown(value)
        case Certificate():
            shown = _certificate(value)
        case float():
            shown = _date(value)
        case tuple() if value and all(isinstance(each, int) for each in value):
            shown = dotted(value)
        case tuple():
            shown = [_item(each) for each in value]
        case Mapping():
            shown = {str(name): _item(each) for name, each in value.items()}
        case _ if is_dataclass(value):
            items = {each.name: getattr(value, each.name) for each in fields(value)}
            shown = {name: item if name in _SECONDS else _item(item) for name, item in items.items()}
    return shown


def _rule(verdict: Verdict) -> dict[str, Any]:
    return {
        "rule": verdict.rule.id,
        "state": verdict.state.value,
        "severity": verdict.rule.severity.value,
        **({"reason": verdict.reason} if verdict.reason else {}),
        "evidence": verdict.evidence,
        "remedy": verdict.rule.remedy,
        "source": verdict.rule.source,
    }


def _date(timestamp: float) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _time(timestamp: float) -> str | None:
    """The same, where 0 means never."""
    return _date(timestamp) if timestamp else None
