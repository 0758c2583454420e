"""The child process that uses pywinrm: ``python -m exporter.probes.winrm.worker``, started by `exporter.workers`."""

from __future__ import annotations

import os
from typing import Final

from exporter.probes.winrm.jobs import JOB, OUTCOME
from exporter.probes.winrm.session import collect
from exporter.workers import serve, tell_news

_NOT_OURS: Final = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NTLM_USER_FILE"),
)
"""Where requests and pyspnego would take proxies, trust and passwords from, behind the configuration's back."""


def do(line: bytes, timeout: float) -> bytes:
    """Do one job."""
    return OUTCOME.dump_json(collect(JOB.validate_json(line), timeout, tell_news))


def main() -> None:
    """Serve, without what the environment says about connections."""
    for name in _NOT_OURS:
        os.environ.pop(name, None)
    os.environ["NETRC"] = os.devnull
    serve(do)


if __name__ == "__main__":
    main()
