"""The configuration file: YAML in, a frozen and valid `Config` out.

A configuration that loads is valid. One that does not raises `ConfigError` with every error at once, each with the path
of the value and the value itself. Durations are written as in Prometheus (``5m``, ``1h30m``), and held in seconds.
"""

from __future__ import annotations

import glob
import ipaddress
import re
import ssl
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

Role: TypeAlias = Literal["mailbox", "edge", "domain-controller", "none"]
Service: TypeAlias = Literal["https", "tls", "smtp", "imap", "pop3"]
Auth: TypeAlias = Literal["kerberos", "ntlm", "basic", "certificate"]
Transport: TypeAlias = Literal["http", "https"]

NO_CREDENTIALS: Final = "none"
"""In place of a credential's name: none at all, whatever the default is."""

RESERVED_LABELS: Final = frozenset(
    {
        "address", "credential", "digest", "dotnet", "endpoint", "exchange", "exchange_build", "fingerprint_sha256",
        "instance", "issuer", "job", "kind", "le", "mechanism", "origin", "outcome", "profile", "protocol",
        "public_key", "python_version", "quantile", "reason", "revision", "role", "rule", "server", "service",
        "severity", "sha256", "side", "signature_hash", "state", "subject", "table", "version", "windows",
        "windows_build",
    }
)  # fmt: skip
"""Label names that the metrics use themselves, and Prometheus' own: a configured label may not have them."""


class ConfigError(Exception):
    """The configuration cannot be used.

    Attributes:
        errors: one line for each fault: the path of the value, the value, what is wrong with it.
    """

    def __init__(self, source: str, errors: Sequence[str]) -> None:
        super().__init__("\n".join(f"{source}: {error}" for error in errors))
        self.errors = tuple(errors)


