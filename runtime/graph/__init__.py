"""The front's graph interpreter. Import Front from here; the rest is its inside."""

from .front import Front
from .limits import Limits
from .outbox import Outbox

__all__ = ["Front", "Limits", "Outbox"]
