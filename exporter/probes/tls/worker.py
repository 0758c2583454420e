"""The child process that uses sslyze: ``python -m exporter.probes.tls.worker``, started by `exporter.workers`."""

from __future__ import annotations

from functools import partial

from exporter.probes.tls.handshake import shake_hands
from exporter.probes.tls.jobs import JOB, OPINION, SCAN, ScanJob
from exporter.probes.tls.opinion import give_opinion
from exporter.probes.tls.scan import scan
from exporter.workers import serve


def do(line: bytes, timeout: float) -> bytes:
    """Do one job."""
    job = JOB.validate_json(line)
    connect = partial(shake_hands, job.place)
    if isinstance(job, ScanJob):
        return SCAN.dump_json(scan(job, timeout, connect))
    return OPINION.dump_json(give_opinion(job, timeout, connect))


if __name__ == "__main__":
    serve(do)
