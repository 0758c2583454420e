"""The scan against servers that are simulated here: no sockets, every connection counted.

What matters most: whatever a server does, a list of cipher suites that is called complete is no shorter than the truth.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.facts import NOT_WANTED, EndpointScan, Known, Missing, Protocol, Reason
from exporter.probes.tls import scan as scan_module
from exporter.probes.tls.answer import Refused, Unclear
from exporter.probes.tls.handshake import Agreed, Offer, Outcome, WeakKey, offers
from exporter.probes.tls.jobs import SCAN, Place, ScanJob
from exporter.probes.tls.scan import CONNECTION_LIMIT, scan

S2, S3, T10, T11, T12, T13 = Protocol
NAME = "exch01.contoso.test"
SUITES: Final = {
    protocol: tuple(suite for offer in offers(protocol) for suite in offer.suites) for protocol in Protocol
}
"""All suites that a scan can find, per version."""
ENOUGH: Final = 10_000  # connections

CLOSED = Refused(Reason.CONNECTION_CLOSED, "closed")
RESET = Refused(Reason.CONNECTION_RESET, "reset")
ALERT = Refused(Reason.TLS_ALERT, "alert 40")
BABBLE = Refused(Reason.WRONG_VERSION, "something else than TLS")
STALL = Unclear(Reason.TLS_TIMEOUT, "connected, then silence")
SHUT = Unclear(Reason.TCP_REFUSED, "nobody listens")
FAILURES: Final = (CLOSED, RESET, ALERT, BABBLE, STALL, SHUT)


def certificate(kind: str, name: str = NAME) -> tuple[str, ...]:
    """A chain for a name, PEM, as a server presents it."""
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(name, key_type=trustme.KeyType[kind])
    return tuple(blob.bytes().decode() for blob in issued.cert_chain_pems)


EC_CHAIN: Final = certificate("ECDSA")
RSA_CHAIN: Final = certificate("RSA")


def ephemeral_dh(suite: str) -> bool:
    return "_DHE_" in suite or "_DH_anon_" in suite


@dataclass
class Server:
    """A simulated server.

    Attributes:
        accepts: the suites per version, those first that it prefers.
        client_decides: whether the client's order counts instead.
        weak_key: whether its Diffie-Hellman key is too small for OpenSSL.
        refusal: what it does when there is nothing in common.
        lasts: connections after which it is through; None for never.
        afterwards: what happens to the connections after those.
        dislikes: offers that it answers with `afterwards` from the beginning.
        chain: what it presents.
        ec_chain: the same for suites that ECDSA signs.
        clock, takes: what it lets pass for each connection, in seconds.
        calls: the offers that it was sent.
        limits: the limits that came with them.
        agreed: the suites that it chose, per version.
    """

    accepts: Mapping[Protocol, Sequence[str]]
    client_decides: bool = False
    weak_key: bool = False
    refusal: Refused = ALERT
    lasts: int | None = None
    afterwards: Refused | Unclear = CLOSED
    dislikes: Callable[[Offer], bool] = lambda _offer: False
    chain: tuple[str, ...] = RSA_CHAIN
    ec_chain: tuple[str, ...] = RSA_CHAIN
    clock: Clock | None = None
    takes: float = 0.0
    calls: list[Offer] = field(default_factory=list, init=False)
    limits: list[float] = field(default_factory=list, init=False)
    agreed: dict[Protocol, set[str]] = field(default_factory=dict, init=False)

    def __call__(self, offer: Offer, limit: float) -> Outcome:
        assert offer.suites, "nothing was offered"
        self.calls.append(offer)
        self.limits.append(limit)
        if self.clock is not None:
            self.clock.now += self.takes
        if (self.lasts is not None and len(self.calls) > self.lasts) or self.dislikes(offer):
            return self.afterwards
        return self._answer(offer)

    def _answer(self, offer: Offer) -> Outcome:
        mine = self.accepts.get(offer.protocol, ())
        first, second = (offer.suites, mine) if self.client_decides else (mine, offer.suites)
        suite = next((each for each in first if each in second), None)
        if suite is None:
            return self.refusal
        if self.weak_key and ephemeral_dh(suite):
            return WeakKey()
        self.agreed.setdefault(offer.protocol, set()).add(suite)
        if "_anon_" in suite:
            return Agreed(suite, ())
        return Agreed(suite, self.ec_chain if "_ECDSA_" in suite else self.chain)

    @property
    def truth(self) -> dict[Protocol, set[str]]:
        return {protocol: set(suites) for protocol, suites in self.accepts.items()}


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now


def job(
    protocols: Sequence[Protocol],
    connections: int = ENOUGH,
    *,
    certificates: bool = True,
    cipher_suites: bool = True,
) -> ScanJob:
    place = Place(NAME, "127.0.0.1", 443, "https", "probe.contoso.test")
    return ScanJob(place, tuple(protocols), certificates, cipher_suites, connections)


def suites_of(server: Server, connections: int = ENOUGH) -> EndpointScan:
    """Scan a server for its suites alone; hold what holds for every scan."""
    found = scan(job(tuple(server.accepts), connections, certificates=False), 60.0, server)
    assert found.connections == len(server.calls) <= connections
    assert set(found.cipher_suites) == set(server.accepts)
    assert found.certificates == NOT_WANTED
    return found


def known(found: EndpointScan) -> dict[Protocol, set[str]]:
    """The lists that are called complete. No suite is in one twice."""
    lists = {protocol: fact.value for protocol, fact in found.cipher_suites.items() if isinstance(fact, Known)}
    assert all(len(suites) == len(set(suites)) for suites in lists.values())
    return {protocol: set(suites) for protocol, suites in lists.items()}


def missing(found: EndpointScan) -> dict[Protocol, Missing]:
    return {protocol: fact for protocol, fact in found.cipher_suites.items() if isinstance(fact, Missing)}


def so_far(fact: Missing) -> set[str]:
    """The suites that a missing list names as accepted so far."""
    _, _, names = fact.detail.partition("accepted so far: ")
    return set(names.split(", ")) if names else set()


@st.composite
def servers(draw: st.DrawFn, most: int = 6) -> Server:
    """Any server that accepts some suites of some versions, up to ``most`` of each."""
    protocols = draw(st.lists(st.sampled_from(Protocol), min_size=1, unique=True))
    return Server(
        accepts={
            protocol: draw(st.lists(st.sampled_from(SUITES[protocol]), min_size=1, max_size=most, unique=True))
            for protocol in protocols
        },
        client_decides=draw(st.booleans()),
        weak_key=draw(st.booleans()),
        refusal=draw(st.sampled_from([CLOSED, RESET, ALERT])),
    )


MODERN: Final[Mapping[Protocol, tuple[str, ...]]] = {
    T12: ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    T13: ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"),
}
OLD: Final[Mapping[Protocol, tuple[str, ...]]] = {
    T10: ("TLS_RSA_WITH_AES_128_CBC_SHA",),
    T11: ("TLS_RSA_WITH_AES_128_CBC_SHA",),
}


# What the server accepts, exactly


@settings(deadline=None, max_examples=150)
@given(server=servers(most=12))
def test_it_finds_exactly_the_suites_that_the_server_accepts(server: Server) -> None:
    found = suites_of(server)

    assert found.failure is None
    assert known(found) == server.truth


@pytest.mark.parametrize("weak_key", [False, True])
@pytest.mark.parametrize("protocol", Protocol)
def test_it_finds_every_suite_that_there_is(protocol: Protocol, *, weak_key: bool) -> None:
    """A server that accepts all of them: nothing is left to be refused in the end."""
    assert known(suites_of(Server({protocol: SUITES[protocol]}, weak_key=weak_key))) == {protocol: {*SUITES[protocol]}}


@pytest.mark.parametrize("protocol", Protocol)
def test_it_finds_each_suite_where_it_is_the_only_one(protocol: Protocol) -> None:
    for suite in SUITES[protocol]:
        assert known(suites_of(Server({protocol: [suite]}))) == {protocol: {suite}}


@settings(deadline=None, max_examples=100)
@given(server=servers())
def test_it_costs_a_connection_for_each_suite_and_a_few_more(server: Server) -> None:
    """A few: what refuses each offer in the end, twice where it hangs up, perhaps at first; two acceptances."""
    server.weak_key = False
    refusals = sum(len(offers(protocol)) for protocol in server.accepts)
    accepted = sum(map(len, server.accepts.values()))

    assert accepted < suites_of(server).connections <= accepted + 3 * refusals + 2


def test_a_list_has_the_order_in_which_the_server_prefers_its_suites() -> None:
    found = suites_of(Server(MODERN))

    assert {protocol: fact.value for protocol, fact in found.cipher_suites.items()} == MODERN


def test_the_versions_that_stay_come_first() -> None:
    """Whatever the order in which the sweep names them: TLS 1.2, TLS 1.3, then what is to go."""
    server = Server({protocol: SUITES[protocol][:1] for protocol in Protocol})
    found = scan(job(tuple(Protocol), certificates=False), 60.0, server)

    order = [T12, T13, T10, T11, S3, S2]
    asked = list(dict.fromkeys(offer.protocol for offer in server.calls))
    assert asked == list(found.cipher_suites) == order


def test_no_version_is_asked_for_that_the_sweep_did_not_see() -> None:
    server = Server({**MODERN, **OLD})
    found = scan(job([T12]), 60.0, server)

    assert {offer.protocol for offer in server.calls} == {T12}
    assert set(found.cipher_suites) == {T12}


@settings(deadline=None, max_examples=50)
@given(server=servers())
def test_a_scan_survives_the_way_from_child_to_parent(server: Server) -> None:
    found = suites_of(server)

    assert SCAN.validate_json(SCAN.dump_json(found)) == found


# Servers that do not last


@settings(deadline=None, max_examples=60)
@given(server=servers(most=4), failure=st.sampled_from(FAILURES))
def test_a_server_that_fails_after_any_number_of_connections_never_looks_better_than_it_is(
    server: Server, failure: Refused | Unclear
) -> None:
    """It closes, resets, says no, babbles, stalls or is gone from some connection on: no list is called complete then
    that is shorter than the truth, and what was accepted before it failed is named."""
    full = suites_of(server).connections
    for lasts in range(full):
        failing = replace(server, lasts=lasts, afterwards=failure)
        found = suites_of(failing)

        for protocol, suites in known(found).items():
            assert suites == server.truth[protocol], (lasts, protocol)
        assert found.failure is not None, lasts
        for protocol, fact in missing(found).items():
            assert failing.agreed.get(protocol, set()) <= so_far(fact) <= server.truth[protocol]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("protocol", [T10, T12, T13])
def test_the_same_for_a_server_with_all_suites(protocol: Protocol, failure: Refused | Unclear) -> None:
    """Here no refusal ends the list of an offer, and the first one that comes is the server's failure."""
    truth = {protocol: SUITES[protocol]}
    full = suites_of(Server(truth)).connections
    for lasts in range(0, full, 7):
        found = suites_of(Server(truth, lasts=lasts, afterwards=failure))
        assert known(found) == {}, lasts


