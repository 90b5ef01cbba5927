from __future__ import annotations


class ResourceLimits:
    pass
