"""The report page and the model card: sentences from numbers, and a page that a browser shows."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifar100_transfer.evaluation import figures
from cifar100_transfer.evaluation.metrics import time_to_accuracy
from cifar100_transfer.evaluation.report import (
    Report,
    amount,
    calibration_sentence,
    duration,
    headline,
    overfitting_sentence,
    overfitting_verdict,
    pair_sentences,
    percent,
    render_model_card,
    render_report,
    settings_table,
    shift_sentences,
    time_sentences,
    trained_on_others,
    transfer_sentences,
    tuning_sentences,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
METRICS = {
    "train_accuracy": 0.9,
    "validation_accuracy": 0.62,
    "test_accuracy": 0.6,
    "test_accuracy_low": 0.55,
    "test_accuracy_high": 0.65,
    "test_top5_accuracy": 0.8,
    "test_coarse_accuracy": 0.7,
    "test_macro_f1": 0.59,
    "test_loss": 1.5,
    "test_loss_calibrated": 1.25,
    "test_ece": 0.12,
    "test_ece_calibrated": 0.02,
    "temperature": 1.5,
}


def history(accuracies: list[float], seconds: float) -> pd.DataFrame:
    values = np.array(accuracies)
    return pd.DataFrame(
        {
            "epoch": np.arange(1, len(values) + 1),
            "train_loss": 2 - values,
            "train_accuracy": values,
            "validation_loss": 2.5 - values,
            "validation_accuracy": values,
            "seconds": seconds,
        }
    )


def model(pretrained: bool = False, **changes: Any) -> dict[str, Any]:
    results: dict[str, Any] = {
        "run": "2024-01-01T00.00.00.000Z",
        "metrics": METRICS,
        "summary": {
            "architecture": "resnet18",
            "parameters": 11_227_812,
            "flops": 74_000_000,
            "epochs": 3,
            "best_epoch": 2,
            "seconds": 30.0,
            "images_per_second": 100.0,
            "device": "cpu",
            "train_images": 800,
            "validation_images": 200,
            "recipe": {
                "model": {"architecture": "resnet18", "pretrained": pretrained, "dropout": None},
                "training": {
                    "optimizer": {"name": "adam", "momentum": 0.9},
                    "schedule": {"name": "step", "gamma": 0.1, "warmup_share": 0.25},
                    "label_smoothing": 0.0,
                    "augmentation": {"flip": True},
                },
            },
        },
        "history": history([0.2, 0.6, 0.5], 10.0),
        "robustness": None,
        "search": None,
        "manifest": None,
        "pictures": {},
    }
    return results | changes


def report_of(models: dict[str, dict[str, Any]], p_value: float = 0.2) -> Report:
    names = list(models)
    table = pd.DataFrame(
        [
            {
                "model": name,
                **{k: v for k, v in m["summary"].items() if k != "recipe"},
                **m["metrics"],
                "corrupted_accuracy": None,
                "train_test_gap": 0.3,
                "validation_test_gap": 0.02,
            }
            for name, m in models.items()
        ]
    )
    pairs = [
        {
            "first": names[0],
            "second": other,
            "accuracy_difference": 0.015,
            "first_only": 1040,
            "second_only": 890,
            "p_value": p_value / 2,
            "p_corrected": p_value,
        }
        for other in names[1:]
    ]
    histories = {name: m["history"] for name, m in models.items()}
    counts = pd.DataFrame(
        {
            "set": ["train", "validation", "test"],
            **{"class": "a", "coarse_class": "", "images": [800, 200, 1000]},
        }
    )
    return Report(
        models=models,
        table=table,
        times=time_to_accuracy(histories),
        significance=pd.DataFrame(pairs),
        class_counts=counts,
        sample_grid=b"grid",
        accuracy_figure=b"accuracy",
        curves_figure=b"curves",
        cost_figure=b"cost",
    )


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_headline_names_the_best_its_interval_and_the_lead() -> None:
    first, second = model(), model(metrics={**METRICS, "test_accuracy": 0.4})

    both = plain(headline(report_of({"good": first, "poor": second}).table))
    alone = plain(headline(report_of({"only": first}).table))

    assert both.startswith(
        "Of 2 models good is the most accurate: it recognises 60.0 % of the test images "
        "(95 % interval 55.0 % to 65.0 %)."
    )
    assert both.endswith("poor, the last, recognises 40.0 %, 20.0 points less.")
    assert alone == ("only recognises 60.0 % of the test images (95 % interval 55.0 % to 65.0 %).")


def test_a_headline_knows_equals() -> None:
    behind = model(metrics={**METRICS, "test_accuracy": 0.4})
    two = plain(headline(report_of({"a": model(), "b": model(), "c": behind}).table))
    assert two.startswith("Of 3 models a and b are the most accurate: each recognises 60.0 % of")
    all_of_them = plain(headline(report_of({"a": model(), "b": model()}).table))
    assert all_of_them.startswith("All 2 models are as accurate: each recognises 60.0 % of the")


@pytest.mark.parametrize(
    ("p_value", "said"),
    # Before the correction it is half of that.
    [
        (0.2, "may be chance"),
        (0.08, "may be chance"),
        (0.049, "more than chance"),
        (1e-9, "McNemar p < 0.001"),
    ],
)
def test_a_difference_is_called_chance_by_its_p_value(p_value: float, said: str) -> None:
    (sentence,) = pair_sentences(report_of({"a": model(), "b": model()}, p_value))

    assert said in sentence
    assert "1.5 points" in plain(sentence)
    assert "1,040 images only the former got right, 890 only the latter" in sentence


def test_models_of_another_ingestion_are_named() -> None:
    other, ensemble = model(), model()
    other["summary"] = {**other["summary"], "train_images": 1200}
    del ensemble["summary"]["train_images"]
    ensemble["summary"]["validation_images"] = 150
    report = report_of({"alike": model(), "other": other, "ensemble": ensemble})
    assert list(trained_on_others(report)) == [
        "other had 1,200 train images: it was trained after another ingestion.",
        "ensemble had 150 validation images: it was trained after another ingestion.",
    ]
    page = render_report(report)
    assert "1,200 train images: it was trained" in page
    assert "<th>training images</th><td>800</td><td>1,200</td><td>\N{EN DASH}</td>" in page


def test_transfer_is_compared_with_the_same_network_from_scratch() -> None:
    other = model()
    other["summary"] = {**other["summary"], "architecture": "simple_cnn"}
    scratch = model(metrics={**METRICS, "test_accuracy": 0.65})

    (sentence,) = transfer_sentences(
        report_of({"tuned": model(pretrained=True), "scratch": scratch, "other": other})
    )

    assert "tuned and scratch are the same network, resnet18" in sentence
    assert "loses 5.0 points" in plain(sentence)


def test_what_else_differs_is_said_beside_the_gain_of_transfer() -> None:
    tuned, scratch = model(pretrained=True), model()
    training = scratch["summary"]["recipe"]["training"]
    training |= {"label_smoothing": 0.1, "seed": 1}
    tuned["summary"]["recipe"]["model"]["dropout"] = 0.3

    (sentence,) = transfer_sentences(report_of({"tuned": tuned, "scratch": scratch}))

    assert (
        "pretrained weights instead of random ones, and training it with another dropout and "
        "label smoothing, gains 0.0 points" in plain(sentence)
    )


def test_times_are_told_as_sooner_later_or_never() -> None:
    models = {
        "best": model(),
        "slow": model(history=history([0.1, 0.2], 100.0)),
        "quick": model(history=history([0.6], 5.0)),
        "better": model(history=history([0.7], 5.0)),
    }

    sooner, later, never = map(plain, time_sentences(report_of(models)))

    assert sooner == (
        "best reaches slow's best validation accuracy (20.0 %) after 1 epoch and 10.0 seconds: "
        "20.0 times sooner than slow (2 epochs, 3.3 minutes)."
    )
    assert later.startswith("best reaches quick's best validation accuracy (60.0 %) after 2 epochs")
    assert later.endswith("4.0 times later than quick (1 epoch, 5.0 seconds).")
    assert never == "best never reaches better's best validation accuracy (70.0 %)."


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [(0.3, "strong"), (0.05, "some"), (0.0, "hardly any"), (-0.1, "no sign")],
)
def test_a_gap_is_put_into_words(gap: float, verdict: str) -> None:
    assert verdict in overfitting_verdict(gap)


def test_overfitting_says_when_the_validation_loss_turned() -> None:
    turned = overfitting_sentence("m", model())
    falling = overfitting_sentence("m", model(history=history([0.1, 0.2], 1.0)))
    flat = history([0.1, 0.2, 0.2], 1.0).assign(validation_loss=[0.2, 0.1, 0.102])
    stayed = plain(overfitting_sentence("m", model(history=flat)))

    assert "a gap of 30.0 points: strong overfitting" in plain(turned)
    assert "lowest in epoch 2 of 3 and rose by 0.10 nats" in turned
    assert stayed.endswith("lowest in epoch 2 of 3 and stayed there.")
    assert falling.endswith("Its validation loss was lowest in the last epoch.")
    assert overfitting_sentence("m", model(history=history([0.1], 1.0))).endswith("overfitting.")


@pytest.mark.parametrize(
    ("temperature", "said"), [(1.5, "less sure"), (0.7, "surer"), (1.0, "changes little")]
)
def test_calibration_tells_the_manner_by_the_temperature(temperature: float, said: str) -> None:
    sentence = plain(calibration_sentence("m", {**METRICS, "temperature": temperature}))

    assert said in sentence
    assert "12.0 points apart" in sentence
    assert "leaves 2.0 points, and takes the loss from 1.500 to 1.250 nats" in sentence


def test_older_results_without_a_temperature_are_told_too() -> None:
    older = {k: v for k, v in METRICS.items() if k != "temperature"}
    assert calibration_sentence("m", older).endswith("apart on average.")


def test_shift_and_tuning_are_told_where_known() -> None:
    robustness = {
        "test_images": 1000,
        "methods": {
            "batch_norm": {
                "transductive": True,
                "test": {"mean_corruption_accuracy": 0.4, "clean_accuracy": 0.6},
            }
        },
    }
    search = {
        "trials": {"complete": 3, "failed": 1},
        "settings": ["training.epochs"],
        "best_settings": {"training.epochs": 9},
        "best_validation_accuracy": 0.5,
    }
    shifted_search = {"judged_by": "corrupted_accuracy", "best_corrupted_accuracy": 0.3}
    models = {
        "a": model(robustness=robustness, search=search),
        "b": model(),
        "c": model(search={**search, **shifted_search}),
    }

    (shifted,), (tuned, tuned_for_shift) = shift_sentences(models), tuning_sentences(models)

    assert plain(shifted) == (
        "a (batch norm, transductive): 40.0 % on average over all corruptions of 1,000 test "
        "images, 60.0 % without corruption."
    )
    assert plain(tuned) == (
        "a: 4 trials over training.epochs. Best: training.epochs = 9, with 50.0 % of the "
        "validation images."
    )
    assert plain(tuned_for_shift).endswith("with 30.0 % of the corrupted validation images.")


def test_settings_at_their_defaults_are_left_out_and_unused_ones_dashed() -> None:
    own, older = model(), model()
    own["summary"]["recipe"]["training"]["schedule"]["gamma"] = 0.5
    older["summary"] = {**older["summary"], "recipe": {}}

    table = dict(settings_table({"own": own, "older": older}))

    assert table["schedule: gamma"] == ["0.5", "–"]  # noqa: RUF001
    assert table["augmentation: flip"] == ["yes", "–"]  # noqa: RUF001
    assert table["dropout"] == ["–", "–"]  # noqa: RUF001
    assert not {"optimizer: momentum", "schedule: warmup share"} & set(table)
    assert "schedule: gamma" not in dict(settings_table({"at its default": model()}))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (percent(None), "–"),  # noqa: RUF001
        (duration(None), "–"),  # noqa: RUF001
        (amount(float("nan")), "–"),  # noqa: RUF001
        (duration(7200), "2.0 hours"),
        (duration(119.9), "119.9 seconds"),
        (amount(820_000), "820 k"),
        (amount(4.1e9), "4.1 G"),
        (amount(12), "12"),
        (amount(999), "999"),
        (amount(999.6), "1 k"),
        (amount(999_499), "999 k"),
        (amount(999_999), "1 M"),
        (amount(999_999_999), "1 G"),
        (amount(1e12), "1 T"),
        (amount(1.2e13), "12 T"),
    ],
)
def test_numbers_are_written_for_people(written: str, text: str) -> None:
    assert plain(written) == text


def test_model_card_names_figures_recipe_and_the_hardest_classes() -> None:
    per_class = pd.DataFrame(
        {
            "class": ["apple_tree", "bee", "cat"],
            "support": [10, 10, 0],
            "recall": [0.9, 0.1, np.nan],
            "mistaken_for": ["", "apple_tree", ""],
        }
    )
    spec = {"class_names": ("a",) * 3, "mean": (0.5,) * 3, "std": (0.25,) * 3, "input_size": (8, 8)}

    card = plain(
        render_model_card("mine", spec, METRICS, model(pretrained=True)["summary"], per_class)
    )

    assert card.startswith("# mine\n")
    assert "trained from pretrained weights" in card
    assert "test accuracy (20 images) | 60.0 % (95 % interval 55.0 % to 65.0 %)" in card
    assert "Hardest classes: bee (10.0 %, most often taken for apple tree), apple tree" in card
    assert "| augmentation: flip | yes |" in card
    assert "800 training images; 200 validation images chose the epoch (2 of 3)" in card
    assert "{{" not in card
    assert "None" not in card


def test_the_page_needs_nothing_from_elsewhere_and_names_are_escaped(tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    picture.write_bytes(b"png")
    manifest = {"git": {"commit": "0123456789abcdef", "dirty": True}}
    models = {
        "a<b>": model(
            pictures={"confusion_matrix": picture, "reliability_diagram": picture},
            manifest=manifest,
        ),
        "c": model(),
    }

    page = render_report(report_of(models))

    assert "a&lt;b&gt;" in page
    assert "<b>" not in re.sub(r"<b>[\d.]+\s?%</b>", "", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in page
    anchors = {source[1:] for source in sources if source.startswith("#")}
    assert anchors == set(re.findall(r'<h2 id="(\w+)"', page))
    assert "<code>0123456789</code> with uncommitted changes" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_the_page_without_errors_or_sideways_scrolling(
    tmp_path: Path, width: int
) -> None:
    models = {f"a_model_with_a_long_name_{k}": model() for k in range(4)}
    report = report_of(models)
    png = tmp_path / "figure.png"
    figures.comparison(report.table).savefig(png)
    drawn = png.read_bytes()
    page = render_report(
        Report(
            **{
                **vars(report),
                **dict.fromkeys(
                    ("sample_grid", "accuracy_figure", "curves_figure", "cost_figure"), drawn
                ),
            }
        )
    )
    # The page itself reports what a reader would see go wrong.
    probe = """<script>addEventListener("load", () => {
      document.querySelectorAll("details").forEach(d => d.open = true);
      const pictures = [...document.images];
      const broken = pictures.filter(p => !p.naturalWidth).length;
      const root = document.documentElement;
      root.dataset.probe = `pictures ${pictures.length} broken ${broken} ` +
        `sideways ${root.scrollWidth > root.clientWidth}`;
    });</script>"""
    page = page.replace(' loading="lazy"', "").replace("</body>", probe + "</body>")
    html = tmp_path / "report.html"
    html.write_text(page, encoding="utf-8")

    done = _browse(tmp_path, html, width, "--dump-dom", "--enable-logging=stderr")
    (seen,) = re.findall(r'data-probe="([^"]*)"', done.stdout)
    assert seen == "pictures 4 broken 0 sideways false"
    assert not re.findall(r"CONSOLE.*", done.stderr)

    _browse(tmp_path, html, width, f"--screenshot={tmp_path / 'shot.png'}")
    with Image.open(tmp_path / "shot.png") as shot:
        assert shot.width == width
        assert len(shot.convert("RGB").getcolors(1 << 24) or []) > 50, "the page is empty"


def _browse(
    folder: Path, html: Path, width: int, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--hide-scrollbars", "--virtual-time-budget=5000"),
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            *arguments,
            html.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