def test_what_was_proven_before_the_server_failed_stays_known() -> None:
    """TLS 1.3 was accepted after TLS 1.2 refused the rest of its suites: that refusal counts."""
    server = Server(MODERN, dislikes=lambda offer: offer.protocol is T13 and len(offer.suites) < 5, afterwards=STALL)
    found = suites_of(server)

    assert known(found) == {T12: set(MODERN[T12])}
    assert missing(found) == {
        T13: Missing(Reason.TLS_TIMEOUT, "connected, then silence; TLS 1.3 accepted so far: TLS_AES_256_GCM_SHA384")
    }


def test_refusals_at_the_end_count_only_if_the_server_still_accepts() -> None:
    """The last refusal of a scan would pass for the end of a list, were it not asked once more."""
    full = suites_of(Server(MODERN)).connections
    server = Server(MODERN, lasts=full - 1, afterwards=RESET)
    found = suites_of(server)

    fact = missing(found)[T13]
    assert fact.reason is Reason.CONNECTION_RESET
    assert "nothing was accepted after it" in fact.detail
    assert so_far(fact) == set(MODERN[T13])


@pytest.mark.parametrize("unclear", [STALL, SHUT, Unclear(Reason.NOT_TLS, "?")])
def test_an_unclear_outcome_ends_the_scan_at_once(unclear: Unclear) -> None:
    """A server that stalls is left in peace; the rest is missing for that reason."""
    for lasts in range(7):
        server = Server({**MODERN, **OLD}, lasts=lasts, afterwards=unclear)
        found = scan(job([T10, T11, T12, T13]), 60.0, server)

        assert len(server.calls) == lasts + 1
        assert {fact.reason for fact in missing(found).values()} == {unclear.reason}
        assert all(fact.detail.startswith(unclear.detail) for fact in missing(found).values())
        assert isinstance(found.certificates, Known) is (lasts > 0)


