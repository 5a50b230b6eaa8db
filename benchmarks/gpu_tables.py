"""The tables of docs/en/speed.md, from the results of benchmarks/gpu.py."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- gpu tables: written by benchmarks/gpu.py --write -->", "<!-- end of gpu tables -->"


def write_page(page: Path, results: dict[str, Any]) -> None:
    """Replace what stands between the two marks of the page."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page} has no place for the tables: {BEGIN} … {END}")
    new = f"{BEGIN}\n\n{tables(results)}\n\n{END}"
    page.write_text(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: new, text, flags=re.S), "utf-8")


def tables(results: dict[str, Any]) -> str:
    """Markdown; a measurement that is missing or failed is named as such."""
    parts: dict[str, dict[str, Any]] = results["parts"]
    versions = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    blocks = [f"Device: {results['device']}, {results['cores']} CPU cores; {versions}."]
    if peak := parts.get("peak"):
        rows = [(name, _figure(peak.get(name), "tflops", 1)) for name in ("fp32", "tf32", "bf16")]
        copies = peak.get("copies", {})
        blocks.append(_table(("matrix product", "TFLOP/s"), rows))
        if "device_gb_s" in copies:
            blocks.append(
                f"Copies: {copies['device_gb_s']:,.0f} GB/s within the device (bytes read and written), "
                f"{copies['host_to_device_gb_s']:.1f} GB/s from pinned memory to it."
            )
    if train := parts.get("train"):
        blocks.append("### Training step, frames on the device\n\n" + _training(parts, train))
    for name, title in (("golden", "### Logits against MMAction2's own (double precision)"),):
        if rows := parts.get(name):
            header = ("network", "fp32", "TF32", "bf16", "fp32 against the CPU")
            keys = ("fp32_from_reference", "tf32_from_reference", "bf16_from_reference", "fp32_from_cpu")
            body = [(n, *(_figure(v, key, None) for key in keys)) for n, v in rows.items()]
            blocks.append(f"{title}\n\nLargest difference of a logit:\n\n" + _table(header, body))
    if run := parts.get("run"):
        blocks.append(
            "### Runs on the device\n\n" + _table(("check", "result"), [(n, _said(v)) for n, v in run.items()])
        )
    for part, title, unit, key in (
        ("together", "### Training from video files", "clips/s", "clips_per_s"),
        ("loader", "### Reading videos alone", "clips/s", "clips_per_s"),
        ("test", "### Test, all views of the protocol, frames on the device", "videos/s", "videos_per_s"),
        ("nvdec", "### Decoding whole files", "frames/s", "frames_per_s"),
        ("clips", "### Training clips, one process", "clips/s", "clips_per_s"),
        ("graphs", "### One input at a time", "ms", "ms"),
        ("small", "### A small batch", "clips/s", "clips_per_s"),
    ):
        if rows := parts.get(part):
            body = [(n, _figure(v, key, 1), _figure(v, "share_of_synthetic", 2)) for n, v in rows.items()]
            if part == "together":
                synthetic = parts.get("train", {}).get("SlowOnly 4x16, bf16", {}).get("clips_per_s")
                body = [
                    (n, _figure(v, key, 1), f"{v[key] / synthetic:.0%}" if synthetic and key in v else "")
                    for n, v in rows.items()
                ]
                blocks.append(f"{title}\n\n" + _table(("what", unit, "of frames on the device"), body))
            else:
                blocks.append(f"{title}\n\n" + _table(("what", unit), [row[:2] for row in body]))
    if bmn := parts.get("bmn"):
        steps = [
            (n, _figure(v, "clips_per_s", 0), v.get("batch_size", ""), _percent(v))
            for n, v in bmn.items()
            if n.startswith("training")
        ]
        layers = [
            (n, _figure(v, "forward_ms", 2), _figure(v, "forward_backward_ms", 2), v.get("batch_size", ""))
            for n, v in bmn.items()
            if n.startswith("layer")
        ]
        blocks.append("### BMN\n\n" + _table(("step", "videos/s", "batch", "of peak"), steps))
        blocks.append(_table(("layer", "forward, ms", "with backward, ms", "batch"), layers))
    return "\n\n".join(blocks)


def _training(parts: dict[str, Any], train: dict[str, Any]) -> str:
    families = list(dict.fromkeys(name.rpartition(", ")[0] for name in train))
    plain, compiled, tuned = (parts.get(name, {}) for name in ("plain", "compile", "autotune"))
    rows = []
    for family in families:
        bf16 = train.get(f"{family}, bf16", {})
        cells: list[Any] = [family]
        for precision in ("fp32", "tf32", "bf16"):
            cells.append(_figure(train.get(f"{family}, {precision}"), "clips_per_s", 0))
        cells.append(_figure(compiled.get(f"{family}, bf16, default"), "clips_per_s", 0))
        cells.append(_figure(tuned.get(f"{family}, bf16, max-autotune"), "clips_per_s", 0))
        forms = [bf16, compiled.get(f"{family}, bf16, default", {}), tuned.get(f"{family}, bf16, max-autotune", {})]
        best = max(forms, key=lambda v: v.get("clips_per_s", 0))
        cells += [best.get("batch_size", ""), _percent(best)]
        for precision in ("tf32", "bf16"):
            cells.append(_figure(plain.get(f"{family}, {precision}"), "clips_per_s", 0))
        stand_in = plain.get(f"{family}, bf16", {}).get("clips_per_s")
        cells.append(f"{best['clips_per_s'] / stand_in:.2f}×" if stand_in and "clips_per_s" in best else "")
        rows.append(cells)
    header = ("clips/s", "fp32", "TF32", "bf16", "bf16 compiled", "max-autotune", "batch", "of bf16 peak", "plain TF32", "plain AMP", "ours / plain AMP")  # fmt: skip
    return _table(header, rows)


def _percent(value: dict[str, Any]) -> str:
    return f"{value['share_of_peak']:.0%}" if "share_of_peak" in value else ""


def _figure(value: dict[str, Any] | None, key: str, digits: int | None) -> str:
    if not value:
        return ""
    if "error" in value:
        return "failed"
    if key not in value:
        return value.get("skipped", "")
    return f"{value[key]:.1e}" if digits is None else f"{value[key]:,.{digits}f}"


def _said(value: dict[str, Any]) -> str:
    if "error" in value:
        return "failed: " + value["error"].splitlines()[0]
    if "skipped" in value:
        return value["skipped"]
    facts = {k: v for k, v in value.items() if k not in ("ok", "seconds")}
    return ("ok: " if value["ok"] else "NOT OK: ") + "; ".join(
        f"{k.replace('_', ' ')} {v:.4g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
        for k, v in facts.items()
    )


def _table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"

    header = list(header)
    return "\n".join([line(header), "|" + "---|" * len(header), *(line(row) for row in rows)])
