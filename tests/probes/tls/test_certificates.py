"""Certificates of every kind, served by real servers: what a scan says of them, whether it trusts them, what is judged.

The certificates are made here and served by OpenSSL's `s_server`; the scan goes over loopback with `shake_hands`.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from exporter.facts import Certificate, CertificateChain, EndpointScan, Fact, Known, Missing, Protocol, Reason
from exporter.probes.tls.handshake import shake_hands
from exporter.probes.tls.jobs import SCAN, Place, ScanJob
from exporter.probes.tls.scan import scan
from exporter.rules.certificates import CERTIFICATES_SOUND
from exporter.verdicts import RuleState, Verdict, judge

from builders import endpoint_facts, server_facts
from real_servers import Row, Server, running

S2, S3, T10, T11, T12, T13 = Protocol
NAME: Final = "exch01.contoso.test"
DAY: Final = 86400
TODAY: Final = int(time.time())
LIMIT: Final = 60.0

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
WEAK_HASHES: Final[Mapping[str, hashes.MD5 | hashes.SHA1]] = {"md5": hashes.MD5(), "sha1": hashes.SHA1()}
HASHES: Final[Mapping[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True)
class Wanted:
    """A certificate to make.

    Attributes:
        subject: as RFC 4514 writes it.
        names: DNS names and addresses; () for no such extension.
        key: its kind and size.
        hash: what it is signed with; "" where the signature has none of its own.
        days: from when until when it is valid, counted from today.
        issuer: who signs; None for itself.
        authority: whether it may sign others.
        pss: whether the signature is RSA-PSS.
    """

    subject: str = f"CN={NAME},OU=Exchange,O=Contoso"
    names: tuple[str, ...] = (NAME,)
    key: str = "RSA 2048"
    hash: str = "sha256"
    days: tuple[int, int] = (-10, 90)
    issuer: Wanted | None = None
    authority: bool = False
    pss: bool = False

    @property
    def issued_by(self) -> Wanted:
        return self.issuer or self


ROOT: Final = Wanted("CN=Root,O=Contoso", (), authority=True)
OTHER_ROOT: Final = Wanted("CN=Another root,O=Fabrikam", (), authority=True)
OLD_ROOT: Final = Wanted("CN=Old root", (), hash="sha1", authority=True)
INTERMEDIATE: Final = Wanted("CN=Intermediate,O=Contoso", (), issuer=ROOT, authority=True)
OLD_INTERMEDIATE: Final = Wanted("CN=Old intermediate", (), hash="sha1", issuer=ROOT, authority=True)
LEAF: Final = Wanted(issuer=ROOT)
BELOW: Final = replace(LEAF, issuer=INTERMEDIATE)
LEGACY_NAMES: Final = ("192.0.2.1", "EXCH01", "f*.contoso.test", NAME)

CHAINS: Final[Mapping[str, tuple[Wanted, ...]]] = {
    "sound": (LEAF,),
    "expired": (replace(LEAF, subject="CN=late", days=(-100, -10)),),
    "not yet valid": (replace(LEAF, subject="CN=early", days=(10, 100)),),
    "wrong name": (replace(LEAF, names=("exch02.contoso.test",)),),
    "md5": (replace(LEAF, subject="CN=broken", hash="md5"),),
    "sha1": (replace(LEAF, subject="CN=old", hash="sha1"),),
    "sha384": (replace(LEAF, hash="sha384"),),
    "sha512": (replace(LEAF, hash="sha512"),),
    "rsa-pss": (replace(LEAF, pss=True),),
    "rsa-pss sha512": (replace(LEAF, pss=True, hash="sha512"),),
    "rsa 1024": (replace(LEAF, subject="CN=short", key="RSA 1024"),),
    "rsa 3072": (replace(LEAF, key="RSA 3072"),),
    "p-256": (replace(LEAF, key="EC 256"),),
    "p-384": (replace(LEAF, key="EC 384", hash="sha384"),),
    "ed25519": (replace(LEAF, key="Ed25519 0"),),
    "signed by ed25519": (Wanted(issuer=Wanted("CN=Edwards", (), "Ed25519 0", "", authority=True), hash=""),),
    "with intermediate": (BELOW, INTERMEDIATE),
    "with intermediate and root": (BELOW, INTERMEDIATE, ROOT),
    "without its intermediate": (BELOW,),
    "with a sha1 root": (replace(LEAF, issuer=OLD_ROOT), OLD_ROOT),
    "with a sha1 intermediate": (replace(LEAF, issuer=OLD_INTERMEDIATE), OLD_INTERMEDIATE),
    "self-signed": (Wanted(),),
    "self-signed sha1": (Wanted("CN=itself", hash="sha1"),),
    "no names": (replace(LEAF, subject=f"CN={NAME}", names=()),),
    "addresses": (replace(LEAF, names=("127.0.0.1", "::1")),),
    "an address as a DNS name": (replace(LEAF, names=LEGACY_NAMES),),
    "wildcard": (replace(LEAF, names=("*.contoso.test",)),),
    "many names": (replace(LEAF, names=(*(f"mail{number}.contoso.test" for number in range(150)), NAME)),),
    "empty subject": (replace(LEAF, subject=""),),
    "subject beyond ascii": (replace(LEAF, subject="CN=Büro \\+ Lager,O=Contoso\\, Ltd."),),
}
"""What each server presents, its own certificate first."""
SECOND: Final = replace(LEAF, subject="CN=second", key="EC 256", names=(NAME, "owa.contoso.test"))
"""What the server with two keys presents besides."""


@cache
def key_of(wanted: Wanted) -> Key:
    """One key for each kind, and the authorities' own: making them is slow."""
    return _make_key(wanted.key, wanted.subject if wanted.authority else "")