def test_a_version_that_stalls_does_not_cost_those_before_it() -> None:
    server = Server({**MODERN, **OLD}, dislikes=lambda offer: offer.protocol is T10, afterwards=STALL)
    found = suites_of(server)

    assert known(found) == {T12: set(MODERN[T12])}
    assert {protocol: fact.reason for protocol, fact in missing(found).items()} == dict.fromkeys(
        [T13, T10, T11], Reason.TLS_TIMEOUT
    )


# Servers that the sweep saw otherwise


@pytest.mark.parametrize("refusal", [CLOSED, RESET, ALERT])
def test_a_server_that_accepts_nothing_contradicts_the_sweep(refusal: Refused) -> None:
    server = Server({}, refusal=refusal)
    found = scan(job([T10, T12, T13]), 60.0, server)

    assert isinstance(found.certificates, Missing)
    assert {found.certificates.reason, *(fact.reason for fact in missing(found).values())} == {Reason.CONTRADICTORY}
    assert set(missing(found)) == {T10, T12, T13}
    assert server.calls == [offer for protocol in (T12, T13, T10) for offer in offers(protocol)]


def test_a_version_that_is_refused_where_others_are_accepted_contradicts_the_sweep() -> None:
    found = scan(job([T12, T10, T13]), 60.0, Server(MODERN))

    assert known(found) == {protocol: set(suites) for protocol, suites in MODERN.items()}
    assert missing(found) == {T10: Missing(Reason.CONTRADICTORY, "the sweep saw it accepted, the scan did not")}


