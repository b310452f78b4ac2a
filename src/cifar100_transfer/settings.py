"""Kedro's settings for this project."""

from cifar100_transfer.config_loader import ConfigLoader
from cifar100_transfer.hooks import (
    ErrorHooks,
    MemoryHooks,
    ParameterHooks,
    PreflightHooks,
    ResumeHooks,
)
from cifar100_transfer.log_hooks import SummaryHooks, TimingHooks
from cifar100_transfer.manifest_hooks import ManifestHooks
from cifar100_transfer.sessions import SessionStore
from cifar100_transfer.tracking import MLflowHooks, TensorBoardHooks

PREFLIGHT = PreflightHooks()

# The last one is called first: nothing is tracked of a run that is refused.
HOOKS = (
    MLflowHooks(),
    TensorBoardHooks(),
    ErrorHooks(),
    MemoryHooks(),
    ParameterHooks(),
    PREFLIGHT,
    ResumeHooks(),
    TimingHooks(),
    SummaryHooks(),
    ManifestHooks(PREFLIGHT),
)

SESSION_STORE_CLASS = SessionStore

CONFIG_LOADER_CLASS = ConfigLoader

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment changes only the keys it names.
    "merge_strategy": {"parameters": "soft"},
}
