"""Predictors that adapt or average, against statistics and means computed by hand."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation import adaptation
from cifar100_transfer.evaluation.adaptation import (
    adapt_batch_norm,
    augmented,
    has_batch_norm,
    plain,
    transductive_batch_norm,
    views,
)
from cifar100_transfer.models import Classifier, ClassifierSpec, predict_logits

CLASSES = ("ant", "bee", "cow", "dog")


def classifier_of(network: nn.Module) -> Classifier:
    spec = ClassifierSpec("simple_cnn", CLASSES, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), (8, 8))
    classifier = Classifier(spec)
    classifier.network = network
    return classifier.eval()


def two_layers() -> Classifier:
    """Convolution, batch norm, ReLU, twice, with statistics as after some training."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, len(CLASSES)),
    )
    for layer in (network[1], network[4]):
        nn.init.uniform_(layer.running_mean, -0.5, 0.5)
        nn.init.uniform_(layer.running_var, 0.5, 2)
        nn.init.uniform_(layer.weight, 0.5, 2)
        nn.init.uniform_(layer.bias, -1, 1)
    return classifier_of(network)


def some_images(count: int, seed: int = 0) -> Tensor:
    """Images that get brighter one by one, so that no two batches are alike."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 120, (count, 3, 8, 8), generator=generator)
    return (noise + torch.linspace(0, 130, count).view(-1, 1, 1, 1)).to(torch.uint8)


@torch.no_grad()
def by_hand(classifier: Classifier, images: Tensor, weight: float) -> list[tuple[Tensor, Tensor]]:
    """Mixed statistics of both layers in float64, over all images at once."""
    network = copy.deepcopy(classifier.network).double()
    values = classifier.preprocess(images).double()
    mixed = []
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            columns = values.transpose(0, 1).flatten(1)
            mean = columns.sum(1) / columns.shape[1]
            variance = ((columns - mean[:, None]) ** 2).sum(1) / columns.shape[1]
            mean = weight * module.running_mean + (1 - weight) * mean
            variance = weight * module.running_var + (1 - weight) * variance
            mixed.append((mean, variance))
            module.running_mean, module.running_var = mean, variance
        values = module(values)
    return mixed


def statistics(classifier: Classifier) -> list[tuple[Tensor, Tensor]]:
    layers = [m for m in classifier.modules() if isinstance(m, nn.BatchNorm2d)]
    return [(layer.running_mean, layer.running_var) for layer in layers]


def assert_statistics(
    found: list[tuple[Tensor, Tensor]], wanted: list[tuple[Tensor, Tensor]]
) -> None:
    for own, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(own[0].double(), reference[0].double(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own[1].double(), reference[1].double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_adapted_statistics_are_those_computed_by_hand(weight: float) -> None:
    classifier, images = two_layers(), some_images(40)
    adapted = adapt_batch_norm(classifier, images, weight)
    assert_statistics(statistics(adapted), by_hand(classifier, images, weight))


def test_a_weight_of_one_changes_nothing() -> None:
    classifier, images = two_layers(), some_images(40)
    adapted = adapt_batch_norm(classifier, images, 1.0)
    assert torch.equal(predict_logits(adapted, images), predict_logits(classifier, images))


@given(count=st.integers(1, 33), batch=st.integers(1, 40), weight=st.floats(0, 1))
@settings(max_examples=15)
def test_the_first_layer_is_exact_over_any_batches(count: int, batch: int, weight: float) -> None:
    classifier, images = two_layers(), some_images(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation, "inference_batch_size", lambda _: batch)
        adapted = adapt_batch_norm(classifier, images, weight)
    assert_statistics(statistics(adapted)[:1], by_hand(classifier, images, weight)[:1])


def test_batches_change_deeper_layers_little(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = two_layers()
    images = some_images(240)[torch.randperm(240, generator=torch.Generator().manual_seed(0))]
    whole = statistics(adapt_batch_norm(classifier, images, 0.0))[1]
    monkeypatch.setattr(adaptation, "inference_batch_size", lambda _: 60)
    batched = statistics(adapt_batch_norm(classifier, images, 0.0))[1]
    for own, reference in zip(batched, whole, strict=True):
        torch.testing.assert_close(own, reference, rtol=0.1, atol=0.05)


def test_large_images_are_adapted_to_fewer_at_once() -> None:
    classifier = two_layers()
    classifier.spec = replace(classifier.spec, image_size=256)
    seen: list[int] = []
    classifier.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    adapt_batch_norm(classifier, some_images(40), 0.0)
    assert seen == [20, 20]


def test_the_classifier_itself_stays_as_it_was() -> None:
    classifier, images = two_layers(), some_images(20)
    classifier.train()
    before = copy.deepcopy(classifier.state_dict())
    adapted = adapt_batch_norm(classifier, images, 0.0)
    transductive_batch_norm(classifier, 0.0)(images)
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert classifier.training
    assert not adapted.training
    assert not any(module._forward_pre_hooks for module in adapted.modules())


def test_adaptation_undoes_a_shift_of_all_images() -> None:
    """A darker and flatter copy has, once adapted to, the logits of the images themselves."""
    classifier = two_layers()
    images = some_images(64).float() / 255
    adapted_to_images = predict_logits(adapt_batch_norm(classifier, images, 0.0), images)
    flat = 0.5 * images + 0.1
    adapted_to_flat = predict_logits(adapt_batch_norm(classifier, flat, 0.0), flat)
    torch.testing.assert_close(adapted_to_flat, adapted_to_images, rtol=1e-3, atol=1e-3)
    unadapted = predict_logits(classifier, images) - predict_logits(classifier, flat)
    assert unadapted.abs().max() > 0.05


def test_the_transductive_predictor_is_the_adapted_classifier() -> None:
    classifier, images = two_layers(), some_images(20)
    wanted = predict_logits(adapt_batch_norm(classifier, images, 0.25), images)
    assert torch.equal(transductive_batch_norm(classifier, 0.25)(images), wanted)


def test_what_is_adapted_can_be_augmented() -> None:
    """The statistics are those of the images themselves, not of every view."""
    classifier, images = two_layers(), some_images(20)
    both = transductive_batch_norm(classifier, 0.25, lambda adapted: augmented(plain(adapted)))
    adapted = adapt_batch_norm(classifier, images, 0.25)
    assert torch.equal(both(images), augmented(plain(adapted))(images))
    each = augmented(transductive_batch_norm(classifier, 0.25))
    assert not torch.equal(both(images), each(images))


def test_reduced_precision_does_not_round_the_statistics() -> None:
    layer = nn.BatchNorm2d(3).eval()
    estimate = adaptation._Estimate(layer, 0.0)
    values = (torch.randn(16, 3, 8, 8) + 3).bfloat16()
    layer(values)
    estimate.finish()
    assert layer.running_mean is not None
    torch.testing.assert_close(
        layer.running_mean.double(), values.double().mean((0, 2, 3)), rtol=1e-5, atol=0
    )


def test_without_batch_norm_or_images_or_with_a_wrong_weight_it_says_so() -> None:
    bare = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(192, len(CLASSES))))
    assert not has_batch_norm(bare)
    assert has_batch_norm(two_layers())
    with pytest.raises(UserError, match="simple_cnn has no batch normalisation"):
        adapt_batch_norm(bare, some_images(4), 0.0)
    with pytest.raises(UserError, match="zero images"):
        adapt_batch_norm(two_layers(), some_images(0), 0.0)
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match=r"source_weight must lie in \[0, 1\]"):
            adapt_batch_norm(two_layers(), some_images(4), weight)


def test_augmentation_equals_the_slow_reference() -> None:
    """Pixel by pixel: every view is a mirrored or moved copy with repeated edges."""
    classifier, images = two_layers(), some_images(5)
    means = torch.zeros(len(images), len(CLASSES), dtype=torch.float64)
    for index, image in enumerate(images):
        for down, right in ((0, 0), (-1, -1), (1, 1)):
            for mirror in (False, True):
                view = torch.empty_like(image)
                for y in range(8):
                    for x in range(8):
                        column = 7 - x if mirror else x
                        view[:, y, x] = image[
                            :, min(max(y - down, 0), 7), min(max(column - right, 0), 7)
                        ]
                logits = predict_logits(classifier, view[None])[0].double()
                means[index] += log_softmax(logits, dim=0) / 6
    found = augmented(plain(classifier))(images)
    torch.testing.assert_close(found.double(), means, rtol=1e-4, atol=1e-4)


def test_the_first_view_is_the_image_and_all_differ() -> None:
    image = some_images(1)
    seen = list(views(image))
    assert torch.equal(seen[0], image)
    assert len({view.numpy().tobytes() for view in seen}) == len(seen) == 6
