"""What gpu_check.py found, for people: what ran, and how fast each variant is against the published way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

BASELINES = ("published, eager", "layers, eager", "published FP32, eager", "onnxruntime")
"""The variant that the others of a configuration are held against: the first of these that was timed."""
MISSING = "-"
HEADER = (
    *("variant", "n", "wall ratio", "GPU ratio", "wall p50 ms", "wall p99 ms", "GPU p50 ms", "GPU CV"),
    *("enqueue p50 ms", "largest probability error", "ready in s", "memory MB", "plan MB", "runs as"),
)
WORDS = 1
"""Columns set left."""


def markdown(record: Record) -> str:
    """Machine, pieces and tables as a page."""
    here = record["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    driver = here["clocks"].get("driver_version", MISSING)
    cuda = f"CUDA {here['cuda_of_torch']}, driver {driver} for CUDA {here['driver'].get('version', MISSING)}"
    clocks = ", ".join(f"{name} {value}" for name, value in here["clocks"].items() if name != "driver_version")
    parts = [
        f"# {here['gpu'] or 'No GPU'}",
        "**A quick run: these numbers mean nothing.**" if record["quick"] else "",
        f"{here.get('compute_capability', MISSING)}, {cuda}, power mode {here['power_mode'] or MISSING}, "
        f"{clocks or 'no clocks told'}; {here['system']}, {record['measured']}. {versions}. "
        "Written by `python -m benchmarks.gpu_check`.",
        "Ratios are the median of the first variant named over the variant's own, so that more is faster. *Wall* is "
        "the host's time of a call with copies in and out, *GPU* lies between two events around the computation, gaps "
        "in which the device waits for the host among it, *enqueue* is the host's part of it. A session's events lie "
        "around its whole call. FP32 is without TF32 in PyTorch. Errors of heads and tails are against float64, those "
        "of models against onnxruntime on the CPU in FP32. All variants of a table took turns. Samples, and n, min, "
        "mean, median, p90, p95, p99, max and CV of each clock, are in the JSON file beside this page.",
        "## What ran",
        _table(("part", "piece", "status", "why"), [_piece(piece) for piece in record["pieces"]], words=4),
        _kernel(record),
        _tests(record),
        *(f"Faster TensorRT head at batch 1: **{record['faster_head']}**." for _ in range(bool(record["faster_head"]))),
        *(_configuration(measured) for measured in record["configurations"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _piece(piece: Record) -> tuple[str, ...]:
    return piece["part"], piece["name"], piece["status"], piece["reason"].replace("|", "\\|")


def _kernel(record: Record) -> str:
    rows = [
        (way, str(len(cases)), f"{max(max(case.values()) for case in cases.values()):.1e}")
        for way, cases in record["kernel"].items()
    ]
    if not rows:
        return ""
    return "## The kernel against float64\n\n" + _table(("from", "cases", "largest error"), rows, words=1)


def _tests(record: Record) -> str:
    if not record["tests"]:
        return ""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in record["tests"]["counts"].items())
    cases = "".join(f"\n- {name}: {said}" for name, said in record["tests"]["cases"].items())
    return f"## Tests marked gpu\n\n{counts}{cases and chr(10)}{cases}"


def _configuration(measured: Record) -> str:
    timed = {name: variant for name, variant in measured["variants"].items() if "statistics" in variant}
    title = " ".join(filter(None, (measured["part"], measured["preset"], measured["precision"])))
    parts = [f"## {title}, N {measured['strata']}, batch {measured['batch']}"]
    baseline = next((name for name in (*BASELINES, *timed) if name in timed), None)
    if baseline is not None:
        names = [baseline, *(name for name in timed if name != baseline)]
        rows = [_variant(name, timed[name], timed[baseline]["statistics"]) for name in names]
        parts.append(_table(HEADER, rows, WORDS))
    told = [f"{name}: failed: {reason}" for name, reason in measured["failed"].items()]
    told += [f"{name}: skipped: {v['skipped']}" for name, v in measured["variants"].items() if "skipped" in v]
    return "\n\n".join([*parts, *(["\n".join(f"- {line}" for line in told)] if told else [])])


def _variant(name: str, variant: Record, baseline: Record) -> tuple[str, ...]:
    figures = variant["statistics"]
    wall, gpu, enqueue = (figures.get(clock, {}) for clock in ("wall", "gpu", "enqueue"))
    ready = [variant[key] for key in ("build_seconds", "load_seconds") if key in variant]
    return (
        *(name, str(wall["n"]), _ratio(baseline, figures, "wall"), _ratio(baseline, figures, "gpu")),
        *(_number(wall.get("median")), _number(wall.get("p99")), _number(gpu.get("median"))),
        *(_number(gpu.get("cv")), _number(enqueue.get("median"))),
        *(f"{variant['probability_error']:.0e}", " + ".join(f"{value:g}" for value in ready) or MISSING),
        *(_megabytes(variant.get("memory_bytes")), _megabytes(variant.get("plan_bytes"))),
        variant.get("runs_as", variant.get("layout", MISSING)),
    )


def _ratio(baseline: Record, figures: Record, clock: str) -> str:
    if clock not in baseline or clock not in figures or not figures[clock]["median"]:
        return MISSING
    return f"{baseline[clock]['median'] / figures[clock]['median']:.2f}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _megabytes(value: int | None) -> str:
    return MISSING if value is None else f"{value / 1e6:.1f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A Markdown table whose first `words` columns are set left, the numbers behind them right."""
    rule = [":---" if column < words else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))