@cache
def _make_key(kind: str, _whose: str) -> Key:
    name, size = kind.split()
    if name == "RSA":
        return rsa.generate_private_key(65537, int(size))
    if name == "EC":
        return ec.generate_private_key({256: ec.SECP256R1(), 384: ec.SECP384R1()}[int(size)])
    return ed25519.Ed25519PrivateKey.generate()


def when(days: int) -> datetime:
    return datetime.fromtimestamp(TODAY + days * DAY, UTC)


def general_name(name: str) -> x509.GeneralName:
    try:
        address = ip_address(name)
    except ValueError:
        return x509.DNSName(name)
    return x509.DNSName(name) if name == LEGACY_NAMES[0] else x509.IPAddress(address)


@cache
def made(wanted: Wanted) -> x509.Certificate:
    """The certificate."""
    issuer = wanted.issued_by
    builder = x509.CertificateBuilder(
        issuer_name=x509.Name.from_rfc4514_string(issuer.subject),
        subject_name=x509.Name.from_rfc4514_string(wanted.subject),
        public_key=key_of(wanted).public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=when(wanted.days[0]),
        not_valid_after=when(wanted.days[1]),
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=wanted.authority, path_length=None), critical=True)
    if wanted.names:
        names = x509.SubjectAlternativeName(map(general_name, wanted.names))
        builder = builder.add_extension(names, critical=not wanted.subject)
    key = key_of(issuer)
    if not wanted.hash:
        return builder.sign(key, None)
    if wanted.hash in WEAK_HASHES:
        assert isinstance(key, rsa.RSAPrivateKey)
        return weakened(builder.sign(key, hashes.SHA256()), key, wanted.hash)
    digest = HASHES[wanted.hash]
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size) if wanted.pss else None
    return builder.sign(key, digest, rsa_padding=pss)


def weakened(certificate: x509.Certificate, key: rsa.RSAPrivateKey, name: str) -> x509.Certificate:
    """The certificate signed with a hash that cryptography will not sign with: it is put into the finished one."""
    sha256, other = (bytes.fromhex(f"2a864886f70d0101{last}") for last in ("0b", {"md5": "04", "sha1": "05"}[name]))
    body = certificate.tbs_certificate_bytes.replace(sha256, other)
    signature = key.sign(body, padding.PKCS1v15(), WEAK_HASHES[name])
    der = certificate.public_bytes(Encoding.DER).replace(sha256, other)
    return x509.load_der_x509_certificate(der.replace(certificate.signature, signature))


def pem(*chain: Wanted) -> str:
    return "".join(made(each).public_bytes(Encoding.PEM).decode() for each in chain)


def key_pem(wanted: Wanted) -> str:
    return key_of(wanted).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def expected(wanted: Wanted) -> Certificate:
    """What is to be said of it."""
    kind, size = wanted.key.split()
    return Certificate(
        subject=wanted.subject,
        issuer=wanted.issued_by.subject,
        names=wanted.names,
        not_before=float(TODAY + wanted.days[0] * DAY),
        not_after=float(TODAY + wanted.days[1] * DAY),
        fingerprint_sha256=hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem(wanted))).hexdigest(),
        key_type=kind,
        key_size=int(size),
        signature_hash=wanted.hash,
    )


# Servers and scans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


