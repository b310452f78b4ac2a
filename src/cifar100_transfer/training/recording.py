"""The passes of a step, recorded on a GPU and replayed."""

import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from .processes import process_count

logger = logging.getLogger(__name__)

Results = tuple[Tensor, Tensor]
Passes = Callable[[Tensor, Tensor], Results]


@dataclass(frozen=True)
class Recording:
    """What a CUDA graph reads and writes, always in the same memory.

    Attributes:
        graph: the kernels of the passes, in their order.
        images: a batch, [B, 3, H, W].
        targets: its targets.
        gradients: one a parameter, None where it gets none.
        results: what the passes return.
    """

    graph: torch.cuda.CUDAGraph
    images: Tensor
    targets: Tensor
    gradients: list[Tensor | None]
    results: Results


class StepRecorder:
    """Records what forward and backward pass ask of a CUDA GPU, and asks for it again, at once.

    A GPU is done with a small network's kernels before Python has asked for them one by one.
    Replayed they are the same kernels, on the weights, statistics and random numbers of the moment
    (PyTorch's notes on CUDA semantics, "CUDA Graphs": whole passes, with the optimiser outside).
    The newest kind of step is held, no other: sizes that follow one another don't come back.

    Args:
        parameters: of the network, all of them.
        device: where the steps are computed.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], device: torch.device) -> None:
        self._parameters = list(parameters)
        # Recording needs a stream that is not the default one, with everything on it set up.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._kind: Hashable = None
        self._recording: Recording | None = None
        self._possible = True

    @classmethod
    def of(cls, network: nn.Module, device: torch.device, wanted: bool = True) -> Self | None:
        """Return a recorder for the steps of a network, None where they are not recorded.

        Only those of one process on a CUDA GPU are.
        """
        if not wanted or device.type != "cuda" or process_count() > 1:
            return None
        return cls(network.parameters(), device)

    def __call__(
        self, passes: Passes, images: Tensor, targets: Tensor, variant: Hashable
    ) -> Results:
        """Compute gradients, none of which are there yet, as `passes(images, targets)` does.

        Args:
            passes: puts gradients into the parameters and returns tensors.
            images: of the batch, on the device.
            targets: of the batch, on the device.
            variant: all else that decides which kernels `passes` needs.

        Returns:
            What `passes` returns. It is overwritten by the next call.
        """
        if not self._possible:
            return passes(images, targets)
        kind = (variant, images.shape, images.dtype, targets.shape, targets.dtype)
        if kind != self._kind:
            # The first time kernels are chosen and libraries set up, which can't be recorded.
            self._kind, self._recording = kind, None
            return self._beside(passes, images, targets)
        if self._recording is None:
            generator = _generator_of(images.device)
            before = generator.clone_state()
            try:
                self._recording = self._record(passes, images, targets)
            except RuntimeError as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                logger.info("steps are not recorded as a CUDA graph: %s", reason)
                self._possible = False
                # Torch leaves it as if recording went on, and would refuse the next dropout (its
                # issue 171263).
                generator.graphsafe_set_state(before)
                for parameter in self._parameters:
                    parameter.grad = None
                return passes(images, targets)
        return self._replay(self._recording, images, targets)

    def _beside(self, passes: Passes, images: Tensor, targets: Tensor) -> Results:
        """Compute on the stream of the recordings."""
        current = torch.cuda.current_stream(images.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            results = passes(images, targets)
        current.wait_stream(self._stream)
        return results

    def _record(self, passes: Passes, images: Tensor, targets: Tensor) -> Recording:
        """Record the passes; nothing is computed."""
        graph = torch.cuda.CUDAGraph()
        images, targets = images.clone(), targets.clone()
        with torch.cuda.graph(graph, stream=self._stream):
            results = passes(images, targets)
        gradients = [parameter.grad for parameter in self._parameters]
        return Recording(graph, images, targets, gradients, results)

    def _replay(self, recording: Recording, images: Tensor, targets: Tensor) -> Results:
        recording.images.copy_(images)
        recording.targets.copy_(targets)
        recording.graph.replay()
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return recording.results


def _generator_of(device: torch.device) -> torch.Generator:
    """Return what a CUDA GPU draws its random numbers from.

    Args:
        device: of a tensor that lies there, so with its number.
    """
    return torch.cuda.default_generators[device.index]
