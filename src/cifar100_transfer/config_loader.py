"""Kedro's reader of the configuration, with its refusals in one line."""

from typing import Any

from kedro.config import OmegaConfigLoader

from cifar100_transfer.configuration import unreadable
from cifar100_transfer.hooks import fail


class ConfigLoader(OmegaConfigLoader):
    """Says in one line why `globals.yml`, or an archive, can't be read.

    Kedro's own reads them as soon as it is made, before any hook is asked.

    Raises:
        UserError: they can't be read.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        try:
            super().__init__(*arguments, **options)
        except Exception as error:
            fail(unreadable(error))
