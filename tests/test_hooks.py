"""What stops a run before it starts, and how it says so."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks.specs import NodeSpecs
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline.node import Node
from pluggy import PluginManager

from cifar100_transfer import hooks, parameter_checks, settings
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipeline_registry import MODELS, register_pipelines

ROOT = Path(__file__).resolve().parent.parent
REGISTERED = register_pipelines()
EVERYTHING = [node for pipeline in REGISTERED.values() for node in pipeline.nodes]
SEARCH = {"space": [{"parameter": "training.epochs", "values": [1]}]}
ABLATION = {"changes": [{"name": "short", "set": {"training.epochs": 1}}]}
VALUES: dict[str, Any] = {
    "compute": {"device": "cpu"},
    "split": {"validation_share": 0.2, "seed": 0},
    "robustness": {"images": 20},
    "submission": {"method": "tta"},
    "comparison": {"all_runs": False},
    "ensemble": {"members": ["simple_cnn"]},
    "screening": {"architectures": ["simple_cnn"]},
    **{
        model: {
            "model": {"architecture": "simple_cnn"},
            "training": {"epochs": 2},
            "search": SEARCH,
            "ablation": ABLATION,
        }
        for model in MODELS
    },
    "pretraining": {
        "model": {"architecture": "simple_cnn"},
        "training": {"epochs": 2},
        "split": {"validation_share": 0.2},
    },
}


def nowhere(path: str) -> str:
    return "conf/x.yml"


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return a copy of VALUES with the value at a dotted path set."""
    first, _, rest = path.partition(".")

    def put(group: dict[str, Any], path: str) -> dict[str, Any]:
        name, _, rest = path.partition(".")
        return {**group, name: put(group.get(name, {}), rest) if rest else value}

    return {**VALUES, first: put(VALUES.get(first, {}), rest) if rest else value}


def check(values: dict[str, Any], selected: list[Node] = EVERYTHING) -> None:
    parameter_checks.check_names(values, REGISTERED, nowhere)
    parameter_checks.check_values(values, REGISTERED, nowhere, selected)


def test_the_shipped_shape_of_parameters_is_accepted() -> None:
    check(VALUES)


@pytest.mark.parametrize("name", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:15"])
def test_devices_are_accepted(name: str) -> None:
    check(changed("compute.device", name))


@pytest.mark.parametrize("name", ["raw_data", "weights"])
def test_parameters_that_only_the_catalog_reads_are_known(name: str) -> None:
    check(changed(name, "/somewhere"))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("simple_cn.training.epochs", 3, "did you mean simple_cnn.training.epochs"),
        ("simple_cnn.training.epoch", 3, "did you mean simple_cnn.training.epochs"),
        ("transfer.training.optimizer.nam", "sgd", "transfer.training.optimizer.name"),
        ("epochs", 3, "no parameter is called 'epochs'"),
        ("raw_dat", "x", "did you mean raw_data?"),
        ("simple_cnn.trainin.epochs", 3, "did you mean simple_cnn.training.epochs"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_ones(
    path: str, value: Any, said: str
) -> None:
    with pytest.raises(UserError, match="no parameter is called") as raised:
        check(changed(path, value))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("simple_cnn.training.epochs", 0, "simple_cnn.training.epochs=0: input should be greater"),
        ("simple_cnn.training.epochs", "many", "simple_cnn.training.epochs='many': input should"),
        ("split.validation_share", 1.5, "split.validation_share=1.5"),
        (
            "ensemble.members",
            "a",
            "ensemble.members='a': give a list, such as 'ensemble.members=[…]'",
        ),
        *(
            ("compute.device", name, f"compute.device={name!r}: use auto, cpu, mps, cuda or cuda:N")
            for name in ("gpu", "cuda:", "cuda:-1", "cuda:0 ", "")
        ),
    ],
)
def test_a_wrong_value_is_refused_with_place_name_value_and_rule(
    path: str, value: Any, said: str
) -> None:
    with pytest.raises(UserError) as raised:
        check(changed(path, value))
    assert said in str(raised.value)
    assert "conf/x.yml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_several_devices_that_are_one_gpu_are_refused() -> None:
    with pytest.raises(UserError) as raised:
        check(changed("compute", {"device": "cuda:2", "devices": 2}))
    said = "compute.devices=2: several devices are the first GPUs, not cuda:2: set device to cuda"
    assert said in str(raised.value)
    check(changed("compute", {"device": "cuda:2", "devices": 1}))
    check(changed("compute", {"device": "cuda", "devices": 2}))