def test_a_server_whose_first_version_is_refused_is_scanned_by_the_next() -> None:
    found = scan(job([T12, T13]), 60.0, Server({T13: MODERN[T13]}))

    assert known(found) == {T13: set(MODERN[T13])}
    assert missing(found)[T12].reason is Reason.CONTRADICTORY
    assert isinstance(found.certificates, Known)


# The budget


@settings(deadline=None, max_examples=60)
@given(server=servers(), data=st.data())
def test_the_connections_are_kept_to_exactly(server: Server, data: st.DataObject) -> None:
    """With too few the scan uses all that it has, says so, and names what was accepted so far."""
    full = suites_of(server).connections
    budget = data.draw(st.integers(1, full - 1)) if full > 1 else 1
    poor = replace(server)
    found = suites_of(poor, budget)

    assert found.connections == len(poor.calls) == budget
    assert found.failure is not None
    for protocol, suites in known(found).items():
        assert suites == server.truth[protocol]
    for protocol, fact in missing(found).items():
        assert fact.reason is Reason.DEADLINE
        assert fact.detail.startswith(f"all connections of the scan ({budget}) are used up")
        assert poor.agreed.get(protocol, set()) <= so_far(fact) <= server.truth[protocol]


@settings(deadline=None, max_examples=60)
@given(server=servers())
def test_exactly_enough_connections_are_enough(server: Server) -> None:
    full = suites_of(server).connections
    found = suites_of(replace(server), full)

    assert (found.failure, found.connections) == (None, full)
    assert known(found) == server.truth


