"""What the commands share: the application, listening on this machine, one process for a folder, stopping when told."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from flask import Flask
from flask.cli import ScriptInfo
from werkzeug.serving import BaseWSGIServer

from invoice.errors import ConfigError, InvoiceError

# Where the application keeps its engine, its settings and its use cases, for the commands.
ENGINE, SETTINGS, SERVICES = "invoice.engine", "invoice.settings", "invoice.services"
HOST = "127.0.0.1"
T = TypeVar("T")


def load(info: ScriptInfo) -> Flask:
    try:
        return info.load_app()
    except ConfigError as error:
        raise click.ClickException(error.message) from error


@contextmanager
def in_words() -> Iterator[None]:
    """Turn our errors into a sentence for the person at the keyboard."""
    try:
        yield
    except InvoiceError as error:
        told = [sentence for sentences in getattr(error, "errors", {}).values() for sentence in sentences]
        raise click.ClickException(" ".join(told) or error.message) from error


def address(port: int) -> str:
    return f"http://{HOST}:{port}"


def listen(port: int, listen: Callable[[int, T], BaseWSGIServer], what: T) -> BaseWSGIServer:
    """Listen on a port of this machine; one that is taken is said in a sentence."""
    try:
        return listen(port, what)
    except (OSError, SystemExit) as error:
        raise click.ClickException(f"Port {port} is taken. Choose another with --port.") from error


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends."""
    with (data / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise click.ClickException(f"Another demo runs on {data}.") from error
        yield


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and a polite kill set."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
