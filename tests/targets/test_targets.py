"""Targets from the configuration, the command line, and several sources at once."""

from __future__ import annotations

import pytest

from exporter.config import Defaults, EndpointConfig, ServerConfig
from exporter.targets import PRESETS, Port, Target, endpoint_name, merge, target_of
from exporter.targets.command_line import TargetError, parse_targets


def _server(**settings: object) -> ServerConfig:
    return ServerConfig.model_validate({"name": "exch01.test", **settings})


def test_a_server_takes_the_default_roles_preset() -> None:
    """443, 25 and 587 are core, the rest optional."""
    target = target_of(_server(), Defaults())

    core = {(port.number, port.service) for port in target.ports if port.origin == "core"}
    assert core == {(443, "https"), (25, "smtp"), (587, "smtp")}
    optional = {(port.number, port.service) for port in target.ports if port.origin == "optional"}
    assert optional == {
        (110, "pop3"), (143, "imap"), (993, "tls"), (995, "tls"),
        (444, "tls"), (465, "smtp"), (475, "smtp"), (717, "smtp"), (2525, "smtp"),
    }  # fmt: skip


def test_edge_and_domain_controller_presets() -> None:
    """As the roles are reached from outside."""
    assert PRESETS["edge"] == (Port(25, "smtp", "core"), Port(50636, "tls", "optional"))
    assert PRESETS["domain-controller"] == (Port(636, "tls", "core"), Port(3269, "tls", "core"))


def test_configured_endpoints_replace_the_preset() -> None:
    """And the server's own role replaces the default one."""
    target = target_of(_server(role="edge", endpoints=[EndpointConfig(port=2525, service="smtp")]), Defaults())

    assert target.role == "edge"
    assert target.ports == (Port(2525, "smtp", "configured"),)


def test_a_target_has_the_credentials_in_effect() -> None:
    """The default ones, or its own; a target of the command line has none."""
    defaults = Defaults(credentials="readers")

    assert target_of(_server(), defaults).credentials == "readers"
    assert target_of(_server(credentials="others"), defaults).credentials == "others"
    assert target_of(_server(credentials="none"), defaults).credentials == ""
    assert [each.credentials for each in parse_targets(["exch01.test"])] == [""]


@pytest.mark.parametrize(
    ("address", "host"),
    [("", "exch01.test"), ("all", "exch01.test"), ("192.0.2.1", "192.0.2.1"), ("vip.test", "vip.test")],
)
def test_where_to_connect(address: str, host: str) -> None:
    """The name itself unless an address is given; ``all`` is every address of the name."""
    assert Target("exch01.test", "mailbox", (), address).host == host


def test_endpoint_names() -> None:
    """What Prometheus sees in the endpoint label."""
    assert endpoint_name("exch01.test", 443) == "exch01.test:443"
    assert endpoint_name("exch01.test", 443, "192.0.2.1") == "exch01.test:443@192.0.2.1"
    assert endpoint_name("fd00::1", 443, "fd00::1") == "[fd00::1]:443@fd00::1"


def test_merging_keeps_the_first_of_equal_names() -> None:
    """Names are compared as DNS compares them."""
    own, theirs = Target("exch01", "mailbox", ()), Target("EXCH01", "edge", ())

    assert merge([own], [theirs, Target("exch02", "edge", ())]) == ((own, Target("exch02", "edge", ())), ("EXCH01",))


class TestCommandLine:
    @pytest.mark.parametrize(
        ("text", "name", "port"),
        [
            ("exch01.test", "exch01.test", Port(443, "https", "configured")),
            ("https://exch01.test:8443", "exch01.test", Port(8443, "https", "configured")),
            ("smtp://mail1:587", "mail1", Port(587, "smtp", "configured")),
            ("smtp://mail1", "mail1", Port(25, "smtp", "configured")),
            ("imap://mail1", "mail1", Port(143, "imap", "configured")),
            ("pop3://mail1", "mail1", Port(110, "pop3", "configured")),
            ("tls://mail1:993", "mail1", Port(993, "tls", "configured")),
            ("10.0.0.1:444", "10.0.0.1", Port(444, "https", "configured")),
            ("smtp://[fd00::1]:25", "fd00::1", Port(25, "smtp", "configured")),
        ],
    )
    def test_targets(self, text: str, name: str, port: Port) -> None:
        """service://host[:port], https when no service is named."""
        assert parse_targets([text]) == [Target(name, "none", (port,))]

    def test_endpoints_of_one_host_are_one_server(self) -> None:
        """It gets one verdict."""
        (target,) = parse_targets(["smtp://mail1:587", "mail1", "smtp://mail1:587"])

        assert target.ports == (Port(587, "smtp", "configured"), Port(443, "https", "configured"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("ftp://a", "no service is called 'ftp'"),
            ("tls://a", "tls has no port of its own"),
            ("https://a:0", "greater than or equal to 1"),
            ("https://a:65536", "less than or equal to 65535"),
            ("https://a/path", "is not service://host"),
            ("https://", "is not service://host"),
            ("fd00::1", "is not service://host"),
            ("a b", "a host name or an IP address is needed"),
            ("", "is not service://host"),
        ],
    )
    def test_what_is_not_a_target(self, text: str, message: str) -> None:
        """The message names it."""
        with pytest.raises(TargetError, match=message) as caught:
            parse_targets([text])

        assert repr(text) in str(caught.value)
