"""What the benchmarks share: results files, tables, timing in turns, resumable runs."""