def options(folder: Path, name: str, chain: Sequence[Wanted], which: str = "") -> tuple[str, ...]:
    """What `s_server` is told about a chain; ``d`` for the second one."""
    files = {"cert": pem(chain[0]), "key": key_pem(chain[0]), "cert_chain": pem(*chain[1:])}
    told = []
    for option, content in files.items():
        if content:
            file = folder / f"{name} {which}{option}.pem".replace(" ", "-")
            file.write_text(content)
            told += [f"-{which}{option}", str(file)]
    return tuple(told)


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[Mapping[str, Server]]:
    """One for each chain, one with two keys, and one whose chain trustme made."""
    told = {name: options(folder, name, chain) for name, chain in CHAINS.items()}
    told["two keys"] = told["sound"] + options(folder, "two keys", (SECOND,), which="d")
    told["trustme"] = _by_trustme(folder)
    weak = ("-cipher", "ALL:@SECLEVEL=0")
    with running({name: Row(frozenset(), "openssl", (*weak, *each)) for name, each in told.items()}) as started:
        yield started


def _by_trustme(folder: Path) -> tuple[str, ...]:
    root = trustme.CA()
    root.cert_pem.write_to_path(folder / "trustme-root.pem")
    issued = root.create_child_ca().issue_cert(NAME, key_type=trustme.KeyType.RSA)
    leaf, chain = folder / "trustme.pem", folder / "trustme-chain.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(leaf)
    chain.write_bytes(issued.cert_chain_pems[1].bytes())
    return "-cert", str(leaf), "-key", str(leaf), "-cert_chain", str(chain)


def scan_of(
    server: Server, ca_file: Path | None = None, name: str = NAME, *, suites: bool = False, protocol: Protocol = T12
) -> EndpointScan:
    """Scan a server for its certificates, and for its suites if that is wanted; as it arrives at the parent."""
    place = Place(name, server.row.address, server.port, server.row.service, "probe.contoso.test")
    told = str(ca_file) if ca_file else None
    job = ScanJob(place, (protocol,), certificates=True, cipher_suites=suites, connections=400, ca_file=told)
    return SCAN.validate_json(SCAN.dump_json(scan(job, LIMIT, partial(shake_hands, place))))


def chain_of(found: EndpointScan) -> CertificateChain:
    (chain,) = found.certificates.value
    return chain


@pytest.fixture(scope="module")
def scanned(servers: Mapping[str, Server]) -> Mapping[str, EndpointScan]:
    """One scan of each server."""
    return {name: scan_of(server, suites=name == "two keys") for name, server in servers.items()}


# What they say


@pytest.mark.parametrize("name", CHAINS)
def test_every_certificate_of_a_chain_is_told_in_full(name: str, scanned: Mapping[str, EndpointScan]) -> None:
    """All fields of all certificates, in the server's order: as they were made."""
    assert chain_of(scanned[name]).certificates == tuple(map(expected, CHAINS[name]))


@pytest.mark.parametrize("protocol", [T10, T11, T13])
def test_the_version_makes_no_difference(protocol: Protocol, servers: Mapping[str, Server]) -> None:
    found = scan_of(servers["with intermediate"], protocol=protocol)

    assert chain_of(found).certificates == (expected(BELOW), expected(INTERMEDIATE))


def test_certificates_take_one_connection(scanned: Mapping[str, EndpointScan]) -> None:
    assert {scanned[name].connections for name in CHAINS} == {1}
    assert {scanned[name].failure for name in CHAINS} == {None}


def test_a_server_with_two_keys_presents_two_chains(scanned: Mapping[str, EndpointScan]) -> None:
    leaves = {chain.leaf for chain in scanned["two keys"].certificates.value}

    assert leaves == {expected(LEAF), expected(SECOND)}


def test_what_trustme_makes_is_read_as_well(scanned: Mapping[str, EndpointScan]) -> None:
    """Nothing but names and issuers is known of it beforehand."""
    leaf, above = chain_of(scanned["trustme"]).certificates

    assert (leaf.names, leaf.public_key, leaf.issuer) == ((NAME,), "RSA 2048", above.subject)
    assert leaf.not_before < TODAY < leaf.not_after
    assert not above.self_issued


def test_only_sha512_needs_an_update_of_windows(scanned: Mapping[str, EndpointScan]) -> None:
    flagged = {name for name in CHAINS if chain_of(scanned[name]).leaf.sha512_signed}

    assert flagged == {"sha512", "rsa-pss sha512"}