@pytest.mark.parametrize(
    ("env", "given", "refused"),
    [
        ("sample", "raw_data", True),
        ("sample", "weights", True),
        ("sample", "challenge_data", True),
        ("sample", "images", False),
        ("sample", "studies", False),
        ("base", "image_size", True),
        ("base", "raw_data", False),
        ("folder", "image_size", False),
        ("base", "test_share", True),
        ("folder", "test_share", False),
        ("squeezenet", "weights", False),
    ],
)
def test_what_the_environment_has_no_use_for_is_refused(
    env: str, given: str, refused: bool
) -> None:
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env=env, runtime_params={given: "7"}) as session:
        if not refused:
            session.load_context()
            return
        with pytest.raises(UserError) as raised:
            session.load_context()
        assert f"--params: {given}=7: no catalog entry takes it with --env={env}" in str(
            raised.value
        )


def test_a_leading_tilde_is_the_home_folder_in_paths_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bootstrap_project(ROOT)
    given = {"raw_data": "~/data", "model": "~", "images": "cats~dogs"}
    with KedroSession.create(ROOT, runtime_params=given) as session:
        catalog = session.load_context().config_loader["catalog"]
    assert catalog["cifar100_raw"]["filepath"] == str(tmp_path / "data")
    assert catalog["own_pictures"]["filepath"] == "cats~dogs"
    assert "~/" in catalog["chosen_classifier"]["filepath"]


def test_a_leading_tilde_is_the_home_folder_in_globals_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (tmp_path / "conf/local").mkdir()
    (tmp_path / "conf/local/globals.yml").write_text(
        "data_root: ~/made\nraw_data: ~/raw\nweights: ~/own.pth\n"
    )
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, conf_source=str(tmp_path / "conf")) as session:
        context = session.load_context()
        catalog = context.config_loader["catalog"]
        stored = context.catalog.get("train_set")
    assert catalog["cifar100_raw"]["filepath"] == str(tmp_path / "home/raw")
    assert catalog["pretrained_weights"]["weights"] == str(tmp_path / "home/own.pth")
    assert str(stored.path).startswith(str(tmp_path / "home/made/"))


def test_what_hooks_take_and_a_catalog_that_cannot_be_read_are_let_through() -> None:
    entries = {"images": {"filepath": "${runtime_params:raw_data,x}"}}
    parameter_checks.check_takers(
        {"mlflow": "x", "tensorboard": "x", "raw_data": "x"}, entries, "e"
    )
    parameter_checks.check_takers({"weights": "x"}, {}, "e")
    with pytest.raises(UserError, match="weights=x"):
        parameter_checks.check_takers({"weights": "x"}, entries, "e")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"raw_data": None}, "--params: raw_data=: nothing is given"),
        ({"images": 5}, "--params: images=5: for a file or folder give ./5"),
        ({"tensorboard": True}, "--params: tensorboard=True: "),
    ],
)
def test_what_the_catalog_cannot_take_is_refused(given: dict[str, Any], said: str) -> None:
    parameter_checks.check_texts({"image_size": 5, "test_share": 0.3, "raw_data": Path("DIR")})
    bootstrap_project(ROOT)
    with (
        KedroSession.create(ROOT, runtime_params=given) as session,
        pytest.raises(UserError, match=said),
    ):
        session.load_context()


