"""Node functions that are told what no dataset holds, such as the name of their model."""

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any


def told(function: Callable[..., Any], **values: Any) -> Callable[..., Any]:
    """Return a node function with some keyword arguments given.

    It has the function's name, which is what Kedro and kedro-viz show. Kedro also reads the types
    of the inputs off the function, one after the other: arguments that are given must come last.
    """
    return update_wrapper(partial(function, **values), function)
