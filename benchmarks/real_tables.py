"""The tables of results on the real data, for README.md and docs/results.md."""

import json
import re
import shlex
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from champion import accuracies, read_recipe
from report_tables import cores_of, machine_of, read_stored, spread

from cifar100_transfer.nested import leaves

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
RUNS = RESULTS / "runs"
JUDGED = ("robustness", "views")
"""Runs of the pipeline `robustness`, by what follows NAME_: the usual methods, and six views."""
DASH = "\N{EN DASH}"


class Row(NamedTuple):
    """One row of the table of results on the real data.

    Attributes:
        title: of the row.
        name: of its files in RUNS: NAME.json, further seeds in NAME_seed1.json and so on, and
            NAME_robustness.json, NAME_views.json. Without files the row says so.
        model: in those files.
        report: what the seed report got on test images, in percent; empty: it has no such model.
        public: the best public figure for such a network, in percent, and where it is from.
        short: its title in README.md's table; empty: it stands in docs/results.md only.
        members: of an ensemble, the row above that it is made of; all its seeds are members.
    """

    title: str
    name: str
    model: str
    report: str = ""
    public: str = ""
    short: str = ""
    members: str = ""


# The best public figures, and where they are from.
RESNET50_PUBLIC = "77.39 ([200 epochs](https://github.com/weiaicunzai/pytorch-cifar100), on GPUs)"
CHALLENGE_BEST = "[ResNet-152](https://github.com/chenyu020816/dl4ds_midterm)"
CHAMPION_PUBLIC = f"83.27, corrupted 74.25 ({CHALLENGE_BEST}, 100 to 150 epochs)"
RACE_PUBLIC = (
    "75.25 after [3.96 s](https://github.com/AIDDA-Institute/CIFAR-100-speedrun) on an A100"
)
ROWS = (
    Row("SimpleCNN", "simple_cnn", "simple_cnn", "37.26", short="SimpleCNN"),
    Row("SimpleCNN in bfloat16", "simple_cnn_bf16", "simple_cnn"),
    Row(
        "ResNet-50 from scratch, the report's recipe",
        "resnet50",
        "resnet50",
        "37.12",
        RESNET50_PUBLIC,
    ),
    Row(
        "ResNet-50 from scratch, the report's recipe, in bfloat16",
        "resnet50_bf16",
        "resnet50",
        "37.12",
        RESNET50_PUBLIC,
        short="ResNet-50 from scratch, report's recipe",
    ),
    Row(
        "ResNet-50 from scratch, a recipe for an hour of a CPU",
        "resnet50_full",
        "resnet50",
        "37.12",
        RESNET50_PUBLIC,
        short="ResNet-50 from scratch, our recipe",
    ),
    Row(
        "ResNet-50, ImageNet weights",
        "transfer",
        "transfer",
        "64.09, corrupted 46",
        "66.37 corrupted (ResNet-50 by lavaman131, 16 shifts)",
        short="ResNet-50, ImageNet weights",
    ),
    Row(
        "SqueezeNet 1.1, ImageNet weights, the report's recipe for transfer at 64 pixels",
        "squeezenet_report",
        "transfer",
    ),
    Row("The same at 32 pixels, as the report's", "squeezenet_report_32", "transfer"),
    Row("SqueezeNet 1.1, ImageNet weights, by AdamW at 64 pixels", "squeezenet_64", "transfer"),
    Row("The same network, random weights", "squeezenet_64_scratch", "transfer"),
    Row(
        "SqueezeNet 1.1, ImageNet weights, by Muon at 128 pixels",
        "squeezenet",
        "transfer",
        short="SqueezeNet 1.1 in two epochs",
    ),
    Row(
        "SqueezeNet 1.1, ImageNet weights, the longer recipe",
        "squeezenet_full",
        "transfer",
        short="SqueezeNet 1.1, ImageNet weights",
    ),
    Row(
        "SqueezeNet 1.1, ImageNet weights, AugMix and noise at 64 pixels (track `open`)",
        "squeezenet_64_robust",
        "transfer",
    ),
    Row(
        "SqueezeNet 1.1, ImageNet weights, trained with corruptions (track `open`)",
        "squeezenet_robust",
        "transfer",
        short="SqueezeNet 1.1 with corruptions (track `open`)",
    ),
    Row("`express`, from scratch", "express_12", "express"),
    Row("`express`, its longer recipe", "express", "express", short="`express`"),
    Row(
        "`express`, its longer recipe with AugMix (track `held_out`)",
        "express_held_out",
        "express",
        short="`express` with AugMix (track `held_out`)",
    ),
    Row(
        "`express`, robust recipe (track `open`)",
        "express_robust",
        "express",
        public=f"74.25 corrupted ({CHALLENGE_BEST})",
        short="`express` with corruptions (track `open`)",
    ),
    Row(
        "`express`, robust recipe (track `open`), the three seeds as one ensemble",
        "express_robust_ensemble",
        "ensemble",
        public=f"74.25 corrupted ({CHALLENGE_BEST})",
        short="`express` with corruptions, three seeds as one ensemble",
        members="express_robust",
    ),
)