def test_a_value_for_a_group_is_called_that() -> None:
    with pytest.raises(UserError, match=r"simple_cnn\.model=5: this is a group of parameters"):
        check(changed("simple_cnn.model", 5))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("catalog.yml", "a: [b", r"local/catalog\.yml is no YAML"),
        ("catalog.yml", "- a", r"local/catalog\.yml holds a list instead of names"),
        ("catalog.yml", "a: {type: x.Y, filepath: '${globals:nothing}'}", "configuration in conf/"),
        ("parameters.yml", "5", r"local/parameters\.yml holds a int"),
        ("globals.yml", "a: [b", r"can't be read: .*local/globals\.yml"),
    ],
)
def test_faults_of_private_configuration_are_one_line(
    tmp_path: Path, file: str, text: str, said: str
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (tmp_path / "conf/local").mkdir()
    (tmp_path / "conf/local" / file).write_text(text)
    bootstrap_project(ROOT)
    with (
        KedroSession.create(ROOT, conf_source=str(tmp_path / "conf")) as session,
        pytest.raises(UserError, match=said) as raised,
    ):
        session.load_context()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("env", ["base", "quick"])
@pytest.mark.parametrize("name", ["parameters_training.yml", "globals.yml"])
@pytest.mark.parametrize("text", [b"a: [b\n", b"a: \xff\n", b"data_root: a\ndata_root: b\n"])
def test_faults_of_an_environments_files_are_one_line(
    tmp_path: Path, env: str, name: str, text: bytes
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    file = tmp_path / "conf" / env / name
    file.write_bytes(file.read_bytes() + text)
    bootstrap_project(ROOT)
    chosen = None if env == "base" else env
    with (
        KedroSession.create(ROOT, env=chosen, conf_source=str(tmp_path / "conf")) as session,
        pytest.raises(UserError, match=r"is no YAML|can't be read") as raised,
    ):
        session.load_context()
    assert "\n" not in str(raised.value)


def test_an_archive_of_configuration_that_is_cut_is_refused(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.tar.gz", tmp_path / "conf.tar.gz"
    with tarfile.open(whole, "w:gz") as archive:
        archive.add(ROOT / "conf", "conf")
    cut.write_bytes(whole.read_bytes()[:1000])
    bootstrap_project(ROOT)
    with (
        KedroSession.create(ROOT, conf_source=str(cut)) as session,
        pytest.raises(UserError, match="configuration in conf/ can't be read"),
    ):
        session.load_context()


def test_packed_configuration_is_checked_like_a_folder(tmp_path: Path) -> None:
    packed = tmp_path / "conf.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(ROOT / "conf", "conf")
    bootstrap_project(ROOT)
    given = {"raw_data": "DIR"}
    with (
        KedroSession.create(
            ROOT, env="sample", conf_source=str(packed), runtime_params=given
        ) as session,
        pytest.raises(UserError, match="raw_data=DIR: no catalog entry takes it with --env=sample"),
    ):
        session.load_context()


def test_the_keys_of_a_dictionary_are_data() -> None:
    check(changed("simple_cnn.ablation.base", {"training.epochs": 1}))
    with pytest.raises(UserError, match=r"simple_cnn\.ablation\.base"):
        check(changed("simple_cnn.ablation.base", {"training.epochs": [1]}))


@pytest.mark.parametrize("block", ["search", "ablation"])
def test_a_model_needs_a_block_for_tuning_only_to_be_tuned(block: str) -> None:
    pipeline = {"search": "tuning", "ablation": "ablation"}[block]
    without = changed(f"express.{block}", None)
    check(without, REGISTERED["express"].nodes)
    check(without, REGISTERED[pipeline].filter(node_namespaces=["champion"]).nodes)
    with pytest.raises(UserError, match=f"'express.{block}' is missing: .* --namespaces"):
        check(without, REGISTERED[pipeline].nodes)


def test_parameters_that_no_node_of_a_run_takes_are_found() -> None:
    given = {
        "raw_data": "DIR",
        "compute": {"device": "cpu"},
        "simple_cnn": {"training": {"epochs": 1}, "ablation": {"base": {"training.epochs": 1}}},
        "transfer": {"training": {"epochs": 7, "optimizer": {"name": "sgd"}}},
        "split": {"seed": 1},
    }
    inputs = REGISTERED["simple_cnn"].inputs()
    assert parameter_checks.without_takers(given, inputs) == [
        "simple_cnn.ablation.base.training.epochs=1",
        "transfer.training.epochs=7",
        "transfer.training.optimizer.name=sgd",
    ]
    assert not parameter_checks.without_takers({"split": {"seed": 1}}, inputs)


def test_raw_data_is_idle_where_images_are_those_that_are_stored() -> None:
    given = {"raw_data": "DIR"}
    for pipeline in ("simple_cnn", "tuning", "prediction"):
        assert not parameter_checks.without_takers(given, REGISTERED[pipeline].inputs()), pipeline
    for pipeline in ("simple_cnn", "tuning", "robustness"):
        alone = REGISTERED[pipeline].filter(node_namespaces=["simple_cnn"])
        assert parameter_checks.without_takers(given, alone.inputs()) == ["raw_data=DIR"]


def test_so_is_what_raw_data_is_brought_to() -> None:
    given = {"image_size": 128, "test_share": 0.3}
    assert not parameter_checks.without_takers(given, REGISTERED["simple_cnn"].inputs())
    alone = REGISTERED["tuning"].filter(node_namespaces=["simple_cnn"])
    said = ["image_size=128", "test_share=0.3"]
    assert parameter_checks.without_takers(given, alone.inputs()) == said


def test_a_model_chosen_in_the_manner_of_another_pipeline_is_refused() -> None:
    chosen = {"model": "simple_cnn"}
    parameter_checks.check_chosen_model(chosen, REGISTERED["prediction"].inputs())
    parameter_checks.check_chosen_model(chosen, REGISTERED["export"].inputs())
    with pytest.raises(UserError, match=r"model=simple_cnn: .* give --namespaces=simple_cnn"):
        parameter_checks.check_chosen_model(chosen, REGISTERED["submission"].inputs())


def test_what_a_hook_takes_is_a_text_in_files_too() -> None:
    for right in ({}, {"mlflow": None}, {"tensorboard": "curves"}):
        parameter_checks.check_hook_parameters(right, nowhere)
    with pytest.raises(UserError, match=r"conf/x.yml: tensorboard=True: give a text"):
        parameter_checks.check_hook_parameters({"tensorboard": True}, nowhere)


def test_a_missing_group_or_value_is_named() -> None:
    without = {name: group for name, group in VALUES.items() if name != "split"}
    with pytest.raises(UserError, match="parameter 'split' is missing"):
        check(without)
    with pytest.raises(UserError, match=r"parameter 'simple_cnn.model.architecture' is missing"):
        check(changed("simple_cnn.model", {"dropout": 0.1}))


@pytest.mark.parametrize(
    "path",
    sorted(parameter_checks.parameter_names(REGISTERED) - set(parameter_checks.CATALOG_PARAMETERS)),
)
def test_every_parameter_refuses_a_wrong_type_and_a_misspelling(path: str) -> None:
    with pytest.raises(UserError) as raised:
        check(changed(path, {"not": ["a", "scalar"]}))
    assert path in str(raised.value)
    with pytest.raises(UserError, match="no parameter is called"):
        check(changed(f"{path}_", 1))


def test_origin_prefers_the_command_line_then_the_environment() -> None:
    origin = parameter_checks.Origin(
        {"conf/mine/p.yml": {"a": {"b": 1}}, "conf/base/p.yml": {"a": {"b": 0, "c": 0}}},
        {"a": {"d": 5}},
    )
    assert origin("a.d") == "--params"
    assert origin("a.b") == "conf/mine/p.yml"
    assert origin("a.c") == "conf/base/p.yml"


def test_origin_of_null_is_where_it_stands() -> None:
    origin = parameter_checks.Origin(
        {"conf/mine/p.yml": {"a": {"b": None}}, "conf/base/p.yml": {"a": {"b": 0, "d": 0}}},
        {"a": {"d": None}},
    )
    assert origin("a.d") == "--params"
    assert origin("a.b") == "conf/mine/p.yml"


def test_errors_elsewhere_than_on_the_command_line_stay_what_they_are() -> None:
    with pytest.raises(UserError, match="mend me"):
        hooks.fail(UserError("mend me"))


def test_other_errors_are_left_alone() -> None:
    hooks.ErrorHooks().on_pipeline_error(RuntimeError("a bug"))


def test_a_user_error_is_found_among_the_causes() -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = UserError("mend me")
    with pytest.raises(UserError, match="mend me"):
        hooks.ErrorHooks().on_pipeline_error(outer)


def test_a_compiler_that_is_missing_is_a_line_that_says_what_to_do() -> None:
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    with pytest.raises(UserError, match=r"compute\.compile=true needs a C\+\+ compiler"):
        hooks.ErrorHooks().on_pipeline_error(InductorError(InvalidCxxCompiler(), None))


def test_memory_that_ends_is_a_line_that_says_what_to_do() -> None:
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes\nat alloc_cpu.cpp")
    with pytest.raises(UserError, match=r"too little memory \(.*: 9 bytes\): end what"):
        hooks.ErrorHooks().on_pipeline_error(error)


def test_memory_is_returned_after_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[bool] = []
    monkeypatch.setattr(hooks, "return_freed_memory", lambda: returned.append(True))
    manager = PluginManager("kedro")
    manager.add_hookspecs(NodeSpecs)
    for hook in settings.HOOKS:
        if isinstance(hook, hooks.MemoryHooks):
            manager.register(hook)
    names = ("node", "catalog", "inputs", "outputs", "is_async", "run_id")
    manager.hook.after_node_run(**dict.fromkeys(names))
    assert returned == [True]
