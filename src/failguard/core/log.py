"""The log ``failguard``, without secrets. A handler of the user's that raises costs the line, never the training."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from failguard.core.redaction import redact_text

__all__ = ["logger"]

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class _Log(_Adapter):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if not self.isEnabledFor(level):
            return
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the caller's place, not this one
        try:
            text = str(msg) % args if args else str(msg)
            self.logger.log(level, "%s", redact_text(text), **kwargs)
        except Exception:  # noqa: BLE001 - a broken handler, and logging is how it would be told
            pass


logger = _Log(logging.getLogger("failguard"))
