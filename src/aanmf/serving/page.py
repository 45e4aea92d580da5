"""The web page (to come)."""

from __future__ import annotations

from fastapi import FastAPI

from aanmf.serving.desk import Desk
from aanmf.serving.served import ServedModel


def add_page(api: FastAPI, served: ServedModel, desk: Desk) -> None:
    """Nothing yet."""
    return
