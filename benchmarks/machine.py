"""How the benchmarks run, and what they say about the command and the machine behind a result."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torchvision

from cifar100_transfer.errors import UserError

# Options of the benchmarks, and parameters of Kedro's runs.
_PLACES = {"--data": "DIR", "--work": "DIR", "raw_data": "DIR", "weights": "FILE"}
_ASSIGNMENT = re.compile(rf"(?<![\w-])({'|'.join(_PLACES)})=[^,]+")


def run_script(main: Callable[[], None]) -> None:
    """Run a script; what its user can mend ends it with one line, without a traceback."""
    try:
        main()
    except UserError as error:
        sys.exit(str(error))


def describe_machine() -> dict[str, str | int]:
    """Return processor, cores, threads, instruction sets, GPU and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    matrix_units = sorted({"amx_bf16", "avx512_bf16"} & set(flags))
    description: dict[str, str | int] = {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": ", ".join(matrix_units) or "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    if torch.cuda.is_available():
        description["gpu"] = torch.cuda.get_device_name()
    return description


def command_line() -> str:
    """Return the command that is running, as others can give it."""
    return public_command(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def public_command(words: list[str]) -> str:
    """Return a command with DIR or FILE for what lies elsewhere on another machine."""
    public = []
    for before, word in pairwise(["", *words]):
        assigned = _ASSIGNMENT.sub(lambda match: f"{match[1]}={_PLACES[match[1]]}", word)
        public.append(_PLACES.get(before, assigned))
    return shlex.join(public)
