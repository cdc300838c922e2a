"""What MLflow runs to load a registered model (models-from-code: no pickled object anywhere)."""

from mlflow.models import set_model

from ddm_core.serving.model import ObfuscatorModel

set_model(ObfuscatorModel())