def test_one_connection_buys_the_certificate_and_the_first_suite() -> None:
    found = scan(job([T12, T13], connections=1), 60.0, Server(MODERN))

    assert isinstance(found.certificates, Known)
    assert {protocol: so_far(fact) for protocol, fact in missing(found).items()} == {
        T12: {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
        T13: set(),
    }


# Time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(scan_module, "time", stopped)
    return stopped


def test_when_the_time_is_over_the_rest_is_missing(clock: Clock) -> None:
    server = Server(MODERN, clock=clock, takes=3.0)
    found = scan(job([T12, T13], certificates=False), 10.0, server)

    assert (len(server.calls), found.duration, found.at) == (4, 12.0, clock.time())
    assert known(found) == {}
    assert {protocol: (fact.reason, so_far(fact)) for protocol, fact in missing(found).items()} == {
        T12: (Reason.DEADLINE, set(MODERN[T12])),
        T13: (Reason.DEADLINE, set()),
    }
    assert missing(found)[T13].detail == "the scan's time was over"


def test_no_connection_may_wait_longer_than_the_scan_has_left(clock: Clock) -> None:
    server = Server(MODERN, clock=clock, takes=3.0)
    scan(job([T12, T13]), 10.0, server)

    assert server.limits == [10.0, 7.0, 4.0, 1.0]


def test_no_connection_may_wait_longer_than_any_server_needs(clock: Clock) -> None:
    server = Server(MODERN, clock=clock, takes=3.0)
    scan(job([T12, T13]), 120.0, server)

    assert set(server.limits) == {CONNECTION_LIMIT}


def test_without_any_time_there_is_no_connection(clock: Clock) -> None:
    server = Server(MODERN, clock=clock)
    found = scan(job([T12]), 0.0, server)

    assert server.calls == []
    assert found.connections == 0
    assert found.certificates == Missing(Reason.DEADLINE, "the scan's time was over")
    assert missing(found) == {T12: Missing(Reason.DEADLINE, "the scan's time was over")}


# Small Diffie-Hellman keys


DHE: Final = ("TLS_DHE_RSA_WITH_AES_256_CBC_SHA", "TLS_DHE_RSA_WITH_AES_128_CBC_SHA")


@pytest.mark.parametrize("protocol", [S3, T10, T11, T12])
@pytest.mark.parametrize("client_decides", [False, True])
def test_behind_a_small_key_each_dhe_suite_is_asked_for_by_itself(protocol: Protocol, *, client_decides: bool) -> None:
    """Which one the server chose does not show: OpenSSL ends the handshake too early."""
    rest = ("TLS_RSA_WITH_AES_256_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA")
    server = Server({protocol: (*DHE, *rest)}, client_decides=client_decides, weak_key=True)
    found = suites_of(server)

    assert known(found) == {protocol: {*DHE, *rest}}
    alone = [offer.suites[0] for offer in server.calls if len(offer.suites) == 1]
    assert sorted(alone) == sorted(set(alone))
    assert {*DHE} <= set(alone)
    assert all(map(ephemeral_dh, alone))


def test_a_server_with_nothing_but_a_small_key_has_suites_all_the_same() -> None:
    server = Server({T10: DHE}, weak_key=True)
    found = scan(job([T10]), 60.0, server)

    assert known(found) == {T10: set(DHE)}
    assert isinstance(found.certificates, Missing)


def test_behind_a_small_key_the_certificate_is_seen_by_another_suite() -> None:
    """Also where suites are not asked for: the second connection leaves the ones with ephemeral keys out."""
    server = Server({T12: (*DHE, "TLS_RSA_WITH_AES_128_CBC_SHA")}, weak_key=True)
    found = scan(job([T12], cipher_suites=False), 60.0, server)

    assert isinstance(found.certificates, Known)
    assert found.cipher_suites == {}
    assert len(server.calls) <= 3
    assert not any(map(ephemeral_dh, server.calls[-1].suites))


# What is not wanted


def test_without_certificates_the_suites_are_found_all_the_same() -> None:
    found = scan(job([T12, T13], certificates=False), 60.0, Server(MODERN, chain=("not a certificate",)))

    assert found.certificates == NOT_WANTED
    assert known(found) == {protocol: set(suites) for protocol, suites in MODERN.items()}
    assert found.failure is None


def test_without_cipher_suites_one_connection_is_enough() -> None:
    server = Server(MODERN)
    found = scan(job([T12, T13], cipher_suites=False), 60.0, server)

    assert found.cipher_suites == {}
    assert isinstance(found.certificates, Known)
    assert (found.connections, len(server.calls), found.failure) == (1, 1, None)


# Certificates


def test_a_server_with_two_keys_has_two_chains() -> None:
    """Which one it presents depends on the suite; both are kept, each once."""
    suites = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    found = scan(job([T12, T10]), 60.0, Server({T12: suites, T10: OLD[T10]}, ec_chain=EC_CHAIN))

    chains = found.certificates.value
    assert [chain.leaf.key_type for chain in chains] == ["RSA", "EC"]
    assert [len(chain.certificates) for chain in chains] == [1, 1]
    assert all(chain.matches_name and chain.leaf.names == (NAME,) for chain in chains)


def test_one_chain_seen_many_times_is_one_chain() -> None:
    found = scan(job([T12, T13]), 60.0, Server(MODERN))

    assert len(found.certificates.value) == 1


def test_chains_that_share_their_leaf_and_differ_above_are_two() -> None:
    suites = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    found = scan(job([T12]), 60.0, Server({T12: suites}, ec_chain=RSA_CHAIN + EC_CHAIN))

    assert [len(chain.certificates) for chain in found.certificates.value] == [1, 2]


def test_a_server_without_certificates_has_no_chain() -> None:
    """Anonymous suites alone: the suites are known, and that is all."""
    found = scan(job([T10]), 60.0, Server({T10: ["TLS_DH_anon_WITH_AES_128_CBC_SHA"]}))

    assert known(found) == {T10: {"TLS_DH_anon_WITH_AES_128_CBC_SHA"}}
    assert isinstance(found.certificates, Missing)


def test_anonymous_suites_do_not_hide_the_certificate() -> None:
    suites = ("TLS_DH_anon_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA")
    found = scan(job([T10]), 60.0, Server({T10: suites}))

    assert len(found.certificates.value) == 1


@pytest.mark.parametrize(
    "unreadable",
    [
        "",
        "not a certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n",
        RSA_CHAIN[0][:400],
    ],
)
@pytest.mark.parametrize("before", [(), RSA_CHAIN])
def test_a_certificate_that_cannot_be_read_costs_the_certificates_alone(
    unreadable: str, before: tuple[str, ...]
) -> None:
    found = scan(job([T12, T13]), 60.0, Server(MODERN, chain=(*before, unreadable)))

    assert isinstance(found.certificates, Missing)
    assert found.certificates.reason is Reason.NOT_TLS
    assert known(found) == {protocol: set(suites) for protocol, suites in MODERN.items()}


def strange(patch: Callable[[bytes], bytes] = bytes, *extensions: tuple[str, bytes]) -> str:
    """A certificate with these extensions, and with bytes of it replaced."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string(f"CN={NAME}")
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    for oid, value in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    der = builder.sign(key, SHA256()).public_bytes(Encoding.DER)
    return ssl.DER_cert_to_PEM_cert(patch(der))


SAN: Final = "2.5.29.17"
SRV_NAME: Final = bytes.fromhex("06082b06010505070807")  # id-on-dnsSRV, RFC 4985
DNS_NAME: Final = b"\x82" + bytes([len(NAME)]) + NAME.encode()


def san(*names: bytes) -> tuple[str, bytes]:
    body = b"".join((DNS_NAME, *names))
    return SAN, b"\x30" + bytes([len(body)]) + body


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(
            strange(lambda der: der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020105"))), id="version 6"
        ),
        pytest.param(
            strange(
                lambda der: der.replace(bytes.fromhex("06042a030406"), bytes.fromhex("06042a030405")),
                *(("1.2.3.4.5", b"\x05\x00"), ("1.2.3.4.6", b"\x05\x00")),
            ),
            id="an extension twice",
        ),
        pytest.param(strange(bytes, (SAN, b"garbage")), id="names that are no names"),
        pytest.param(strange(bytes, san(b"\xa3\x00")), id="an X.400 address"),
        pytest.param(strange(bytes, san(b"\xa0\x0e" + SRV_NAME + b"\xa0\x02\x16\x00")), id="an empty SRV name"),
    ],
)
def test_a_strange_certificate_never_ends_the_scan(certificate: str) -> None:
    """What OpenSSL lets pass another library may stumble over; nothing that a server presents may raise."""
    found = scan(job([T12, T13]), 60.0, Server(MODERN, chain=(certificate,)))

    assert known(found) == {protocol: set(suites) for protocol, suites in MODERN.items()}
    assert SCAN.validate_json(SCAN.dump_json(found)) == found


def test_a_server_with_a_new_certificate_for_everybody_fills_nothing() -> None:
    """Four chains are kept, and ten certificates of each; the suites are found all the same."""

    class Restless(Server):
        def __call__(self, offer: Offer, limit: float) -> Outcome:
            outcome = super().__call__(offer, limit)
            if isinstance(outcome, Agreed):
                own = strange(bytes, (SAN, b"\x30\x00"))
                return replace(outcome, chain=(own, *[own] * 20))
            return outcome

    found = scan(job([T12]), 60.0, Restless({T12: SUITES[T12][:12]}))

    assert known(found) == {T12: set(SUITES[T12][:12])}
    assert len(found.certificates.value) == 4
    assert {len(chain.certificates) for chain in found.certificates.value} == {10}


@pytest.mark.parametrize("protocol", [T10, T12, T13])
def test_a_version_that_is_accepted_and_then_refused_by_name_is_contradictory(protocol: Protocol) -> None:
    """Alert 70 does not end a list of suites: another server answered."""
    named = Refused(Reason.TLS_ALERT, "TLS alert: protocol version", explicit=True)
    fact = suites_of(Server({protocol: SUITES[protocol][:2]}, refusal=named)).cipher_suites[protocol]

    assert isinstance(fact, Missing)
    assert fact.reason is Reason.CONTRADICTORY
    assert SUITES[protocol][0] in fact.detail
