"""The client class, its lifetime, and operations that take several requests."""

from __future__ import annotations

from ._audience_client import AudienceClient
from ._base_client import hook_of, id_type_of, send_built
from ._create import is_name_taken
from ._sandbox_polling import quick_polling

__all__ = ["AudienceClient", "hook_of", "id_type_of", "is_name_taken", "quick_polling", "send_built"]
