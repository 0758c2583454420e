"""Which protocol versions an endpoint accepts.

`hello` writes what a client says, `answer` reads what the server says back, `starttls` asks a mail server to begin TLS,
`connection` carries one such conversation over TCP, `evidence` weighs what several of them showed, and `sweep` leads
them. Only this folder imports tlslite-ng.
"""
