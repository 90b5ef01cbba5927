from __future__ import annotations

import pytest

from failguard.core.codes import CAUSES, FINDINGS, NON_FINITE_CODES, check_finding_code
from failguard.errors import ConfigurationError

FAMILIES = {"loss", "metric", "gradient", "update", "weights", "activation", "amp", "model", "data", "resource", "run"}


def test_every_code_says_what_it_means_in_a_sentence() -> None:
    for code, entry in (*FINDINGS.items(), *CAUSES.items()):
        assert entry.code == code
        assert entry.meaning.endswith(".")
        assert len(entry.meaning) > 20


def test_the_vocabulary_is_complete() -> None:
    assert {code.split(".")[0] for code in FINDINGS} == FAMILIES
    assert len(FINDINGS) == 58
    assert len(CAUSES) == 48
    assert FINDINGS.keys() >= NON_FINITE_CODES


def test_a_known_code_passes() -> None:
    assert check_finding_code("loss.divergence") == "loss.divergence"


@pytest.mark.parametrize("code", ["loss.diverged", "loss.Divergence", "divergence", "loss.divergance"])
def test_an_unknown_code_is_answered_with_near_ones(code: str) -> None:
    with pytest.raises(ConfigurationError, match=r"loss\.divergence"):
        check_finding_code(code)


def test_a_code_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(ConfigurationError, match=r"Allowed: loss\.non_finite, .*run\.repeat_of_failure"):
        check_finding_code("zzz")