_UNITS: Final = {"y": 31536000, "w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION: Final = re.compile("".join(rf"(?:(?P<{unit}>\d+){unit})?" for unit in _UNITS))


def parse_duration(text: object) -> float:
    """Seconds in a duration as Prometheus writes it: ``90s``, ``1h30m``, ``500ms``."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise ValueError("a duration like 90s, 5m, 1h30m or 7d is needed")
    try:
        return float(sum(int(number) * _UNITS[unit] for unit, number in match.groupdict(default="0").items()))
    except OverflowError as error:
        raise ValueError("that is longer than anything") from error


def format_duration(seconds: float) -> str:
    """The shortest such text for a number of seconds."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in _UNITS.items():
        number, left = divmod(left, round(size * 1000))
        parts.append(f"{number}{unit}" if number else "")
    return "".join(parts) or "0s"


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _host(text: object) -> object:
    """A host name or an IP address."""
    if not isinstance(text, str):
        return text  # the type error follows
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        ascii_name = text.removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    if not re.fullmatch(r"((?!-)[A-Za-z0-9_-]{1,63}\.)*(?!-|\d+$)[A-Za-z0-9_-]{1,63}", ascii_name):
        raise ValueError("a host name or an IP address is needed, without scheme and port")
    return text


def name_key(name: str) -> str:
    """What tells a server from others: names are compared as DNS does."""
    return name.lower().removesuffix(".")


def _label_value(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text that UTF-8 can hold is needed") from error
    return text


def _file_name(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("the name of a file is needed")
    return text


def _credential_name(text: str) -> str:
    if text == NO_CREDENTIALS or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", text):
        raise ValueError("a name of letters, digits and . _ @ - is needed, 64 at most, and not 'none'")
    return text


def _user_name(text: str) -> str:
    # Some end up as an argument of kinit: none may look like an option.
    if not text.isprintable() or text != text.strip() or not text or text.startswith("-"):
        raise ValueError("the name of an account is needed, without control characters (\\t and \\n in double quotes)")
    return text


Duration: TypeAlias = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Host: TypeAlias = Annotated[str, BeforeValidator(_host)]
LabelValue: TypeAlias = Annotated[str, AfterValidator(_label_value)]
FileName: TypeAlias = Annotated[str, AfterValidator(_file_name)]
CredentialName: TypeAlias = Annotated[str, AfterValidator(_credential_name)]
TcpPort: TypeAlias = Annotated[int, Field(ge=1, le=65535, strict=True)]
LabelName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


_ModelT = TypeVar("_ModelT", bound=_Model)


class _Observation(_Model):
    """What the three kinds of observation have in common."""

    interval: Annotated[Duration, Field(ge=1)]
    timeout: Annotated[Duration, Field(gt=0)]
    max_age: Duration = 0.0

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_the_interval(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        interval, timeout = (cls.model_fields[name].default for name in ("interval", "timeout"))
        try:
            seconds = parse_duration(values["interval"]) if "interval" in values else interval
        except ValueError:
            return values  # the interval's own error follows
        defaults = {"max_age": format_duration(3 * seconds), "timeout": format_duration(min(timeout, seconds))}
        return defaults | values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_age < 2 * self.interval:
            given, least = format_duration(self.max_age), format_duration(2 * self.interval)
            raise ValueError(f"max_age {given} is less than twice the interval: at least {least}")
        if self.timeout > self.interval:
            given, most = format_duration(self.timeout), format_duration(self.interval)
            raise ValueError(f"timeout {given} is longer than the interval {most}")
        return self


class ProbeConfig(_Observation):
    """The protocol sweep.

    Attributes:
        interval: seconds between two sweeps of a server. Refused hellos are logged there, so not too often.
        timeout: seconds that the sweep of one endpoint may take in all.
        max_age: seconds for which the last good answer stands.
        parallel_endpoints: endpoints swept at the same time.
        parallel_endpoints_per_server: the same for one server.
        second_opinions: connections in a day and to one endpoint for second opinions; 0 does without them.
    """

    interval: Annotated[Duration, Field(ge=1)] = 3600.0
    timeout: Annotated[Duration, Field(gt=0)] = 10.0
    parallel_endpoints: Annotated[int, Field(ge=1, le=1000)] = 100
    parallel_endpoints_per_server: Annotated[int, Field(ge=1, le=16)] = 2
    second_opinions: Annotated[int, Field(ge=0, le=1000, strict=True)] = 6


class ScanConfig(_Observation):
    """The scan: what is looked at rarely, because it costs complete handshakes.

    Attributes:
        interval: seconds between two scans of an endpoint. A closed optional endpoint is tried again as often.
        timeout: seconds that the scan of one endpoint may take in all.
        max_age: seconds for which the last good outcome stands.
        certificates: whether to look at certificates.
        cipher_suites: whether to find out the cipher suites of each version.
        connections: TCP connections that one scan of an endpoint may cost it at most.
        parallel_endpoints: endpoints scanned at the same time, each by a child process.
        ca_file: the certificates to trust, PEM; None to leave trust out.
    """

    interval: Annotated[Duration, Field(ge=1)] = 86400.0
    timeout: Annotated[Duration, Field(gt=0)] = 120.0
    certificates: bool = True
    cipher_suites: bool = True
    connections: Annotated[int, Field(ge=1, le=1000, strict=True)] = 100
    parallel_endpoints: Annotated[int, Field(ge=1, le=64, strict=True)] = 2
    ca_file: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is anything to scan for."""
        return self.certificates or self.cipher_suites


class CollectConfig(_Observation):
    """The collection: host facts over WinRM, from the servers that have credentials.

    Attributes:
        interval: seconds between two collections from a host.
        timeout: seconds that the collection from one host may take in all.
        max_age: seconds for which the last good document stands.
        parallel_hosts: hosts asked at the same time, each by a child process.
        pending_updates: whether to ask Windows Update what it would install, which is slow.
        usage_megabytes: megabytes of SMTP protocol logs that a host reads each time; 0 leaves them alone.
    """

    interval: Annotated[Duration, Field(ge=1)] = 3600.0
    timeout: Annotated[Duration, Field(gt=0)] = 120.0
    parallel_hosts: Annotated[int, Field(ge=1, le=64, strict=True)] = 32
    pending_updates: bool = False
    usage_megabytes: Annotated[int, Field(ge=0, le=1000, strict=True)] = 0


_SECRETS: Final[dict[str, tuple[frozenset[str], ...]]] = {
    "kerberos": (frozenset({"password_file"}), frozenset({"keytab_file"})),
    "ntlm": (frozenset({"password_file"}),),
    "basic": (frozenset({"password_file"}),),
    "certificate": (frozenset({"certificate_file", "key_file"}),),
}
_SECRET_KEYS: Final = ("password_file", "keytab_file", "certificate_file", "key_file")
_ENCRYPTS: Final = frozenset({"kerberos", "ntlm"})  # messages over http, and the only ones with channel bindings
_PORTS: Final = {"http": 5985, "https": 5986}


class CredentialConfig(_Model):
    """How to log on to hosts.

    Attributes:
        auth: the method.
        username: the account; for kerberos the principal, ``user@REALM``. None for certificates.
        password_file: its first line is the password; the other files are in their tools' own formats.
        keytab_file: the key of the principal.
        certificate_file: the client certificate, PEM.
        key_file: its private key.
        transport: http or https.
        port: the TCP port.
        ca_file: the certificates to trust with https, PEM; None for the system's.
        channel_bindings: whether to bind the log-on to the TLS connection; with https, for ntlm and kerberos.
        allow_unencrypted: whether basic may go over http, where everybody on the way can read the password.
    """

    auth: Auth
    username: Annotated[str, AfterValidator(_user_name)] | None = None
    password_file: FileName | None = None
    keytab_file: FileName | None = None
    certificate_file: FileName | None = None
    key_file: FileName | None = None
    transport: Transport = "http"
    port: TcpPort = 5985
    ca_file: FileName | None = None
    channel_bindings: bool = True
    allow_unencrypted: bool = False

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_the_method(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        transport = values.get("transport", "https" if values.get("auth") in ("basic", "certificate") else "http")
        port = _PORTS["https" if transport == "https" else "http"]
        return {"transport": transport, "port": port} | values

    @model_validator(mode="after")
    def _the_account(self) -> Self:
        if (self.username is None) != (self.auth == "certificate"):
            raise ValueError(f".username: auth {self.auth} needs {'none' if self.username else 'one'}")
        name = self.username or ""
        if self.auth == "kerberos" and not re.fullmatch(r"[^@\\\s]+@[^@\\/\s]+", name):
            raise ValueError(f".username: {name!r}: auth kerberos needs a principal, user@REALM")
        if self.auth in {"ntlm", "basic"} and not re.fullmatch(r"(?:[^\\/]+\\)?[^\\/]+", name):
            raise ValueError(
                f".username: {name!r}: an account is written DOMAIN\\user, with one backslash, or user@domain"
            )
        if self.auth == "basic" and ":" in name:
            raise ValueError(f".username: {name!r}: auth basic allows no colon")
        return self

    @model_validator(mode="after")
    def _the_secret(self) -> Self:
        given = frozenset(key for key in _SECRET_KEYS if getattr(self, key) is not None)
        if given not in _SECRETS[self.auth]:
            needed = ", or ".join(" and ".join(sorted(keys)) for keys in _SECRETS[self.auth])
            raise ValueError(f": auth {self.auth} needs {needed}, and there is {', '.join(sorted(given)) or 'none'}")
        return self

    @model_validator(mode="after")
    def _nothing_readable(self) -> Self:
        readable = self.auth == "basic" and self.transport == "http"
        if self.auth == "certificate" and self.transport == "http":
            raise ValueError(".transport: 'http': auth certificate needs https")
        if readable and not self.allow_unencrypted:
            raise ValueError(".transport: 'http': auth basic sends the password readably: https, or allow_unencrypted")
        if self.allow_unencrypted and not readable:
            raise ValueError(".allow_unencrypted: only auth basic over http is unencrypted")
        return self

    @model_validator(mode="after")
    def _nothing_without_meaning(self) -> Self:
        if self.ca_file is not None and self.transport == "http":
            raise ValueError(".ca_file: there are no certificates with transport http")
        if "channel_bindings" in self.model_fields_set and (self.transport == "http" or self.auth not in _ENCRYPTS):
            raise ValueError(".channel_bindings: they exist with transport https and auth kerberos or ntlm only")
        return self


class EndpointConfig(_Model):
    """One TLS endpoint of a server."""

    port: TcpPort
    service: Service


class FactsFileConfig(_Model):
    """A file with the collector script's output.

    Attributes:
        path: the file, relative to the configuration file.
        max_age: seconds for which the document stands, by its own clock.
    """

    path: FileName
    max_age: Annotated[Duration, Field(gt=0)] = 7 * 86400.0


class ServerConfig(_Model):
    """One server.

    Attributes:
        name: what it is called: the ``server`` label, SNI, and where to connect unless ``address`` says otherwise.
        address: where to connect: an address, another name, or ``all`` for every address of the name.
        role: the preset of endpoints; None for the default one.
        endpoints: the endpoints, in place of the preset's.
        labels: of ``tls_readiness_server_labels``.
        facts_file: where what the host says about itself is found; None for nowhere.
        credentials: with which the host is asked itself; None for the default ones, `NO_CREDENTIALS` for none.
        expect: the profile that this server is declared to meet.
    """

    name: Host
    address: Host | None = None
    role: Role | None = None
    endpoints: tuple[EndpointConfig, ...] | None = None
    labels: Mapping[LabelName, LabelValue] = Field(default_factory=dict)
    facts_file: FactsFileConfig | None = None
    credentials: str | None = None
    expect: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("labels")
    @classmethod
    def _free_labels(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        taken = sorted(name for name in labels if name in RESERVED_LABELS or name.startswith("__"))
        if taken:
            raise ValueError(f"reserved label name: {', '.join(taken)}")
        return labels

    @model_validator(mode="after")
    def _known_by_name(self) -> Self:
        """A document says the host's name, and no address."""
        asked = self.credentials not in {None, NO_CREDENTIALS}
        if asked and self.facts_file is not None:
            raise ValueError("facts_file and credentials: one of the two")
        if (asked or self.facts_file is not None) and is_address(self.name):
            key = "credentials" if asked else "facts_file"
            raise ValueError(f"{key} needs the server's name, and {self.name} is an address")
        return self

    @field_validator("endpoints")
    @classmethod
    def _distinct_ports(cls, endpoints: tuple[EndpointConfig, ...] | None) -> tuple[EndpointConfig, ...] | None:
        ports = [endpoint.port for endpoint in endpoints or ()]
        if endpoints is not None and not endpoints:
            raise ValueError("at least one endpoint is needed; leave it out for the role's preset")
        if len(ports) != len(set(ports)):
            raise ValueError(f"port {_first_repeated(ports)} is there twice")
        return endpoints


class Defaults(_Model):
    """What servers have that do not say otherwise."""

    role: Role = "mailbox"
    credentials: str | None = None

    def credentials_of(self, server: ServerConfig) -> str:
        """The name of the credentials with which a server is asked about itself; "" where it is not."""
        if server.credentials is not None:
            return "" if server.credentials == NO_CREDENTIALS else server.credentials
        no_default = server.facts_file is not None or is_address(server.name)
        return "" if no_default else self.credentials or ""


class FileSdConfig(_Model):
    """Target files in Prometheus' file_sd format.

    Attributes:
        files: paths, relative to the configuration file, with ``*``, ``?`` and ``[…]`` as in the shell.
    """

    files: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("files")
    @classmethod
    def _known_format(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for name in files:
            if Path(name).suffix not in {".json", ".yml", ".yaml"}:
                raise ValueError(f"{name!r} does not end in .json, .yml or .yaml")
        return files


class Config(_Model):
    """The whole configuration. docs/configuration.md explains every key."""

    profiles: Annotated[tuple[str, ...], Field(min_length=1)] = ("wire-tls12", "wire-tls12-only")
    probe: ProbeConfig = Field(default_factory=lambda: ProbeConfig.model_validate({}))
    scan: ScanConfig = Field(default_factory=lambda: ScanConfig.model_validate({}))
    collect: CollectConfig = Field(default_factory=lambda: CollectConfig.model_validate({}))
    credentials: Mapping[CredentialName, CredentialConfig] = Field(default_factory=dict)
    defaults: Defaults = Field(default_factory=Defaults)
    servers: tuple[ServerConfig, ...] = ()
    file_sd_configs: tuple[FileSdConfig, ...] = ()

    @field_validator("profiles")
    @classmethod
    def _known_profiles(cls, profiles: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = (info.context or {}).get("profiles", profiles)
        for profile in profiles:
            if profile not in known:
                raise ValueError(f"no profile is called {profile!r}; there are {', '.join(sorted(known))}")
        if len(set(profiles)) != len(profiles):
            raise ValueError(f"{_first_repeated(profiles)!r} is there twice")
        return profiles

    @field_validator("defaults")
    @classmethod
    def _known_credentials(cls, defaults: Defaults, info: ValidationInfo) -> Defaults:
        known = info.data.get("credentials", (defaults.credentials,))
        if defaults.credentials is not None and defaults.credentials not in known:
            raise ValueError(f".credentials: {defaults.credentials!r} is not among credentials")
        return defaults

    @field_validator("servers")
    @classmethod
    def _consistent(cls, servers: tuple[ServerConfig, ...], info: ValidationInfo) -> tuple[ServerConfig, ...]:
        first: dict[str, int] = {}
        for index, server in enumerate(servers):
            before = first.setdefault(name_key(server.name), index)
            if before != index:
                raise ValueError(f"[{index}]: {server.name!r} is there already, [{before}]")
            if server.expect is not None and server.expect not in info.data.get("profiles", (server.expect,)):
                raise ValueError(f"[{index}].expect: {server.expect!r} is not among profiles")
            named = server.credentials
            if named not in {None, NO_CREDENTIALS, *info.data.get("credentials", (named,))}:
                raise ValueError(f"[{index}].credentials: {named!r} is not among credentials")
        return servers

    @model_validator(mode="after")
    def _scans_follow_sweeps(self) -> Self:
        if self.scan.wanted and self.scan.interval < self.probe.interval:
            given, least = format_duration(self.scan.interval), format_duration(self.probe.interval)
            default = "" if "interval" in self.scan.model_fields_set else ", the default,"
            raise ValueError(f"scan.interval {given}{default} is less than probe.interval {least}: scans follow sweeps")
        return self

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.servers and not self.file_sd_configs:
            raise ValueError("there is nothing to watch: list servers, or file_sd_configs")
        return self


def _first_repeated(items: Sequence[Any]) -> Any:
    return next(item for index, item in enumerate(items) if item in items[:index])


def load_config(path: Path, profiles: Collection[str]) -> Config:
    """Read and validate a configuration file.

    Args:
        path: the file. Relative paths in it are taken relative to its folder.
        profiles: the names of the profiles that there are.

    Raises:
        ConfigError: it cannot be read or is not valid.
    """
    config = parse_config(load_yaml(path), profiles, source=str(path))
    below = path.resolve().parent
    folder = Path(glob.escape(str(below)))
    file_sd = tuple(
        FileSdConfig(files=tuple(str(folder / name) for name in each.files)) for each in config.file_sd_configs
    )
    servers = tuple(
        server.model_copy(update={"facts_file": server.facts_file and _below(below, server.facts_file, "path")})
        for server in config.servers
    )
    files = ("ca_file", *_SECRET_KEYS)
    credentials = {name: _below(below, each, *files) for name, each in config.credentials.items()}
    scan = _below(below, config.scan, "ca_file")
    ca_files = {"scan": scan.ca_file, **{f"credentials.{name}": each.ca_file for name, each in credentials.items()}}
    errors = [fault for key, ca_file in ca_files.items() for fault in _faults_of_ca_file(key, ca_file)]
    if errors:
        raise ConfigError(str(path), errors)
    changes = {"file_sd_configs": file_sd, "servers": servers, "credentials": credentials, "scan": scan}
    return config.model_copy(update=changes)


def _below(folder: Path, model: _ModelT, *keys: str) -> _ModelT:
    """The same with these paths, where they are given, relative to a folder."""
    given = {key: getattr(model, key) for key in keys}
    return model.model_copy(update={key: str(folder / name) for key, name in given.items() if name is not None})


def _faults_of_ca_file(key: str, ca_file: str | None) -> Iterator[str]:
    """Every observation reads it anew, so that it can be renewed; a typing error should come out before."""
    try:
        if ca_file is not None:
            ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # which ssl.SSLError is too
        yield f"{key}.ca_file: {ca_file!r}: {error.strerror or error}"
    except ValueError as error:  # no name that a file could have
        yield f"{key}.ca_file: {ca_file!r}: {error}"


def parse_config(document: object, profiles: Collection[str], source: str = "configuration") -> Config:
    """Validate a configuration that was read already; ``source`` is named in errors."""
    try:
        return Config.model_validate({} if document is None else document, context={"profiles": set(profiles)})
    except ValidationError as error:
        raise ConfigError(source, describe(error, document)) from error


def load_yaml(path: Path) -> object:
    """Read a YAML (or JSON) file; a key that stands twice in a mapping is an error.

    Raises:
        ConfigError: it cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_bytes(), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigError(str(path), [error.strerror or str(error)]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or ""
        if not isinstance(
            error, _TwiceError
        ):  # what is quoted may be a password that looks like YAML: !secret, *secret
            problem = re.sub(r" ?'.*'", "", problem)
        raise ConfigError(str(path), [f"{where}{problem}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(str(path), [" ".join(str(error).split()) or type(error).__name__]) from error


class _TwiceError(yaml.constructor.ConstructorError):
    """A key stands twice in a mapping."""


class _StrictLoader(yaml.SafeLoader):
    """YAML as everyone expects it: PyYAML alone keeps the last of two equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise _TwiceError(None, None, f"{key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def describe(error: ValidationError, document: object) -> list[str]:
    """One line per fault: path, offending value, what is wrong."""
    return [_describe(details, document) for details in error.errors(include_url=False)]


_PLAIN_WORDS: Final = {
    "model_type": "a mapping is needed",
    "dict_type": "a mapping is needed",
    "mapping_type": "a mapping is needed",
    "tuple_type": "a list is needed",
    "list_type": "a list is needed",
    "extra_forbidden": "there is no such key",
}
_WITHOUT_VALUE: Final = {"missing", "extra_forbidden"}


def _describe(details: ErrorDetails, document: object) -> str:
    path, value = _locate(details["loc"], document)
    message = _PLAIN_WORDS.get(details["type"], details["msg"].removeprefix("Value error, "))
    if message.startswith(("[", ".", ":")):  # the validator of the whole names the item itself
        return f"{path}{message}"
    shown = repr(value)
    # Somebody who writes a password where it does not belong should not find it in a log.
    secret = "credentials" in details["loc"] or "password" in shown.lower()
    if not path or details["type"] in _WITHOUT_VALUE or secret:
        return f"{path}: {message}" if path else message
    return f"{path}: {shown if len(shown) <= 100 else shown[:97] + '...'}: {message}"


def _locate(location: Sequence[int | str], document: object) -> tuple[str, object]:
    """The path of a place in a document, and what stands there."""
    path = ""
    value: Any = document
    for part in location:
        if part == "[key]":  # the key itself is at fault, and the path ends with it already
            return path, location[-2]
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
    return path, value
