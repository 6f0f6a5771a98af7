"""What the benchmarks share: tables, intervals, timing in turns, resumable runs."""
