"""From findings to causes: a table of what can go wrong, weighed against the evidence of one run. Pure."""

from failguard.diagnosis.advice import check_config, diagnose_error, suggest_fixes
from failguard.diagnosis.diagnose import diagnose
from failguard.diagnosis.fingerprint import fingerprint

__all__ = ["check_config", "diagnose", "diagnose_error", "fingerprint", "suggest_fixes"]
