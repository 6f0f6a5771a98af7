"""The machine and the process: files, CPU budget, hardware, threads, signals, command lines and latencies."""
