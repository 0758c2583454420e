"""A snapshot in the formats that others read: Prometheus, JSON, a table, a page. Never probes, never judges."""
