"""From parameters to an untrained classifier."""

import pytest
import torch

from cifar100_transfer.config import ModelConfig, TrainingConfig
from cifar100_transfer.data import ImageSet
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import ExpressCNN, build_network
from cifar100_transfer.models.express import WhiteningStem
from cifar100_transfer.training import build, build_classifier

NORMALIZATION = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
TRAINING = TrainingConfig(epochs=2)
PRETRAINED = ModelConfig(architecture="squeezenet1_1", pretrained=True, image_size=32)


def test_the_spec_tells_images_and_recipe(image_set: ImageSet) -> None:
    model = ModelConfig(architecture="simple_cnn", dropout=0.25)
    spec = build_classifier(image_set, NORMALIZATION, model, TRAINING).spec
    assert spec.class_names == image_set.class_names
    assert spec.coarse_names == image_set.coarse_names
    assert spec.coarse_of_class == image_set.coarse_of_class
    assert spec.input_size == image_set.image_size == (12, 12)
    assert (spec.architecture, spec.dropout, spec.image_size) == ("simple_cnn", 0.25, None)
    assert (spec.mean, spec.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert spec.recipe == {
        "model": model.model_dump(mode="json"),
        "training": TRAINING.model_dump(mode="json"),
        "track": "held_out",
    }
    assert type(spec).from_json(spec.to_json()) == spec


def test_the_seed_decides_the_initial_weights(image_set: ImageSet) -> None:
    model = ModelConfig(architecture="simple_cnn")
    weights = []
    for seed in (1, 1, 2):
        config = TrainingConfig(seed=seed)
        network = build_classifier(image_set, NORMALIZATION, model, config).network
        weights.append(network.head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_pretrained_without_weights_is_a_user_error(image_set: ImageSet) -> None:
    with pytest.raises(UserError, match=r"model\.pretrained is true, but"):
        build_classifier(image_set, NORMALIZATION, PRETRAINED, TRAINING)


def test_pretrained_weights_fill_everything_but_the_head(image_set: ImageSet) -> None:
    given = build_network("squeezenet1_1", 9, (32, 32)).state_dict()
    network = build_classifier(
        image_set, NORMALIZATION, PRETRAINED, TRAINING, pretrained_weights=given
    ).network
    for key, value in network.state_dict().items():
        if key.startswith("classifier.1."):
            assert value.shape[0] == 6
        else:
            assert torch.equal(value, given[key])


def test_weights_are_not_used_unless_asked_for(image_set: ImageSet) -> None:
    model = ModelConfig(architecture="squeezenet1_1", image_size=32)
    given = {"not": torch.zeros(1)}
    classifier = build_classifier(image_set, NORMALIZATION, model, TRAINING, given)
    assert "not" not in classifier.network.state_dict()


def test_weights_of_another_architecture_are_refused(image_set: ImageSet) -> None:
    with pytest.raises(UserError, match="pretrained_weights does not fit this architecture"):
        build_classifier(image_set, NORMALIZATION, PRETRAINED, TRAINING, {"x": torch.zeros(1)})


def test_the_stem_of_express_is_fitted_to_the_images_as_the_network_sees_them(
    image_set: ImageSet,
) -> None:
    model = ModelConfig(architecture="express_small", image_size=24)
    classifier = build_classifier(image_set, NORMALIZATION, model, TRAINING)
    expected = WhiteningStem()
    expected.fit(classifier.preprocess(image_set.images))
    assert isinstance(classifier.network, ExpressCNN)
    assert torch.equal(classifier.network.stem.filters, expected.filters)


def test_large_images_give_the_stem_fewer_of_them_from_all_over_the_set(
    image_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_STEM_PIXELS", 3 * 24 * 24)
    model = ModelConfig(architecture="express_small", image_size=24)
    classifier = build_classifier(image_set, NORMALIZATION, model, TRAINING)
    expected = WhiteningStem()
    expected.fit(classifier.preprocess(image_set.images[:: -(-len(image_set) // 3)]))
    assert isinstance(classifier.network, ExpressCNN)
    assert torch.equal(classifier.network.stem.filters, expected.filters)


def test_blocks_as_identities_are_of_random_weights_alone() -> None:
    with pytest.raises(ValueError, match="set one of them to false"):
        ModelConfig(architecture="resnet18", pretrained=True, zero_init_residual=True)
