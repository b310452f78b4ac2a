"""Tables of measured figures say what is stored."""

import importlib
import json
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(("script", "page"), [("results", "README.md"), ("soak", "docs/faults.md")])
def test_the_tables_are_those_of_the_stored_figures(script: str, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    made = importlib.import_module(script).with_tables(text)
    assert made == text, f"run python benchmarks/{script}.py tables"


@pytest.mark.parametrize(
    "page", ["docs/results.md", "docs/throughput.md", "docs/tuning.md", "docs/champion.md"]
)
def test_the_tables_of_further_pages_are_those_of_the_stored_figures(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    made = importlib.import_module("results").with_tables(text, page)
    assert made == text, "run python benchmarks/results.py tables"


def test_the_command_of_an_older_recipe_names_what_has_changed() -> None:
    tables = importlib.import_module("real_tables")
    model, training = importlib.import_module("champion").read_recipe(
        "base",
        [
            "training.epochs=3",
            "training.seed=7",
            "training.averaging.name=swa",
            "training.progressive_sizes=[[0.5, 24]]",
        ],
    )
    record = {
        "command": "python benchmarks/champion.py run --set training.epochs=3 model.x=1 --seeds 0",
        "recipe": {"model": model.model_dump(), "training": training.model_dump(mode="json")},
    }
    assert tables._champion_command(record) == (
        "python benchmarks/champion.py run --seeds 0 "
        "--set training.epochs=3 training.averaging.name=swa "
        "'training.progressive_sizes=[[0.5, 24]]'"
    )


def test_the_newest_champion_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = importlib.import_module("real_tables")
    stored = {
        "a": {"track": "open", "date": "2026-02-02"},
        "b": {"track": "held_out", "date": "2026-03-03"},
        "c": {"track": "open", "date": "2026-01-01"},
    }
    (tmp_path / "champion.json").write_text(json.dumps(stored))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables._champions() == [stored["c"], stored["a"]]


def test_a_champion_has_its_track_and_unless_it_was_adapted_no_such_figure() -> None:
    tables = importlib.import_module("real_tables")
    figures = {method: {"clean": 0.5, "corrupted": 0.25} for method in ("plain", "tta")}
    record = {
        "track": "held_out",
        "trainings": [{"wall_seconds": 9.0}],
        "recipe": {"model": {"architecture": "express"}, "training": {"epochs": 2}},
        "members": [figures],
        "ensemble": None,
    }
    rows = tables._champion_rows(record)
    assert all("`express`, track `held_out`, 1 seed" in row[0] for row in rows)
    cells = [row[1:4] for row in rows]
    assert cells == [["50.00", "25.00", tables.DASH]] * 2


def test_numbers_of_images_name_the_networks_that_were_judged_on_them() -> None:
    tables = importlib.import_module("real_tables")
    records = [
        {"recipe": {"model": {"architecture": name}}, "images": {"distorted": count}}
        for name, count in (("a", 1000), ("a", 1000), ("b", 4000), ("c", 1000))
    ]
    assert tables._numbers_of_images(records) == "1,000 (`a`, `c`) and 4,000 (`b`)"


def test_a_changed_figure_is_noticed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    changed = text.replace("| SimpleCNN | 37.26 |", "| SimpleCNN | 37.27 |")
    assert changed != text
    assert importlib.import_module("results").with_tables(changed) == text


def test_a_row_shows_means_over_its_seeds_and_says_where_there_were_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(name: str, model: dict[str, object], threads: int = 1) -> None:
        record = {
            "wall_seconds": 60.0 / threads,
            "peak_memory_gb": 1.0,
            "machine": {"threads": threads},
            "models": {"net": model},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(record))

    def store_judged(name: str, weight: float | None = None, **accuracies: float) -> None:
        methods = {
            method: {
                "test": {"mean_corruption_accuracy": accuracy},
                "transductive": method == "batch_norm",
            }
            for method, accuracy in accuracies.items()
        }
        adaptation = {"source_weight": weight, "candidates": {}}
        store(name, {"robustness": {"methods": methods, "adaptation": adaptation}})

    for name, top5, threads in (("net", 0.7, 1), ("net_seed1", 0.8, 2), ("net_seed2", 0.9, 2)):
        metrics = {"test_accuracy": 0.4, "test_top5_accuracy": top5}
        training = {"epochs": 2, "images_per_second": 10.0 * threads}
        store(name, {"metrics": metrics, "training": training}, threads)
    store_judged("net_robustness", 0.75, plain=0.3, batch_norm=0.45)
    store_judged("net_robustness_seed1", 0.25, plain=0.4, batch_norm=0.2)  # of another weight
    store_judged("net_views_seed1", tta=0.5)
    tables = importlib.import_module("real_tables")
    monkeypatch.setattr(tables, "RUNS", tmp_path)
    row, dash = tables.Row("Net", "net", "net"), tables.DASH
    assert tables._line(tables._real_row(row, tables.records_of("net"))) == (
        f"| Net | {dash} | {dash} | **40.00 ± 0.00 (3 seeds)** | 80.0 ± 10.0 "
        "| 35.0 ± 7.1 (2 seeds) | 45.0 (1 seed) | 50.0 (1 seed) "
        "| 2 epochs, 20 images/s | 0.5 min, 1.0 GB |"
    )


def test_the_time_of_an_ensemble_is_that_of_its_members_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"threads": 2, "cores": 2, "processor": "AMD EPYC"}
    metrics = {"test_accuracy": 0.5, "test_top5_accuracy": 0.75}
    metrics |= {"test_accuracy_low": 0.4, "test_accuracy_high": 0.6}
    for name, model, seconds in (
        *(("net", "net", 600.0), ("net_seed1", "net", 900.0)),
        ("both", "ensemble", 30.0),
    ):
        made = {"metrics": metrics, "training": {"epochs": None, "images_per_second": None}}
        record = {"wall_seconds": seconds, "peak_memory_gb": 1.0, "machine": machine}
        (tmp_path / f"{name}.json").write_text(json.dumps({**record, "models": {model: made}}))
    tables = importlib.import_module("real_tables")
    monkeypatch.setattr(tables, "RUNS", tmp_path)
    row = tables.Row("Both", "both", "ensemble", short="Both", members="net")
    (line,) = tables._headlines_of(row, tables.records_of("both"))
    assert line[-1] == "2 of them, 20 min on 2 cores of an AMD EPYC"
    assert tables._real_row(row, tables.records_of("both"))[-2:] == [tables.DASH, "0.5 min, 1.0 GB"]


def test_the_curve_of_a_row_is_that_of_the_run_whose_time_stands_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, threads in (("net", 1), ("net_seed1", 2), ("net_seed2", 2)):
        history = {"epoch": [1], "made_by": [name]}
        record = {"machine": {"threads": threads}, "models": {"net": {"history": history}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    tables, figures = (importlib.import_module(name) for name in ("real_tables", "result_figures"))
    monkeypatch.setattr(tables, "RUNS", tmp_path)
    metrics = {"metrics": {"test_accuracy": 0.5}}
    together = {"machine": {"threads": 1}, "models": {"ensemble": metrics}}
    (tmp_path / "net_ensemble.json").write_text(json.dumps(together))
    net = tables.Row("Net", "net", "net", short="Net")
    ensemble = tables.Row("Nets", "net_ensemble", "ensemble", short="Nets", members="net")
    monkeypatch.setattr(figures, "ROWS", (net, ensemble))
    (curve,) = figures.histories().values()
    assert curve["made_by"].tolist() == ["net_seed1"]


def test_the_picture_of_corruptions_shows_the_mean_over_stored_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, fog in (("net_robustness", 0.25), ("net_robustness_seed1", 0.75)):
        test = {"per_corruption": {"fog": fog, "snow": 0.25}}
        judged = {"robustness": {"methods": {"plain": {"test": test}}}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"models": {"net": judged}}))
    tables, figures = (importlib.import_module(name) for name in ("real_tables", "result_figures"))
    rows = (tables.Row("Net", "net", "net", short="`Net`"), tables.Row("Other", "other", "other"))
    monkeypatch.setattr(tables, "RUNS", tmp_path)
    monkeypatch.setattr(figures, "ROWS", rows)
    accuracies = figures.accuracies_by_corruption()
    assert accuracies.to_dict() == {"Net": {"fog": 0.5, "snow": 0.25}}
    axes = figures.corruption_heat_map(accuracies).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["snow", "fog"]
    assert [text.get_text() for text in axes.texts] == ["25", "50"]
    assert axes.get_xticklabels()[0].get_text() == "Net\n37.5%"


def test_runs_of_other_lengths_and_images_stay_out_of_the_table_of_robust_trainings() -> None:
    robust_training = importlib.import_module("robust_training")
    accuracies = {"plain": 0.5, "batch_norm": 0.25}
    run = {
        "recipe": "plain",
        "epochs": 6,
        "images": 500,
        "clean": accuracies,
        "corrupted": accuracies,
    }
    other = {"plain": 0.0, "batch_norm": 0.0}
    shorter = run | {"epochs": 1, "clean": other}
    of_fewer = run | {"images": 100, "clean": other}
    table = robust_training.summary([shorter, run, of_fewer], epochs=6, images=500)
    assert table.splitlines()[2:] == ["| plain | 1 | 50.0 | 50.0 | 25.0 | 25.0 | -25.0 |"]


def test_a_recipe_of_one_seed_has_no_ensemble_in_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = importlib.import_module("real_tables")
    stored = json.loads((tables.RESULTS / "champion.json").read_text())
    name = next(name for name, one in stored.items() if "batch_norm_tta" in one["members"][0])
    model = {"architecture": "express_large"}
    recipe = {**stored[name]["recipe"], "model": model}
    single = {"recipe": recipe, "seeds": [0], "ensemble": None}
    stored["single"] = stored[name] | single | {"members": stored[name]["members"][:1]}
    unfinished = (tables.RESULTS / "champion_unfinished.json").read_text()
    (tmp_path / "champion_unfinished.json").write_text(unfinished)
    before = tables.aims_table(), tables.unfinished_table()
    (tmp_path / "champion.json").write_text(json.dumps(stored))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.aims_table().count("one network") == before[0].count("one network") + 1
    assert tables.aims_table().count("as one") == before[0].count("as one")
    assert tables.unfinished_table() == before[1]


def test_small_numbers_of_stored_tables_keep_their_digits(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("rate,count\n4.0000001e-08,123456\n0.1234567,2\n")
    read = importlib.import_module("report_tables").read_stored(tmp_path / "a.csv")
    assert read == {"rate": [4e-8, 0.123457], "count": [123456, 2]}
