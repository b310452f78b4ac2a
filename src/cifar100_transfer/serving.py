"""What MLflow runs to serve a logged classifier. It is executed by MLflow, never imported here."""

from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from cifar100_transfer.models import load_classifier, predict_logits


class ServedClassifier(PythonModel):
    """Images in, the most probable class of each and its probability out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier that was logged."""
        self.classifier = load_classifier(context.artifacts["classifier"])

    # MLflow would take a type hint of `model_input` for a schema of its own.
    def predict(  # type: ignore[no-untyped-def]
        self, context: PythonModelContext, model_input, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Classify images, uint8 [N, 3, H, W]: for each its `class` and `probability`."""
        images = torch.from_numpy(np.asarray(model_input, np.uint8))
        best = predict_logits(self.classifier, images).softmax(1).max(1)
        names = self.classifier.spec.class_names
        return [
            {"class": names[index], "probability": probability}
            for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


mlflow.models.set_model(ServedClassifier())
