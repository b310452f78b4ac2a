"""Kedro's settings for this project."""

from cifar100_transfer.hooks import (
    ErrorHooks,
    ParameterHooks,
    PreflightHooks,
    ResumeHooks,
    SummaryHooks,
)

HOOKS = (ErrorHooks(), ParameterHooks(), PreflightHooks(), ResumeHooks(), SummaryHooks())

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment changes only the keys it names.
    "merge_strategy": {"parameters": "soft"},
}
