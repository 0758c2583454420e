"""Simulated Windows hosts: WinRM with real NTLM, Kerberos, TLS and message encryption, and no Windows behind it.

Each answers the collector's script with the document of a simulated machine, and keeps a journal of what it saw. It
runs nothing: a script with another hash, or another program, is refused.
"""

from __future__ import annotations

from exporter.demo.winrm.acceptors import Acceptors
from exporter.demo.winrm.host import (
    Account,
    ClientCertificates,
    Https,
    Quotas,
    ScriptOutput,
    WindowsHost,
)
from exporter.demo.winrm.journal import Asked, Closed, Journal, Logon, Opened, Operation, Readable
from exporter.demo.winrm.misbehaviour import Close, CloseAfter, Cut, Delay, Reply, Seen, Silence, Trickle
from exporter.demo.winrm.service import Listening, SimulatedHosts

__all__ = [
    "Acceptors",
    "Account",
    "Asked",
    "ClientCertificates",
    "Close",
    "CloseAfter",
    "Closed",
    "Cut",
    "Delay",
    "Https",
    "Journal",
    "Listening",
    "Logon",
    "Opened",
    "Operation",
    "Quotas",
    "Readable",
    "Reply",
    "ScriptOutput",
    "Seen",
    "Silence",
    "SimulatedHosts",
    "Trickle",
    "WindowsHost",
]
