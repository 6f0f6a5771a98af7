"""The machine and its files: atomic writes, core budget, devices, queues between threads, latencies."""
