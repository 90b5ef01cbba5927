"""What to do about findings: three named policies, and mappings from code to action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from failguard.core.codes import FINDINGS, check_finding_code
from failguard.core.decision import Action, Decision
from failguard.core.finding import Finding, Severity
from failguard.errors import ConfigurationError

__all__ = ["Policy"]

NAMES = ("observe", "standard", "strict")
EARLY_STOP = "metric.no_improvement"  # raised only where the user set `patience`, so a stop is what they asked for
ENDED = frozenset({"run.exception", "run.interrupted"})  # the run is over already, there is nothing to stop
STANDARD_STOPS = frozenset({"loss.non_finite", "gradient.non_finite", "weights.non_finite", "loss.divergence"})


class Policy:
    """Decides what to do about findings. Pure: it looks at findings only and acts on nothing.

    The named policies:

    - ``"observe"`` never acts.
    - ``"standard"`` stops on ``loss.non_finite``, ``gradient.non_finite``, ``weights.non_finite`` and confirmed
      ``loss.divergence``, each at ``error`` or above, and on an early stop. It warns of all else.
    - ``"strict"`` stops on every finding at ``error`` or above, and on an early stop.

    A mapping such as ``Policy({"metric.overfitting": "stop", "loss.divergence": "continue"})`` is ``"standard"`` with
    these codes changed. A STOP in it applies from ``warning`` on (``metric.no_improvement``: at ``info``, its only
    severity), a CONTINUE always. ``"loss.*"`` stands for every code of the family; a full code goes before it.

    Args:
        actions: Code or family to action.
        name: A name for messages and records.

    Raises:
        ConfigurationError: A code or action does not exist, or the action comes in a later release.
    """

    def __init__(self, actions: Mapping[str, Action | str], *, name: str = "custom") -> None:
        if not isinstance(actions, Mapping):
            raise ConfigurationError(
                f"Policy takes a mapping such as {{'metric.overfitting': 'stop'}}, not {type(actions).__name__}."
            )
        self.name = name
        self._base = "standard"
        checked = {str(code): _checked_action(str(code), action) for code, action in actions.items()}
        self._actions: dict[str, Action] = {}
        for code in sorted(checked, key=lambda c: not c.endswith(".*")):  # families first, so that full codes win
            for full in _members(code):
                self._actions[full] = checked[code]

    @classmethod
    def named(cls, name: str) -> Policy:
        """One of the named policies.

        Raises:
            ConfigurationError: There is no policy of that name.
        """
        if name in NAMES:
            policy = cls({}, name=name)
            policy._base = name
            return policy
        if name == "recover":
            raise ConfigurationError(
                "policy='recover' needs SKIP and ROLLBACK, which come in a later release. Use 'standard', which stops "
                "with finite weights."
            )
        allowed = ", ".join(map(repr, NAMES))
        raise ConfigurationError(f"policy={name!r} does not exist. Allowed: {allowed}, or a Policy({{code: action}}).")

    @classmethod
    def coerce(cls, value: str | Policy | Mapping[str, Any]) -> Policy:
        """A policy from what a user may give: a name, a mapping or a policy.

        Raises:
            ConfigurationError: None of these, or one that cannot be used.
        """
        if isinstance(value, Policy):
            return value
        if isinstance(value, str):
            return cls.named(value)
        if isinstance(value, Mapping):
            return cls(value)
        raise ConfigurationError(
            f"policy must be one of {', '.join(map(repr, NAMES))}, a Policy or a mapping from code to action, not "
            f"{type(value).__name__}."
        )

    @property
    def acts(self) -> bool:
        """Whether it may ever do something to a run."""
        return self._base != "observe"

    def also_stopping(self, codes: Sequence[str]) -> Policy:
        """This policy with STOP for more codes; itself where there are none, or where it never acts."""
        if not codes or not self.acts:
            return self
        policy = Policy({}, name=self.name)
        policy._base = self._base
        policy._actions = {**self._actions, **dict.fromkeys(codes, Action.STOP)}
        return policy

    def stops_on(self, code: str) -> bool:
        """Whether a finding of this code, severe enough, stops the run."""
        return self._stops_from(code) is not None

    def decide(self, findings: Sequence[Finding]) -> Decision:
        """Decide about findings that are new.

        Returns:
            STOP for the worst finding that asks for it, else CONTINUE. The reason is a sentence.
        """
        for finding in sorted(findings, key=lambda f: -f.severity.rank):
            least = self._stops_from(finding.code)
            if least is not None and finding.severity.rank >= least.rank:
                reason = f"Stopped by policy {self.name!r} on {finding.code} ({finding.severity}): {finding.message}"
                return Decision(Action.STOP, reason, finding)
        return Decision(Action.CONTINUE)

    def _stops_from(self, code: str) -> Severity | None:
        """The least severity at which a code stops the run, ``None`` when it never does."""
        action = self._actions.get(code)
        if action is Action.CONTINUE or self._base == "observe" or code in ENDED:
            return None
        if code == EARLY_STOP:
            return Severity.INFO
        if action is Action.STOP:
            return Severity.WARNING
        return Severity.ERROR if self._base == "strict" or code in STANDARD_STOPS else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str, frozenset[tuple[str, Action]]]:
        return self.name, self._base, frozenset(self._actions.items())

    def __repr__(self) -> str:
        actions = {code: action.value for code, action in self._actions.items()}
        return f"Policy({actions!r}, name={self.name!r})"


def _checked_action(code: str, action: Action | str) -> Action:
    try:
        checked = Action(action)
    except ValueError:
        near = get_close_matches(str(action).lower(), [a.value for a in Action], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"policy: {action!r} for {code!r} is not an action.{hint} Allowed: 'stop', 'continue'."
        ) from None
    if checked in (Action.SKIP, Action.ROLLBACK):
        raise ConfigurationError(
            f"policy: {checked.name} for {code!r} comes in a later release. STOP and CONTINUE are available now."
        )
    return checked


def _members(code: str) -> list[str]:
    """The full codes that a code or family of a mapping stands for."""
    if not code.endswith(".*"):
        return [check_finding_code(code)]
    members = [full for full in FINDINGS if full.startswith(code[:-1])]
    if members:
        return members
    families = list(dict.fromkeys(full.split(".")[0] + ".*" for full in FINDINGS))
    near = get_close_matches(code, families, n=3) or families
    raise ConfigurationError(f"{code!r} is not a family of findings. Did you mean {' or '.join(map(repr, near))}?")
