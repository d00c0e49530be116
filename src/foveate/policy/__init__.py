"""How many tokens each question needs: policies that keep a promised rate of changed answers."""

from foveate.policy.policy import Policy

__all__ = ["Policy"]
