"""Stores that lie elsewhere: object storage, web servers, the Hugging Face Hub; through fsspec, with a local cache."""

from __future__ import annotations
