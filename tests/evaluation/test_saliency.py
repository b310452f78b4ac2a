"""Where a classifier looks, against Grad-CAM written out by hand."""

import pytest
import torch

from cifar100_transfer.data import Predictions
from cifar100_transfer.evaluation.saliency import grad_cam, surest_examples
from cifar100_transfer.models import Classifier, ClassifierSpec, average_classifiers


def classifier_of(architecture: str) -> Classifier:
    torch.manual_seed(0)
    names = tuple(f"class_{k}" for k in range(5))
    return Classifier(ClassifierSpec(architecture, names, (0.5,) * 3, (0.25,) * 3))


@pytest.mark.parametrize(
    ("architecture", "layer", "size"),
    [
        ("simple_cnn", "conv", 16),
        ("resnet18", "layer2", 4),
        ("mobilenet_v3_small", "features.3", 4),
    ],
)
def test_heat_equals_the_definition(architecture: str, layer: str, size: int) -> None:
    classifier = classifier_of(architecture)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    classes = torch.tensor([4, 0, 2])

    heat = grad_cam(classifier, images, classes)

    assert classifier.training, "the mode is put back"
    classifier.eval()
    maps: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        maps.append(output.clone())
        return maps[-1]

    classifier.network.get_submodule(layer).register_forward_hook(keep)
    score = classifier(images)[torch.arange(3), classes].sum()
    (slope,) = torch.autograd.grad(score, maps[0])
    assert maps[0].shape[-2:] == (size, size)
    # Selvaraju et al. (2017), equations 1 and 2.
    expected = (slope.mean((2, 3), keepdim=True) * maps[0]).sum(1, keepdim=True).relu()
    expected = torch.nn.functional.interpolate(expected, size=(32, 32), mode="bilinear")[:, 0]
    expected = expected / expected.amax((1, 2), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(heat, expected.detach())
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_of_an_ensemble_it_is_the_mean_over_the_members() -> None:
    members = [classifier_of("simple_cnn"), classifier_of("resnet18")]
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    classes = torch.tensor([4, 0, 2])
    mean = sum(grad_cam(one, images, classes) for one in members) / 2
    found = grad_cam(average_classifiers(members, {}), images, classes)
    wanted = mean / mean.amax((1, 2), keepdim=True)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_nothing_speaks_for_a_class_without_weights() -> None:
    classifier = classifier_of("simple_cnn")
    for parameter in classifier.network.parameters():
        torch.nn.init.zeros_(parameter)

    heat = grad_cam(classifier, torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]))

    assert torch.equal(heat, torch.zeros(2, 32, 32))


def test_the_surest_mistakes_come_before_the_surest_hits() -> None:
    sure = torch.tensor([1.0, 5.0, 3.0, 2.0, 4.0, 6.0])
    logits = torch.stack([sure, torch.zeros(6)], dim=1)
    labels = torch.tensor([0, 1, 1, 0, 0, 1])  # 1, 2 and 5 are mistaken
    predictions = Predictions(logits, labels, ("a", "b"))

    assert surest_examples(predictions, 4).tolist() == [5, 1, 4, 3]
    assert surest_examples(predictions, 100).tolist() == [5, 1, 2, 4, 3, 0]
    all_right = Predictions(logits, torch.zeros(6, dtype=torch.int64), ("a", "b"))
    assert surest_examples(all_right, 4).tolist() == [5, 1, 4, 2]
    all_wrong = Predictions(logits, torch.ones(6, dtype=torch.int64), ("a", "b"))
    assert surest_examples(all_wrong, 4).tolist() == [5, 1, 4, 2]
