"""From findings to a decision. Pure: nothing here acts."""

from failguard.policy.policy import Policy

__all__ = ["Policy"]
