"""Looking at servers: what TLS says on the wire, and what a Windows host says of itself."""
