"""From findings to causes: a table of what can go wrong, weighed against the evidence of one run. Pure."""

from failguard.diagnosis.diagnose import diagnose
from failguard.diagnosis.fingerprint import fingerprint

__all__ = ["diagnose", "fingerprint"]
