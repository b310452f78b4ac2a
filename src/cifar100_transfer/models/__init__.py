"""Networks, and the classifier that carries its own preprocessing. Imports no other room.

Names are loaded on first use, so that importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from cifar100_transfer.lazy import lazy_attributes

if TYPE_CHECKING:
    from .allocator import keep_freed_memory, return_freed_memory
    from .backbones import (
        architectures,
        build_network,
        check_architecture,
        check_backbone,
        check_zero_init,
        head_name,
        load_backbone,
        load_current_state,
        zero_init_residual,
    )
    from .classifier import (
        Classifier,
        ClassifierSpec,
        EnsembleSpec,
        average_classifiers,
        classifier_digest,
        load_classifier,
        read_spec,
        save_classifier,
    )
    from .cost import count_flops
    from .device import choose_device, choose_precision, is_out_of_memory
    from .express import ExpressCNN
    from .inference import inference_batch_size, predict_logits
    from .log_probabilities import mean_log_probabilities
    from .simple_cnn import SimpleCNN

_HOMES = {
    "keep_freed_memory": "allocator",
    "return_freed_memory": "allocator",
    "architectures": "backbones",
    "build_network": "backbones",
    "check_architecture": "backbones",
    "check_backbone": "backbones",
    "check_zero_init": "backbones",
    "head_name": "backbones",
    "load_backbone": "backbones",
    "load_current_state": "backbones",
    "zero_init_residual": "backbones",
    "Classifier": "classifier",
    "ClassifierSpec": "classifier",
    "EnsembleSpec": "classifier",
    "average_classifiers": "classifier",
    "classifier_digest": "classifier",
    "load_classifier": "classifier",
    "read_spec": "classifier",
    "save_classifier": "classifier",
    "choose_device": "device",
    "choose_precision": "device",
    "is_out_of_memory": "device",
    "count_flops": "cost",
    "ExpressCNN": "express",
    "inference_batch_size": "inference",
    "predict_logits": "inference",
    "mean_log_probabilities": "log_probabilities",
    "SimpleCNN": "simple_cnn",
}

__all__ = [
    "Classifier",
    "ClassifierSpec",
    "EnsembleSpec",
    "ExpressCNN",
    "SimpleCNN",
    "architectures",
    "average_classifiers",
    "build_network",
    "check_architecture",
    "check_backbone",
    "check_zero_init",
    "choose_device",
    "choose_precision",
    "classifier_digest",
    "count_flops",
    "head_name",
    "inference_batch_size",
    "is_out_of_memory",
    "keep_freed_memory",
    "load_backbone",
    "load_classifier",
    "load_current_state",
    "mean_log_probabilities",
    "predict_logits",
    "read_spec",
    "return_freed_memory",
    "save_classifier",
    "zero_init_residual",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
