import copy

import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from cifar100_transfer.models.fast_convolution import (
    FastConv2d,
    Geometry,
    Path,
    accelerate_convolutions,
    choose_path,
)


def outputs_and_gradients(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Return the output and the gradients of a fixed linear function of it."""
    images = images.detach().requires_grad_()
    output = network(images)
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    gradients = torch.autograd.grad(
        output, [images, *network.parameters()], direction, allow_unused=True
    )
    return [output.detach(), *(g for g in gradients if g is not None)]


def assert_same(network: nn.Module, images: torch.Tensor, tolerance: float) -> None:
    accelerated = accelerate_convolutions(copy.deepcopy(network))
    expected = outputs_and_gradients(network, images)
    actual = outputs_and_gradients(accelerated, images)
    assert len(expected) == len(actual)
    for wanted, got in zip(expected, actual, strict=True):
        scale = float(wanted.abs().max()) if wanted.numel() else 1.0
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * max(scale, 1e-3))


axes = st.tuples(
    st.integers(1, 9), st.sampled_from([1, 2, 3, 7]), st.integers(1, 3), st.integers(0, 3)
)


@settings(max_examples=150)
@given(
    rows=axes,
    columns=axes,
    square=st.booleans(),
    channels=st.integers(1, 5),
    filters=st.integers(1, 5),
    groups=st.integers(1, 3),
    batch=st.sampled_from([0, 1, 2, 17, 64, 256]),
    bias=st.booleans(),
    image_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    weight_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_any_convolution_equals_the_stock_one(
    *, rows, columns, square, channels, filters, groups, batch, bias, image_format, weight_format
):
    geometry = Geometry(*rows), Geometry(*(rows if square else columns))
    assume(all(axis.output_size > 0 for axis in geometry))
    sizes, kernel, stride, padding = zip(*geometry, strict=True)
    channels, filters = channels * groups, filters * groups
    convolution = nn.Conv2d(
        channels, filters, kernel, stride, padding, groups=groups, bias=bias
    ).double()
    convolution.to(memory_format=weight_format)
    images = torch.randn(batch, channels, *sizes, dtype=torch.float64)
    assert_same(convolution, images.contiguous(memory_format=image_format), 1e-12)


@pytest.mark.parametrize(
    ("size", "stride", "fewest"),
    [(2, 1, 16), (2, 2, 16), (4, 2, 64), (3, 1, 144), (8, 2, 256)],
)
def test_three_by_three_kernels_become_products_once_the_batch_carries_them(size, stride, fewest):
    axis = Geometry(size, kernel=3, stride=stride, padding=1)
    assert choose_path(fewest, 1, axis, axis) is Path.WINDOWS
    assert choose_path(fewest - 1, 1, axis, axis) is Path.CONVOLUTION
    convolution = nn.Conv2d(3, 4, 3, stride, 1).double()
    assert_same(convolution, torch.randn(fewest, 3, size, size, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("batch", [1, 8, 512])
def test_one_pixel_is_one_product_in_every_batch(batch):
    axis = Geometry(1, kernel=3, stride=1, padding=1)
    assert choose_path(batch, 1, axis, axis) is Path.WINDOWS
    assert choose_path(batch, 2, axis, axis) is Path.CONVOLUTION


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((1, 1), 2, 1),
        ((4, 1), 2, 1),
        ((1, 1), 3, 1),
        ((2, 2), 3, 1),
        ((1, 2), 4, 1),
        ((3, 3), 4, 1),
        ((2, 2), 4, 3),
    ],
)
def test_gradients_of_kernels_that_stride_over_the_map_are_right_in_bfloat16(
    groups, size, stride, padding
):
    """Left to the library, taps on the padding got whatever was in memory."""
    convolution = nn.Conv2d(8, 8, 3, stride, padding, groups=groups, bias=False)
    fast = accelerate_convolutions(copy.deepcopy(convolution).to(memory_format=torch.channels_last))
    images = torch.randn(2, 8, *size)
    expected = outputs_and_gradients(convolution.double(), images.double())
    assert_right_in_bfloat16(fast, images, expected)


def test_they_are_right_when_compiled() -> None:
    convolution = nn.Conv2d(8, 8, 3, 2, 1, bias=False)
    fast = accelerate_convolutions(copy.deepcopy(convolution).to(memory_format=torch.channels_last))
    images = torch.randn(32, 8, 1, 1)
    expected = outputs_and_gradients(convolution.double(), images.double())
    assert_right_in_bfloat16(torch.compile(fast, backend="eager"), images, expected)


def assert_right_in_bfloat16(
    network: nn.Module, images: torch.Tensor, expected: list[torch.Tensor]
) -> None:
    for _ in range(5):  # of memory that others leave, some would do no harm
        left = [torch.full((8 * 8 * 9,), torch.inf) for _ in range(9)]
        del left
        with torch.autocast("cpu", torch.bfloat16):
            actual = outputs_and_gradients(network, images)
        for wanted, got in zip(expected, actual, strict=True):
            torch.testing.assert_close(got.double(), wanted, rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    ("axis", "path"),
    [
        (Geometry(8, kernel=1, stride=1, padding=0), Path.PIXELS),
        (Geometry(8, kernel=1, stride=2, padding=0), Path.PIXELS),
        (Geometry(9, kernel=1, stride=1, padding=0), Path.CONVOLUTION),
        (Geometry(8, kernel=1, stride=1, padding=1), Path.CONVOLUTION),
        (Geometry(8, kernel=3, stride=1, padding=1), Path.CONVOLUTION),
        (Geometry(2, kernel=3, stride=1, padding=3), Path.CONVOLUTION),
        (Geometry(32, kernel=7, stride=2, padding=3), Path.CONVOLUTION),
        (Geometry(2, kernel=3, stride=1, padding=0), Path.CONVOLUTION),
    ],
)
def test_path_of_a_large_batch(axis, path):
    assert choose_path(4096, 1, axis, axis) is path


@pytest.mark.parametrize(
    ("build", "batch", "size"),
    [
        (torchvision.models.resnet50, 16, 32),
        (torchvision.models.resnet18, 16, 32),
        (torchvision.models.squeezenet1_1, 4, 64),
        (torchvision.models.mobilenet_v2, 16, 32),
    ],
)
def test_networks_give_the_same_logits_and_gradients(build, batch, size):
    torch.manual_seed(0)
    network = build(num_classes=10).double().to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = torch.randn(batch, 3, size, size, dtype=torch.float64)
    images = images.contiguous(memory_format=torch.channels_last)
    # Batch normalisation divides by the deviation of few values, which magnifies rounding.
    assert_same(network, images, 1e-8)
    assert_same(network.eval(), images, 1e-8)


def test_second_derivatives_are_right():
    convolution = accelerate_convolutions(nn.Conv2d(2, 2, 3, padding=1).double())
    images = torch.randn(16, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolution, images)
    assert torch.autograd.gradgradcheck(convolution, images)


def test_frozen_weights_and_plain_inputs_get_no_gradient():
    convolution = accelerate_convolutions(nn.Conv2d(2, 2, 3, padding=1))
    images = torch.randn(16, 2, 2, 2)
    convolution(images).sum().backward()
    assert images.grad is None
    assert convolution.weight.grad is not None
    convolution.requires_grad_(False).zero_grad()
    convolution(images.requires_grad_()).sum().backward()
    assert images.grad is not None
    assert convolution.weight.grad is None


def test_state_parameters_and_hooks_stay():
    network = torchvision.models.resnet18()
    names, parameters = list(network.state_dict()), list(network.parameters())
    calls = []
    network.conv1.register_forward_hook(lambda *_: calls.append("hook"))
    assert accelerate_convolutions(network) is network
    assert isinstance(network.conv1, FastConv2d)
    assert list(network.state_dict()) == names
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    network(torch.randn(2, 3, 32, 32))
    assert calls == ["hook"]
    network.load_state_dict(torchvision.models.resnet18().state_dict())


class OwnConvolution(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 3),
        OwnConvolution(4, 4, 3),
    ],
)
def test_other_convolutions_are_left_alone(convolution):
    kind = type(convolution)
    assert type(accelerate_convolutions(convolution)) is kind


@pytest.mark.parametrize("size", [1, 2, 4])
def test_autocast_reaches_both_passes(size):
    torch.manual_seed(0)
    stock = nn.Conv2d(8, 8, 3, padding=1)
    fast = accelerate_convolutions(copy.deepcopy(stock))
    images = torch.randn(64, 8, size, size)
    with torch.autocast("cpu", torch.bfloat16):
        expected, actual = stock(images), fast(images)
    assert actual.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.02)
    for output in (expected, actual):
        output.float().square().mean().backward()
    assert fast.weight.grad.dtype == torch.float32
    torch.testing.assert_close(fast.weight.grad, stock.weight.grad, rtol=0.05, atol=0.01)


def test_export_sees_stock_convolutions():
    network = accelerate_convolutions(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 4, 3, 1, 1)))
    images = torch.randn(16, 2, 2, 2)
    exported = torch.export.export(network.eval(), (images,))
    operators = [str(n.target) for n in exported.graph.nodes if n.op == "call_function"]
    assert operators == ["aten.conv2d.default"] * 2
    torch.testing.assert_close(exported.module()(images), network(images))


def test_unbatched_images_and_mistakes_are_treated_as_ever():
    stock = nn.Conv2d(3, 4, 1)
    fast = accelerate_convolutions(copy.deepcopy(stock))
    image = torch.randn(3, 5, 5)
    torch.testing.assert_close(fast(image), stock(image))
    for wrong in (torch.randn(2, 4, 5, 5), torch.randn(3, 5)):
        with pytest.raises(RuntimeError) as expected:
            stock(wrong)
        with pytest.raises(RuntimeError) as actual:
            fast(wrong)
        assert str(actual.value) == str(expected.value)
    too_large = accelerate_convolutions(nn.Conv2d(3, 4, 5))
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        too_large(torch.randn(2, 3, 2, 2))
