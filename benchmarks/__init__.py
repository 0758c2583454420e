"""Speed and size, side by side with sslscan and sslyze: ``python -m benchmarks``. docs/performance.md explains it."""
