"""Measured figures as they stand in pages: tables between markers, and means with their spread."""

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
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


def read_stored(file: Path) -> Any:
    """Read a JSON file, or the columns of a table of numbers."""
    text = file.read_text()
    if file.suffix == ".json":
        return json.loads(text)
    names, *rows = csv.reader(text.splitlines())
    columns = zip(*([float(f"{float(cell):.6g}") for cell in row] for row in rows), strict=True)
    return dict(zip(names, map(list, columns), strict=True))


def machine_of(record: Mapping[str, Any]) -> str:
    """Say which processor ran what a record is of, how much of it, and under which torch."""
    return f"{cores_of(record)}, torch {record['machine']['torch']}"


def cores_of(record: Mapping[str, Any]) -> str:
    """Say on how many cores of which processor something ran."""
    about = record["machine"]
    threads = about.get("threads", about["cores"])
    share = f"{threads} of " if threads < about["cores"] else ""
    return f"{share}{about['cores']} cores of an {about['processor']}"