def test_who_names_itself_as_its_issuer_is_told_apart(scanned: Mapping[str, EndpointScan]) -> None:
    named = {name: [each.self_issued for each in chain_of(scanned[name]).certificates] for name in CHAINS}

    assert named["self-signed"] == [True]
    assert named["with intermediate"] == [False, False]
    assert named["with intermediate and root"] == [False, False, True]


# For whom they are


@pytest.mark.parametrize("name", CHAINS)
def test_the_name_is_looked_for_among_the_names(name: str, scanned: Mapping[str, EndpointScan]) -> None:
    """RFC 9525: the subject does not count, and names that nobody can use spoil nothing."""
    assert chain_of(scanned[name]).matches_name is (name not in {"wrong name", "no names", "addresses"})


@pytest.mark.parametrize(
    ("server", "name", "matches"),
    [
        ("sound", "EXCH01.Contoso.Test", True),
        ("sound", "exch01.contoso.test.", True),
        ("sound", "exch01", False),
        ("sound", "exch01.contoso.test.evil.test", False),
        ("sound", "127.0.0.1", False),
        ("addresses", "127.0.0.1", True),
        ("addresses", "127.0.0.2", False),
        ("addresses", "::1", True),
        ("addresses", "0:0:0:0:0:0:0:1", True),
        ("addresses", "localhost", False),
        ("an address as a DNS name", "EXCH01", True),
        ("an address as a DNS name", "192.0.2.1", False),
        ("an address as a DNS name", "fabrikam.contoso.test", False),
        ("wildcard", "mail.contoso.test", True),
        ("wildcard", "contoso.test", False),
        ("wildcard", "a.mail.contoso.test", False),
        ("many names", "mail149.contoso.test", True),
        ("many names", "mail150.contoso.test", False),
    ],
)
def test_it_is_for_the_name_that_the_server_goes_by(
    server: str, name: str, servers: Mapping[str, Server], *, matches: bool
) -> None:
    assert chain_of(scan_of(servers[server], name=name)).matches_name is matches


# Trust


@pytest.fixture(scope="module")
def ca_files(folder: Path) -> Mapping[str, Path]:
    """Files of certificates to trust, by who is in them."""
    contents = {
        "root": pem(ROOT),
        "another root": pem(OTHER_ROOT),
        "both": f"# Contoso\n{pem(OTHER_ROOT)}\n# Fabrikam\n{pem(ROOT)}",
        "old root": pem(OLD_ROOT),
        "the certificate itself": pem(Wanted()),
        "nobody": "",
        "no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "something else": key_pem(LEAF),
    }
    files = {name: folder / f"trusted {name}.pem" for name in contents}
    for name, content in contents.items():
        files[name].write_text(content)
    return {**files, "a file that is not there": folder / "nowhere.pem", "a folder": folder}


@pytest.fixture(scope="module")
def trust(servers: Mapping[str, Server], ca_files: Mapping[str, Path]) -> Mapping[str, Fact[bool]]:
    """Whether each server is trusted by the root."""
    return {name: chain_of(scan_of(servers[name], ca_files["root"])).trusted for name in CHAINS}


UNTRUSTED: Final = {
    "expired": "certificate has expired",
    "not yet valid": "certificate is not yet valid",
    "without its intermediate": "unable to get local issuer certificate",
    "with a sha1 root": "self signed certificate in certificate chain",
    "signed by ed25519": "unable to get local issuer certificate",
    "self-signed": "self signed certificate",
    "self-signed sha1": "self signed certificate",
}
"""What OpenSSL has against these; nothing against the others. Names, keys and hashes are not its business."""


@pytest.mark.parametrize("name", CHAINS)
def test_trust_is_what_openssl_says(name: str, trust: Mapping[str, Fact[bool]]) -> None:
    fact = trust[name]

    assert isinstance(fact, Known)
    assert (fact.value, fact.detail) == (name not in UNTRUSTED, UNTRUSTED.get(name, ""))


@pytest.mark.parametrize(
    ("server", "by", "objection"),
    [
        ("sound", "both", ""),
        ("sound", "another root", "unable to get local issuer certificate"),
        ("with intermediate and root", "another root", "self signed certificate in certificate chain"),
        ("with a sha1 root", "old root", ""),
        ("self-signed", "the certificate itself", ""),
        ("sound", "the certificate itself", "unable to get local issuer certificate"),
    ],
)
def test_trust_depends_on_who_is_in_the_file(
    server: str, by: str, objection: str, servers: Mapping[str, Server], ca_files: Mapping[str, Path]
) -> None:
    found = scan_of(servers[server], ca_files[by])
    fact = chain_of(found).trusted

    assert fact == Known(not objection, found.at, detail=objection)