def headlines() -> str:
    """Return README.md's table: the rows to know, and the commands of their trainings."""
    rows = [(row, records_of(row.name)) for row in ROWS if row.short]
    champion, race = _champions()[-1], read_stored(RESULTS / "time_to_75.json")
    lines = [
        "| model | report | best public | ours: test | corrupted | adapted | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_line(line) for row, records in rows for line in _headlines_of(row, records)),
        *(
            _line(_headline_on_gpu(champion, CHAMPION_PUBLIC, row))
            for row in _champion_rows(champion)
        ),
        _line(_headline_on_gpu(race, RACE_PUBLIC, _race_rows(race)[-1])),
    ]
    commands = [
        *((row.short, _command(records[0])) for row, records in rows if records),
        ("`champion`", _champion_command(champion)),
        ("`express` in seconds", race["command"]),
    ]
    return "\n".join([*lines, "", *(f"- {title}: `{command}`" for title, command in commands)])


def _headlines_of(row: Row, records: list[dict[str, Any]]) -> list[list[str]]:
    accuracy, _, corrupted, adapted, views = _accuracies(row, records)
    trained = records_of(row.members) if row.members else records
    cost = DASH
    if trained:
        run = timed(trained)
        spent = _minutes(run)
        if row.members:
            minutes = len(trained) * run["wall_seconds"] / 60
            spent = f"{len(trained)} of them, {minutes:.0f} min"
        cost = f"{spent} on {cores_of(run)}"
    lines = [[row.short, *_known(row), accuracy, corrupted, adapted, cost]]
    if views != DASH:
        title = f"{row.short}, mean over six views"
        lines.append([title, *_known(row), DASH, views, DASH, cost])
    return lines


def _headline_on_gpu(record: dict[str, Any], public: str, row: list[str]) -> list[str]:
    title, *accuracies, cost = row
    return [title, DASH, public, *accuracies, f"{cost} on an {record['machine']['gpu']}"]


