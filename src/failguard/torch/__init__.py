"""FailGuard for a plain PyTorch loop, also under HF Accelerate."""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("failguard.torch needs PyTorch. Install it with: pip install torch") from error

from failguard.torch.callback import FailGuard

__all__ = ["FailGuard"]
