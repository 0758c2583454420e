"""tls-readiness-exporter: are the Exchange servers ready for TLS 1.2, and for life without TLS 1.0 and 1.1?"""

__version__ = "0.1.0"

REVISION = ""
"""The commit that this was built from; release builds fill it in."""
