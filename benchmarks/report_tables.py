"""Measured figures as they stand in pages: tables between markers, and means with their spread."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def fill(page: str, script: str, tables: Mapping[str, str]) -> str:
    """Return a page with other tables between its markers.

    Args:
        page: holds `<!-- NAME: benchmarks/SCRIPT -->` and `<!-- /NAME -->` for each table.
        script: that made the tables.
        tables: Markdown by name.
    """
    for name, table in tables.items():
        begin, end = f"<!-- {name}: benchmarks/{script} -->", f"<!-- /{name} -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return page


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean of some figures, with their standard deviation if there are several."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def throughput_table(result: Mapping[str, Any]) -> str:
    """Return what throughput.py measured of one model.

    Args:
        result: `model`, `batch_size`, and `contestants` by name.
    """
    title = f"{result['model']}, batch {result['batch_size']}"
    rows = [
        f"| {title} | images/s | slowest | fastest | ours is |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, row in result["contestants"].items():
        rates = [f"{row[key]:,.0f}" for key in ("images_per_second", "slowest", "fastest")]
        rows.append(f"| {name} | {' | '.join(rates)} | {row['ours_over_this']} times |")
    return "\n".join(rows)