def test_a_chain_of_trustme_is_trusted_by_its_root(servers: Mapping[str, Server], folder: Path) -> None:
    assert chain_of(scan_of(servers["trustme"], folder / "trustme-root.pem")).trusted.value is True


def test_an_intermediate_alone_is_nobody_to_trust(servers: Mapping[str, Server], folder: Path) -> None:
    """Trust ends at a root, as it does for OpenSSL's own tools."""
    assert chain_of(scan_of(servers["trustme"], folder / "trustme-chain.pem")).trusted.value is False


@pytest.mark.parametrize("by", ["nobody", "no certificate", "something else", "a file that is not there", "a folder"])
def test_without_anybody_to_trust_nothing_is_said_about_trust(
    by: str, servers: Mapping[str, Server], ca_files: Mapping[str, Path]
) -> None:
    """The rest of what the scan saw is as good as ever."""
    chain = chain_of(scan_of(servers["sound"], ca_files[by]))

    assert isinstance(chain.trusted, Missing)
    assert chain.trusted.reason is Reason.NOT_OBSERVED_YET
    assert chain.trusted.detail.startswith("scan.ca_file cannot be used: ")
    assert chain.certificates == (expected(LEAF),)


def test_without_a_file_nothing_is_said_about_trust(scanned: Mapping[str, EndpointScan]) -> None:
    assert chain_of(scanned["sound"]).trusted == Missing(Reason.NOT_OBSERVED_YET, "scan.ca_file is not set")


def test_each_of_two_chains_is_trusted_by_itself(servers: Mapping[str, Server], ca_files: Mapping[str, Path]) -> None:
    chains = scan_of(servers["two keys"], ca_files["root"], suites=True).certificates.value

    assert [chain.trusted.value for chain in chains] == [True, True]


# What is judged


def verdict_on(found: EndpointScan) -> Verdict:
    """What the rule about certificates says of a server with this scan."""
    facts = endpoint_facts(tried_at=found.at).after_scan(found, max_age=DAY)
    (verdict,) = judge(server_facts(facts), [CERTIFICATES_SOUND], time.time())
    return verdict


@pytest.mark.parametrize(
    ("name", "subject", "fault"),
    [
        ("expired", "CN=late", "expired 10 days ago"),
        ("not yet valid", "CN=early", "is not valid for another"),
        ("md5", "CN=broken", "is signed with MD5"),
        ("sha1", "CN=old", "is signed with SHA-1"),
        ("rsa 1024", "CN=short", "has the key RSA 1024"),
        ("with a sha1 intermediate", "CN=Old intermediate", "is signed with SHA-1"),
        ("self-signed sha1", "CN=itself", "is signed with SHA-1"),
    ],
)
def test_a_certificate_that_is_not_sound_fails_and_is_named(
    name: str, subject: str, fault: str, scanned: Mapping[str, EndpointScan]
) -> None:
    verdict = verdict_on(scanned[name])

    assert verdict.state is RuleState.FAILED
    assert verdict.evidence.startswith(f"exch01.test:443: {subject} {fault}")


@pytest.mark.parametrize(
    "name",
    [
        *("sound", "sha384", "sha512", "rsa-pss", "rsa-pss sha512", "rsa 3072", "p-256", "p-384", "ed25519"),
        *("signed by ed25519", "with intermediate", "with intermediate and root", "without its intermediate"),
        *("with a sha1 root", "self-signed", "no names", "wrong name", "many names", "empty subject", "two keys"),
    ],
)
def test_a_certificate_that_is_sound_passes(name: str, scanned: Mapping[str, EndpointScan]) -> None:
    """Names and trust are told and not judged; nor is the signature that a root made on itself."""
    verdict = verdict_on(scanned[name])

    assert (verdict.state, verdict.reason) == (RuleState.PASSED, ""), verdict.evidence


# Figures


def test_a_scan_of_a_local_server_takes_seconds(servers: Mapping[str, Server]) -> None:
    """With everything that there is to find: four versions, all suites, two chains. The figure is 5 s."""
    server = servers["two keys"]
    place = Place(NAME, server.row.address, server.port, server.row.service, "probe.contoso.test")
    job = ScanJob(place, (T10, T11, T12, T13), certificates=True, cipher_suites=True, connections=400)
    found = scan(job, LIMIT, partial(shake_hands, place))

    assert found.failure is None
    assert found.duration < 15
    assert sum(len(fact.value) for fact in found.cipher_suites.values()) > 80
