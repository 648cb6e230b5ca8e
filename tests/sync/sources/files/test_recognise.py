"""Files that are not what their names promise are named for what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.sync.sources._location import Format
from aiobatch.sync.sources.files._recognise import recognised

from ....helpers.sweep import examples
from ...staged import refusal


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("users.csv", "id\na\n")
    return file.getvalue()


_FILES = [
    # Pages
    (b"<html>\n<head><title>Sign in</title></head></html>", "a login"),
    (b"\n\n<!DOCTYPE html>\n<html lang=en><body>Hello", "web page"),
    (b"\xef\xbb\xbf<!doctype HTML PUBLIC ''><p>x", "web page"),
    (b"<!-- proxy -->\n<html>\n<form action=/saml/login>", "a login"),
    (b"<script>location='/sso'</script>\n", "a login"),
    (b"<div>502</div>\n", "web page"),
    (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "XML"),
    (b"<users><user id='1'/></users>", "XML"),
    # JSON
    (b'[\n  {"id": "u1"},\n  {"id": "u2"}\n]\n', "JSON"),
    (b'{"id":"u1"}\n{"id":"u2"}\n', "JSON"),
    (b'{\n  "error": "unauthorized"\n}', "JSON"),
    (b"[]", "JSON"),
    (b'["u1","u2"]', "JSON"),
    (b"[1, 2]", "JSON"),
    (b'{"entries":[{"url":"s3://b/k"}]}', "manifest"),
    # Dumps
    (b"--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n", "dump of SQL"),
    (b"-- MySQL dump 10.13  Distrib 8.0\n--\n", "dump of SQL"),
    (b"-- MariaDB dump 10.19\n", "dump of SQL"),
    (b"/*!40101 SET NAMES utf8 */;\n", "dump of SQL"),
    (b"/*M!999999\\- enable the sandbox mode */\n-- MariaDB", "dump of SQL"),
    (b"INSERT INTO users VALUES ('u1');\n", "dump of SQL"),
    (b"CREATE TABLE users (id text);\n", "dump of SQL"),
    (b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n", "dump of SQL"),
    (b"BEGIN;\nINSERT INTO t VALUES (1);", "dump of SQL"),
    (b"COPY public.users (id) FROM stdin;\nu1\n\\.\n", "dump of SQL"),
    (b"DROP TABLE IF EXISTS `users`;\n", "dump of SQL"),
    (b"SET search_path TO public;\n", "dump of SQL"),
    (b"SELECT id FROM users;\n", "dump of SQL"),
    (b"PGDMP\x01\x0e\x00", "pg_dump"),
    # Tables for a terminal
    (b" id | name \n----+------\n u1 | a\n(1 row)\n", "drawn for a terminal"),
    (b" id \n----\n u1\n(1 row)\n", "drawn for a terminal"),
    (b"+----+------+\n| id | name |\n+----+------+\n", "drawn for a terminal"),
    (b"| id | name |\n|----|------|\n| u1 | a |\n", "drawn for a terminal"),
    (b"-[ RECORD 1 ]\nid | u1\n", "drawn for a terminal"),
    (b"*************************** 1. row ***********\n  id: u1\n", "drawn for a terminal"),
    ("┌──────┐\n│  id  │\n".encode(), "drawn for a terminal"),
    (b"id   name\n---- ----\nu1   a\n", "drawn for a terminal"),
    # Pointers and lists
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS"),
    (b"/annex/objects/SHA256E-s12--x.csv\n", "git-annex"),
    (b"s3://bucket/unload/0000_part_00\ns3://bucket/unload/0001_part_00\n", "list of other files"),
    (b"gs://bucket/a.csv\n", "list of other files"),
    # Messages before the header
    (b"mysqldump: [Warning] Using a password on the command line can be insecure.\nid\nu1\n", "message"),
    (b"mysql: [Warning] Using a password\nid\tx\nu1\t1\n", "message"),
    (b"psql: warning: extra argument\nid\nu1\n", "message"),
    (b"WARNING: terminal is not fully functional\nid,x\nu1,1\n", "message"),
    (b"NOTICE:  relation exists\nid\nu1\n", "message"),
    (b"/usr/lib/x.py:12: DeprecationWarning: old\nid\nu1\n", "message"),
    (b"Traceback (most recent call last):\n", "message"),
    (b"Timing is on.\nid\nu1\n", "message"),
    (b"2026-11-28 10:00:00 INFO starting\nid\nu1\n", "message"),
    (b"curl: (22) The requested URL returned error: 403\n", "message"),
    (b"sep=;\nid;x\nu1;1\n", "'sep='"),
    (b"\xef\xbb\xbfsep=,\r\nid,x\r\nu1,1\r\n", "'sep='"),
    # Other compression, other files
    (bz2.compress(b"id\na\n"), "bzip2"),
    (lzma.compress(b"id\na\n"), "xz"),
    (b"\x28\xb5\x2f\xfd\x04\x00\x29\x00\x00id\na\n", "zstd"),
    (b"\x04\x22\x4d\x18\x64\x40\xa7", "LZ4"),
    (b"\xff\x06\x00\x00sNaPpY\x01", "Snappy"),
    (_zip(), "ZIP"),
    (b"SQLite format 3\x00" + bytes(84), "SQLite database"),
    (bytes(8) + b"DUCK" + bytes(50), "DuckDB database"),
    (b"PAR1" + bytes(20), "Parquet"),
    (b"Obj\x01\x04", "Avro"),
    (b"%PDF-1.7\n", "PDF"),
    # Other encodings
    ("id,x\nä,1\n".encode("utf-16"), "UTF-16"),
    ("id,x\nu1,1\n".encode("utf-16-le"), "UTF-16"),
    ("id,x\nu1,1\n".encode("utf-16-be"), "UTF-16"),
]


@pytest.mark.parametrize(
    ("content", "what"), _FILES, ids=[f"{n} {what}" for n, (_, what) in enumerate(_FILES)]
)
def test_foreign_content_is_named(content: bytes, what: str) -> None:
    """Whatever has the name of a CSV file but is something else is named."""
    assert what in str(recognised(content, Format.CSV))


@pytest.mark.parametrize("columns", [{}, {"id_column": "1"}, {"id_column": "1", "header": False}])
def test_foreign_content_is_refused(columns: dict[str, Any], tmp_path: Path) -> None:
    """Inside gzip too, and the word of the user about the column does not make data of it."""
    path = tmp_path / "users.csv"
    for content, what in _FILES[:: examples(20, 1)]:
        for written in (content, gzip.compress(content)):
            path.write_bytes(written)
            assert what in str(refusal(path, tmp_path, **columns))


_HEADERS = [
    b"id\nu1\n",
    b"info,id\nx,u1\n",
    b"error,id\nx,u1\n",
    b"warning_count,id\n1,u1\n",
    b"id,set\nu1,1\n",
    b"copy,id\n1,u1\n",
    b"[id],id\n1,u1\n",
    b"{id},id\n1,u1\n",
    b"select,from,id\n1,2,u1\n",
    b"id,note\nu1,a - b --- c\n",
    b"user_id,dashes\nu1,----\n",
    b"url,id\ns3://a/b,u1\n",
    b"begin,end,id\n1,2,u1\n",
    b"set name;id\n1;u1\n",
    b"timing,id\n1,u1\n",
    b"version,id\n1,u1\n",
]


@pytest.mark.parametrize("content", _HEADERS)
def test_unusual_headers_are_read(content: bytes) -> None:
    """Names of columns that only resemble something else are names of columns."""
    assert recognised(content, Format.CSV) is None


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<html><title>Sign in</title>", "a login"),
        (b'{"error": 1}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1", "LFS"),
    ],
)
def test_foreign_content_under_another_format(content: bytes, what: str, tmp_path: Path) -> None:
    """Parquet and JSON lines are recognised alike."""
    path = tmp_path / "users.parquet"
    path.write_bytes(content)
    assert what in str(refusal(path, tmp_path))
    if what != "JSON":
        path = path.rename(tmp_path / "users.jsonl")
        assert what in str(refusal(path, tmp_path))


def test_parquet_under_another_name_is_named(tmp_path: Path) -> None:
    """A Parquet file that is called .csv or .jsonl names the format to set."""
    for name in ("x.csv", "x.jsonl"):
        path = tmp_path / name
        with duckdb.connect() as connection:
            connection.execute(f"COPY (SELECT 'a' AS id) TO '{path}' (FORMAT parquet)")
        assert "Set the format to parquet" in str(refusal(path, tmp_path))


def test_ends_of_lists_are_refused(tmp_path: Path) -> None:
    """A row count below the rows is no ID."""
    for footer in (
        "(3 rows)",
        "(1 row)",
        "(2 rows affected)",
        "2 rows in set (0.00 sec)",
        "5 rows selected.",
    ):
        path = tmp_path / "x.csv"
        path.write_text(f"id\nu1\nu2\n{footer}\n")
        error = refusal(path, tmp_path)
        assert "counts rows" in str(error)
        assert error.line == 4


def test_hostile_first_lines_take_no_time() -> None:
    """Recognition is linear in the length of the line."""
    for unit in (b"a:1:", b"a ", b"- ", b"|-", b"set ", b"(", b"[", b"<a "):
        assert recognised(unit * 16_000, Format.CSV) is None or unit


def test_tar_is_not_text(tmp_path: Path) -> None:
    """An archive without compression is no text file."""
    path = tmp_path / "x.csv"
    with tarfile.open(path, "w") as archive:
        (tmp_path / "users.csv").write_text("id\na\n")
        archive.add(tmp_path / "users.csv", "users.csv")
    assert "not a text file" in str(refusal(path, tmp_path))
