"""Networks, one file a paper; ``contract`` says what each promises, ``registry`` finds them by name."""

from clipwise.models.registry import create_model, list_models, model_arguments, register_model

__all__ = ["create_model", "list_models", "model_arguments", "register_model"]