def real_table() -> str:
    """Return the table of all rows, with all commands and machines."""
    lines = [
        "| model | report | best public | ours: test | top-5 | corrupted | adapted | views "
        "| training | run |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    commands = []
    for row in ROWS:
        records = records_of(row.name)
        lines.append(_line(_real_row(row, records)))
        commands += [
            f"- {row.title}: `{_command(runs[0])}` ({', '.join(_circumstances(runs, row.model))})"
            for runs in (records, *(records_of(f"{row.name}_{kind}") for kind in JUDGED))
            if runs
        ]
    return "\n".join(
        [
            *lines,
            "",
            "Top-1 accuracy in percent: the mean ± standard deviation over the seeds (over fewer "
            "where their number stands beside it), or one seed. *Test* and *top-5*: all 10,000 "
            "test images, of one seed with the 95 % interval; the other columns: of the number "
            "of test images that stands with the command, the same for every model. *Corrupted*: "
            "mean over nineteen corruptions at five severities; *adapted*: the same with "
            "batch-norm statistics re-estimated on each of them (transductive); *views*: the "
            "mean over six mirrored and shifted views of each corrupted image. Of several seeds, "
            "time and images/s are those of the first that had most cores, the peak memory is "
            "that of the last; those of an ensemble are without its members' trainings. The first "
            "seeds' commands, with the date and machine of the time:",
            "",
            *commands,
        ]
    )


def gpu_table() -> str:
    """Return the table of what ran on a GPU, with its commands."""
    champions, race = _champions(), read_stored(RESULTS / "time_to_75.json")
    machine = champions[0]["machine"]
    return "\n".join(
        [
            "| model | clean | corrupted | adapted | training |",
            "| --- | --- | --- | --- | --- |",
            *(_line(row) for record in champions for row in _champion_rows(record)),
            *(_line(row) for row in _race_rows(race)),
            "",
            f"On one {machine['gpu']}, torch {machine['torch']}, in percent, mean ± standard "
            "deviation over several seeds. *Clean*: all test images; *corrupted* and *adapted*: as "
            f"above, of {_numbers_of_images(champions)} test images, after "
            "training on other images under the same nineteen corruptions (track `open`). "
            "Commands:",
            "",
            *(f"- `{_champion_command(record)}` ({record['date']})" for record in champions),
            f"- `{race['command']}`",
        ]
    )


def _champions() -> list[dict[str, Any]]:
    """Return the champion's trainings of the track `open`, oldest first."""
    stored = read_stored(RESULTS / "champion.json").values()
    return sorted((r for r in stored if r["track"] == "open"), key=lambda record: record["date"])


def _numbers_of_images(champions: list[dict[str, Any]]) -> str:
    """Return on how many distorted images each network was judged: `1,000 (a) and 4,000 (b)`."""
    networks: dict[int, dict[str, None]] = {}  # names in their order, each once
    for record in champions:
        name = f"`{record['recipe']['model']['architecture']}`"
        networks.setdefault(record["images"]["distorted"], {})[name] = None
    return " and ".join(f"{count:,} ({', '.join(names)})" for count, names in networks.items())


def _champion_rows(record: dict[str, Any]) -> list[list[str]]:
    seconds = [training["wall_seconds"] for training in record["trainings"]]
    seeds, mean = len(seconds), statistics.mean(seconds)
    each = "" if seeds == 1 else " per seed"
    cost = f"{mean:.0f} s{each} for {record['recipe']['training']['epochs']} epochs"
    architecture = record["recipe"]["model"]["architecture"]
    track = f"track `{record['track']}`"
    title = f"`champion` (`{architecture}`, {track}, {seeds} seed{'s' if seeds > 1 else ''})"
    judged = [(title, record["members"], cost)]
    if record["ensemble"]:
        spent = f"{seeds} of them, {sum(seconds) / 60:.1f} min"
        judged.append((f"Ensemble of these {seeds}", [record["ensemble"]], spent))
    rows = []
    for name, members, spent in judged:
        for views, plain, adapted in (
            ("", "plain", "batch_norm"),
            (", mean over six views", "tta", "batch_norm_tta"),
        ):
            figures = [(plain, "clean"), (plain, "corrupted"), (adapted, "corrupted")]
            cells = [
                spread([100 * one[method][kind] for one in members])
                if method in members[0]
                else DASH
                for method, kind in figures
            ]
            rows.append([f"{name}{views}", *cells, spent])
    return rows


def aims_table() -> str:
    """Return how far the recipes of `express_large` are from the champion's aims, in percent."""
    records = _large_champions()
    titles = [title for record in records for title in _columns_of(record)]
    rows = [f"| | aim | {' | '.join(titles)} |", "| --- | --: |" + " --: |" * len(titles)]
    for title, aim, method, kind in (
        ("clean test images", "82", "plain", "clean"),
        ("nineteen corruptions at five severities, plainly", "76", "plain", "corrupted"),
        ("the same over six views", DASH, "tta", "corrupted"),
        ("the same adapted, over six views", "79", "batch_norm_tta", "corrupted"),
    ):
        cells = [
            spread([100 * one[method][kind] for one in judged]) if method in judged[0] else DASH
            for record in records
            for judged in _columns_of(record).values()
        ]
        rows.append(f"| {title} | {aim} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _columns_of(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return what was judged, by title: the networks, and, if there are several, all as one."""
    columns = {f"{_recipe_in_short(record)}: one network": record["members"]}
    if record["ensemble"]:
        columns[f"{len(record['seeds'])} as one"] = [record["ensemble"]]
    return columns


def _large_champions() -> list[dict[str, Any]]:
    return [r for r in _champions() if r["recipe"]["model"]["architecture"] == "express_large"]


def _recipe_in_short(record: dict[str, Any]) -> str:
    training = record["recipe"]["training"]
    parts = [f"{training['epochs']} epochs", f"decay {training['optimizer']['weight_decay']:g}"]
    if training["augmentation"]["cutmix_alpha"]:
        parts.append("CutMix")
    if training["averaging"]["name"] == "ema":
        parts.append("EMA")
    return ", ".join(parts)


def unfinished_table() -> str:
    """Return what was not judged to the end beside what was, by the corruptions they share."""
    unfinished = read_stored(RESULTS / "champion_unfinished.json").values()
    adapted = [
        record
        for record in _large_champions()
        if record["ensemble"] and "batch_norm_tta" in record["members"][0]
    ]
    records = [*adapted, *unfinished]
    for record in unfinished:
        sets, count = record["sets"], len(record["seeds"])
        record["members"] = [accuracies(sets, number) for number in range(count)]
        record["ensemble"] = accuracies(sets, None)
    judged_by = [record["ensemble"]["plain"]["per_corruption"] for record in records]
    names = [name for name in judged_by[0] if all(name in one for one in judged_by)]
    rows = [
        f"| | clean | {len(names)} corruptions | over six views | adapted, over six views |",
        "| --- | --: | --: | --: | --: |",
    ]
    for record in records:
        recipe, members = _recipe_in_short(record), record["members"]
        for title, judged in (
            (f"{recipe}, mean of {len(members)} seeds", members),
            (f"{recipe}, ensemble of {len(members)}", [record["ensemble"]]),
        ):
            cells = [spread([100 * one["plain"]["clean"] for one in judged])]
            for method in ("plain", "tta", "batch_norm_tta"):
                means = [
                    statistics.mean(one[method]["per_corruption"][name] for name in names)
                    for one in judged
                ]
                cells.append(spread([100 * mean for mean in means]))
            rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _command(record: dict[str, Any]) -> str:
    """Return the command of a run, or what it would be since its environment has changed."""
    command: str = record.get("command_today", record["command"])
    return command


def _champion_command(record: dict[str, Any]) -> str:
    """Return the command that trains by this recipe today, whatever the recipe is by now."""
    model, training = read_recipe("base", [])
    now = dict(leaves({"model": model.model_dump(), "training": training.model_dump(mode="json")}))
    changed = [
        shlex.quote(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
        for name, value in leaves(record["recipe"])
        if name != "training.seed" and now[name] != value
    ]
    return " ".join(
        [_without_changes(record["command"]), *(["--set", *changed] if changed else [])]
    )


def _without_changes(command: str) -> str:
    """Return a command without `--set` and its values: those that the recipe of today has."""
    options = re.split(r" (?=--)", command)
    return " ".join(option for option in options if not option.startswith("--set "))


def _race_rows(record: dict[str, Any]) -> list[list[str]]:
    summary, epochs = record["summary"], record["recipe"]["training"]["epochs"]
    training = summary["mean_seconds"]
    rows = []
    for way, title, seconds in (
        ("plain", "", training),
        (
            "views",
            ", mean over six views, its time included",
            training + summary["mean_views_seconds"],
        ),
    ):
        accuracy = spread([100 * run[f"{way}_accuracy"] for run in record["runs"]])
        name = f"`express`, {epochs} epochs ({summary['runs']} seeds){title}"
        rows.append([name, accuracy, DASH, DASH, f"{seconds:.1f} s in all"])
    return rows


def _real_row(row: Row, records: list[dict[str, Any]]) -> list[str]:
    cost = [DASH, DASH]
    if records:
        run = timed(records)
        training = run["models"][row.model]["training"]
        cost = [
            DASH
            if row.members
            else f"{training['epochs']} epochs, {training['images_per_second']:,.0f} images/s",
            f"{_minutes(run)}, {records[-1]['peak_memory_gb']:.1f} GB",
        ]
    return [row.title, *_known(row), *_accuracies(row, records), *cost]


def _known(row: Row) -> list[str]:
    return [row.report or DASH, row.public or DASH]


def _accuracies(row: Row, records: list[dict[str, Any]]) -> list[str]:
    """Return top-1, top-5, and top-1 under corruptions: plain, adapted and over views."""
    if not records:
        return ["not measured", DASH, DASH, DASH, DASH]
    metrics = [record["models"][row.model]["metrics"] for record in records]
    judged = [
        record["models"][row.model]["robustness"]
        for kind in JUDGED
        for record in records_of(f"{row.name}_{kind}")
    ]
    methods = [_comparable(one, judged[0]) for one in judged]
    return [
        f"**{_test_accuracy(metrics)}**",
        spread([100 * values["test_top5_accuracy"] for values in metrics], 1),
        *(_corrupted(methods, method, len(records)) for method in ("plain", "batch_norm", "tta")),
    ]


def _comparable(robustness: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Return a seed's methods, without adapted ones of other mixing weights than the first's."""

    def weights(adaptation: dict[str, Any]) -> Any:
        return sorted(adaptation["candidates"]) or adaptation["source_weight"]

    alike = weights(robustness["adaptation"]) == weights(first["adaptation"])
    return {
        name: method
        for name, method in robustness["methods"].items()
        if alike or not method["transductive"]
    }


def _minutes(record: dict[str, Any]) -> str:
    return f"{record['wall_seconds'] / 60:.1f} min"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _test_accuracy(metrics: list[dict[str, float]]) -> str:
    accuracies = [100 * values["test_accuracy"] for values in metrics]
    mean = spread(accuracies)
    if len(accuracies) > 1:
        return f"{mean} ({len(accuracies)} seeds)"
    low, high = (100 * metrics[0][f"test_accuracy_{side}"] for side in ("low", "high"))
    return f"{mean} ({low:.1f} to {high:.1f})"


def _corrupted(measured: list[dict[str, Any]], method: str, seeds: int) -> str:
    """Return a method's accuracy on corrupted test images; say of how many seeds if not of all."""
    values = [
        100 * methods[method]["test"]["mean_corruption_accuracy"]
        for methods in measured
        if method in methods
    ]
    if not values:
        return DASH
    few = "" if len(values) == seeds else f" ({len(values)} seed{'s' if len(values) > 1 else ''})"
    return spread(values, 1) + few


def records_of(name: str) -> list[dict[str, Any]]:
    """Return the runs NAME, NAME_seed1, NAME_seed2, …, as far as they are stored."""
    files = [RUNS / f"{name}.json", *sorted(RUNS.glob(f"{name}_seed*.json"))]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def timed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run whose time speaks for all seeds: the first of those that had most cores."""
    return max(records, key=lambda record: record["machine"].get("threads", 0))


def _circumstances(runs: list[dict[str, Any]], model: str) -> list[str]:
    """Say when and where a run was made, how many like it there are, and on what."""
    run = timed(runs)
    robustness = runs[0]["models"][model].get("robustness")
    return [
        run["date"],
        machine_of(run),
        *([f"{len(runs)} seeds"] if len(runs) > 1 else []),
        *([f"{robustness['test_images']:,} test images"] if robustness else []),
    ]
