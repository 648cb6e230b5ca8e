"""All fuzz targets: functions of bytes that raise only if a parser of foreign data has a bug."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .files import read_config, read_csv, read_id_file, read_jsonl, read_parquet, read_plan
from .responses import read_answers, read_errors, read_retry_after
from .sandbox import answer_request
from .states import read_notes, read_state
from .texts import read_base_url, read_dsn, read_flags, read_token

CORPUS = Path(__file__).parent / "corpus"

TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "answers": read_answers,
    "errors": read_errors,
    "retry_after": read_retry_after,
    "token": read_token,
    "flags": read_flags,
    "dsn": read_dsn,
    "base_url": read_base_url,
    "plan": read_plan,
    "config": read_config,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "id_file": read_id_file,
    "state": read_state,
    "notes": read_notes,
    "sandbox": answer_request,
}


def seeds(name: str) -> list[Path]:
    """Return the saved inputs of a target."""
    return sorted((CORPUS / name).iterdir())
