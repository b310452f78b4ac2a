"""The registered pipelines.

A new model is one name in `RECIPES` and one block in `conf/base/parameters_training.yml`.
"""

from kedro.pipeline import Pipeline

from cifar100_transfer.pipelines import (
    challenge_score,
    comparison,
    ensemble,
    evaluation,
    export,
    ingestion,
    prediction,
    robustness,
    submission,
    training,
    tuning,
)

# The original report's models, and whether each starts from the catalog entry `pretrained_weights`.
REPORT_MODELS = {"simple_cnn": False, "resnet50": False, "transfer": True}
# Further models, each run by its own name.
RECIPES = {"express": False, "champion": False}
MODELS = REPORT_MODELS | RECIPES
# Averages stored classifiers of the others.
ENSEMBLE = "ensemble"


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by its name."""
    data = ingestion.create_pipeline()
    models = {
        name: data + training.create_pipeline(name, pretrained) + evaluation.create_pipeline(name)
        for name, pretrained in MODELS.items()
    }
    judged = [*MODELS, ENSEMBLE]
    return {
        "__default__": sum(
            (models[name] for name in REPORT_MODELS),
            comparison.create_pipeline(after=list(REPORT_MODELS)),
        ),
        "ingestion": data,
        **models,
        # On the images of its members' trainings, which are stored: no ingestion.
        ENSEMBLE: ensemble.create_pipeline(ENSEMBLE) + evaluation.create_pipeline(ENSEMBLE),
        "pretraining": _pretraining(),
        "comparison": comparison.create_pipeline(),
        "prediction": prediction.create_pipeline(),
        "export": export.create_pipeline(),
        "submission": sum((submission.create_pipeline(name) for name in judged), Pipeline([])),
        "challenge_score": sum(
            (challenge_score.create_pipeline(name) for name in judged), Pipeline([])
        ),
        "robustness": sum(
            (robustness.create_pipeline(name) for name in judged),
            robustness.create_corruption_grid(),
        ),
        "tuning": sum((tuning.create_search(*model) for model in MODELS.items()), data),
        "ablation": sum((tuning.create_ablation(*model) for model in MODELS.items()), data),
        "screening": data + tuning.create_screening(),
    }


def _pretraining() -> Pipeline:
    """Train a classifier on images of its own, so that `transfer` can start from it."""
    own_data = Pipeline(
        ingestion.create_pipeline(),
        namespace="pretraining",
        inputs={"cifar100_raw": "pretraining_raw"},
    )
    # It is not judged on its test images: in a comparison, its figures for other classes would
    # stand beside those for the classes in question.
    own_names = ("train_set", "validation_set", "normalization")
    return own_data + Pipeline(
        training.create_pipeline("pretraining"),
        inputs={name: f"pretraining.{name}" for name in own_names},
    )
