"""A classifier as a file that runs without this project: `torch.export` (.pt2) and ONNX.

Both take uint8 images [N, 3, H, W] of the size the classifier was trained on, any N, and return
float32 logits [N, classes]: resizing and normalisation are inside, as in the classifier itself.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from cifar100_transfer.errors import UserError

from .classifier import Classifier
from .inference import predict_logits

SPEC_FILE = "classifier.json"  # in the .pt2 file: the classifier's spec
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Share of the largest logit; rounding in float32 moves logits by about a millionth of it.
TOLERANCE = 1e-3

Runner = Callable[[torch.Tensor], torch.Tensor]


def export_program(classifier: Classifier) -> bytes:
    """Return the content of a .pt2 file; its extra file `classifier.json` is the spec.

    Convolutions are PyTorch's own in it: `FastConv2d` steps aside while a module is exported.
    """
    file = io.BytesIO()
    torch.export.save(_trace(classifier), file, extra_files={SPEC_FILE: classifier.spec.to_json()})
    return file.getvalue()


def _trace(classifier: Classifier) -> torch.export.ExportedProgram:
    plain = copy.deepcopy(classifier).cpu().eval().to(memory_format=torch.contiguous_format)
    # Two, because a batch of one would be taken for a constant.
    example = torch.zeros(2, 3, *classifier.spec.input_size, dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    return torch.export.export(plain, (example,), dynamic_shapes={"images": {0: batch}})


def load_program(content: bytes) -> Runner:
    """Return what a .pt2 file computes."""
    program = torch.export.load(io.BytesIO(content)).module()
    return torch.inference_mode()(program)


def export_onnx(classifier: Classifier) -> bytes:
    """Return the content of an ONNX file with input `images` and output `logits`.

    Its metadata hold every field of the spec as JSON, the class names among them.

    Raises:
        UserError: the extra `onnx` is not installed.
    """
    check_onnx_packages()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's exporter warns of its own code
        exported = torch.onnx.export(
            _trace(classifier), input_names=["images"], output_names=["logits"], verbose=False
        )
    assert exported is not None
    for name, value in asdict(classifier.spec).items():
        exported.model.metadata_props[name] = json.dumps(value, ensure_ascii=False)
    content: bytes = exported.model_proto.SerializeToString()
    return content


def load_onnx(content: bytes) -> Runner:
    """Return what an ONNX file computes on the CPU.

    Raises:
        UserError: the extra `onnx` is not installed.
    """
    check_onnx_packages()
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return run


def check_onnx_packages() -> None:
    """Raise a `UserError` if the extra `onnx` is not installed."""
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"exporting to ONNX needs {', '.join(missing)}: pip install 'cifar100-transfer[onnx]', "
            f"or export without it by --nodes=export_program"
        )


def check_export(
    run: Runner, classifier: Classifier, images: torch.Tensor, packages: tuple[str, ...]
) -> dict[str, Any]:
    """Compare an exported classifier with the classifier itself, for one image and for many.

    Args:
        run: the exported classifier.
        classifier: the original.
        images: uint8 [N, 3, H, W], N at least 1, of the classifier's `input_size`.
        packages: whose versions stand in the report.

    Returns:
        `images`; `max_abs_difference` of the logits; `largest_logit`, by magnitude;
        `same_prediction`, share of the images in [0, 1]; `versions`.

    Raises:
        UserError: the logits differ by more than rounding, so the export must not be used.
    """
    expected = predict_logits(classifier, images).cpu()
    # A tensor's maximum is NaN if any value is, Python's need not be.
    one, many = ((run(part) - expected[: len(part)]).abs().max() for part in (images[:1], images))
    difference = float(torch.maximum(one, many))
    largest = float(expected.abs().max())
    if not difference <= TOLERANCE * largest:
        raise UserError(
            f"the exported classifier differs from the classifier by {difference:.3g} in logits of "
            f"up to {largest:.3g}, so it was not stored: this version of "
            f"{' or '.join(packages)} computes {classifier.spec.architecture} otherwise"
        )
    return {
        "images": len(images),
        "max_abs_difference": difference,
        "largest_logit": largest,
        "same_prediction": float((run(images).argmax(1) == expected.argmax(1)).float().mean()),
        "versions": {package: version(package) for package in packages},
    }
