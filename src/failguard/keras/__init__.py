"""FailGuard for Keras 3, with the TensorFlow, JAX or torch backend."""

try:
    import keras
except ImportError as error:
    raise ImportError("failguard.keras needs Keras 3. Install it with: pip install keras tensorflow") from error

if not hasattr(keras, "version") or int(keras.version().split(".")[0]) < 3:
    raise ImportError("failguard.keras needs Keras 3. Install it with: pip install 'keras>=3.3'")

from failguard.keras.callback import FailGuard
from failguard.keras.false_positives import FalsePositives

__all__ = ["FailGuard", "FalsePositives"]
