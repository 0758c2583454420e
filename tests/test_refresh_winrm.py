"""The refresh loop with real child processes and simulated Windows hosts: a wrong password is tried once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from winrm_hosts import USER, windows

from exporter.demo.winrm import Logon, SimulatedHosts
from exporter.facts import Fact, HostFacts, Missing, Reason
from exporter.refresh import Refresh

from builders import config

NAMES = [f"exch{n:02}.contoso.test" for n in range(1, 13)]


async def test_a_wrong_password_costs_one_log_on_for_all_hosts_that_share_it(tmp_path: Path) -> None:
    """Twelve share one; whoever is asked first refuses it. All of them stand behind one port, as one host."""
    (tmp_path / "password").write_text("wrong\n", encoding="ascii")
    with SimulatedHosts() as hosts:
        host = hosts.start(windows())
        credential = {
            "auth": "ntlm",
            "username": USER,
            "password_file": str(tmp_path / "password"),
            "port": host.port,
        }
        document = {"credentials": {"readers": credential}, "defaults": {"credentials": "readers", "role": "none"}}
        servers = [{"name": name, "address": "127.0.0.1"} for name in NAMES]
        snapshot = await Refresh(config(document, servers)).once()

    facts = {server.target.name: server.facts.host for server in snapshot.servers}
    assert set(facts) == set(NAMES)
    assert Counter(_reason(fact) for fact in facts.values()) == {
        Reason.AUTH_REJECTED: 1,
        Reason.CREDENTIAL_BLOCKED: 11,
    }
    assert [each.ok for each in host.journal.of(Logon)] == [False]
    assert snapshot.credentials_blocked == {"readers": True}
    (refuser,) = (name for name, fact in facts.items() if _reason(fact) is Reason.AUTH_REJECTED)
    assert all(refuser in fact.detail for name, fact in facts.items() if isinstance(fact, Missing) and name != refuser)


def _reason(fact: Fact[HostFacts]) -> Reason | None:
    return fact.reason if isinstance(fact, Missing) else None
