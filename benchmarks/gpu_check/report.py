"""The page of a run: what ran, and how fast each variant is compared with the published network."""

from __future__ import annotations

from benchmarks.common.results import Results
from iern.train.evaluation.markdown import markdown_table

BASELINES = ("published, eager", "layers, eager", "published FP32, eager", "onnxruntime")
"""The variant that the others of a configuration are compared with: the first of these that was timed."""
MISSING = "-"
HEAD = (
    *("variant", "n", "wall ratio", "GPU ratio", "wall p50 ms", "wall p99 ms", "GPU p50 ms", "GPU CV"),
    *("enqueue p50 ms", "largest probability error", "ready in s", "memory MB", "plan MB", "runs as"),
)


def markdown(results: Results) -> str:
    """The machine, the pieces and the tables as a page."""
    machine = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    driver = machine["clocks"].get("driver_version", MISSING)
    cuda = f"CUDA {machine['cuda_of_torch']}, driver {driver} for CUDA {machine['driver'].get('version', MISSING)}"
    clocks = ", ".join(f"{name} {value}" for name, value in machine["clocks"].items() if name != "driver_version")
    parts = [
        f"# {machine['gpu'] or 'No GPU'}",
        "**A quick run: these numbers mean nothing.**" if results["quick"] else "",
        f"The run had {results['seconds']:g} seconds." if results.get("seconds") else "",
        f"{machine.get('compute_capability', MISSING)}, {cuda}, power mode {machine['power_mode'] or MISSING}, "
        f"{clocks or 'no clocks reported'}; {machine['system']}, {results['measured']}. {versions}. "
        "Written by `python -m benchmarks.gpu_check`.",
        "Ratios are the median of the first variant in the table over the variant's own, so more is faster. *Wall* is "
        "the host's time of a call with copies in and out. *GPU* is the time between two events around the "
        "computation, including gaps in which the device waits for the host. *Enqueue* is the host's part of it. The "
        "events of a TensorRT session are on its own stream, around copies and computation. onnxruntime's stream takes "
        "none. FP32 is without TF32 in PyTorch. Errors of heads and "
        "tails are compared with float64, those of models with onnxruntime on the CPU in FP32. All variants of a table "
        "took turns. Samples, and n, min, mean, median, p90, p95, p99, max and CV of each clock, are in the JSON file "
        "beside this page.",
        "## What ran",
        markdown_table(("part", "piece", "status", "why"), [_piece(piece) for piece in results["pieces"]], left=4),
        _kernel(results),
        _engines(results),
        _replay(results),
        _loop(results),
        _tests(results),
        f"Faster TensorRT head at batch 1: **{results['faster_head']}**." if results["faster_head"] else "",
        *(_configuration(measured) for measured in results["configurations"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _piece(piece: Results) -> tuple[str, ...]:
    return piece["part"], piece["name"], piece["status"], piece["reason"].replace("|", "\\|")


def _kernel(results: Results) -> str:
    rows = [
        (name, str(len(cases)), f"{max(max(case.values()) for case in cases.values()):.1e}")
        for name, cases in results["kernel"].items()
    ]
    if not rows:
        return ""
    table = markdown_table(("from", "cases", "largest error"), rows, left=1)
    return f"## The kernel compared with float64\n\n{table}"


def _engines(results: Results) -> str:
    rows = [
        (
            *(name, facts["tensorrt"], f"{facts['seconds']:g}", _megabytes(facts["plan_bytes"])),
            *(", ".join(map(str, facts["batches"])), str(facts["parity"]["faces"])),
            *(f"{facts['parity']['agreement']:.2%}", f"{facts['parity']['logits']:.1e}"),
        )
        for name, facts in results.get("engines", {}).items()
    ]
    head = ("engine", "TensorRT", "built in s", "MB", "batches", "faces", "same first expression", "logits / range")
    return f"## Engines compared with their file\n\n{markdown_table(head, rows, left=1)}" if rows else ""


def _replay(results: Results) -> str:
    rows = [
        (name, f"1 to {facts['counts']}", f"{facts['probability_error']:.1e}")
        for name, facts in results.get("replay", {}).items()
    ]
    head = ("session", "faces", "largest probability error")
    table = markdown_table(head, rows, left=1)
    return f"## A replayed CUDA graph has the bits of the single calls\n\n{table}" if rows else ""


def _loop(results: Results) -> str:
    rows = [
        (
            *(name, str(facts["frames"]), str(facts["faces"]), f"{facts['probability_error']:.1e}"),
            *(_number(facts["milliseconds"][of].get(stage)) for stage in ("infer", "total") for of in ("this", "CPU")),
        )
        for name, facts in results.get("loop", {}).items()
    ]
    times = ("infer p50 ms", "on the CPU", "frame p50 ms", "on the CPU")
    table = markdown_table(("loop with", "frames", "faces", "largest probability error", *times), rows, left=1)
    energy = [
        f"- {name}: {sensor} {joules:.4f} J, on the CPU {_number(facts['joules_per_frame']['CPU'].get(sensor))} J"
        for name, facts in results.get("loop", {}).items()
        for sensor, joules in facts.get("joules_per_frame", {}).get("this", {}).items()
    ]
    measured = ["Energy of a frame:", "\n".join(energy)] if energy else []
    return "\n\n".join(["## The loop on the bundled clip, compared with the CPU", table, *measured]) if rows else ""


def _tests(results: Results) -> str:
    if not results["tests"]:
        return ""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in results["tests"]["counts"].items())
    cases = "".join(f"\n- {name}: {message}" for name, message in results["tests"]["cases"].items())
    return f"## Tests marked gpu\n\n{counts}{cases and chr(10)}{cases}"


def _configuration(measured: Results) -> str:
    timed = {name: variant for name, variant in measured["variants"].items() if "statistics" in variant}
    title = " ".join(filter(None, (measured["part"], measured["preset"], measured["precision"])))
    parts = [f"## {title}, N {measured['strata']}, batch {measured['batch']}"]
    baseline = next((name for name in (*BASELINES, *timed) if name in timed), None)
    if baseline is not None:
        names = [baseline, *(name for name in timed if name != baseline)]
        rows = [_variant(name, timed[name], timed[baseline]["statistics"]) for name in names]
        parts.append(markdown_table(HEAD, rows, left=1))
    notes = [f"{name}: failed: {reason}" for name, reason in measured["failed"].items()]
    notes += [f"{name}: skipped: {v['skipped']}" for name, v in measured["variants"].items() if "skipped" in v]
    return "\n\n".join([*parts, *(["\n".join(f"- {line}" for line in notes)] if notes else [])])


def _variant(name: str, variant: Results, baseline: Results) -> tuple[str, ...]:
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


def _ratio(baseline: Results, figures: Results, clock: str) -> str:
    if clock not in baseline or clock not in figures or not figures[clock]["median"]:
        return MISSING
    return f"{baseline[clock]['median'] / figures[clock]['median']:.2f}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _megabytes(value: int | None) -> str:
    return MISSING if value is None else f"{value / 1e6:.1f}"
