"""The stand-in as one thing: its clock, its web application, and the thread that lets time do its work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from invoice.simulator.agreement_api import agreement_api
from invoice.simulator.answers import json_answer
from invoice.simulator.charge_api import charge_api
from invoice.simulator.clock import Clock
from invoice.simulator.control_api import control_api
from invoice.simulator.disorder_api import disorder_api
from invoice.simulator.engine import next_due, run_rows
from invoice.simulator.fields import is_loopback
from invoice.simulator.front import unknown_address
from invoice.simulator.hooks_api import hooks_api
from invoice.simulator.http import respond
from invoice.simulator.landing import landing
from invoice.simulator.pages import pages
from invoice.simulator.post import Post
from invoice.simulator.problems import GatewayRefusal
from invoice.simulator.reach import check_base_url, host_in
from invoice.simulator.time_machine import TimeMachine
from invoice.simulator.token_api import TOKEN_PATH, token_api
from invoice.simulator.twilio_api import twilio_api
from invoice.simulator.webhook_api import webhook_api
from invoice.simulator.world import World

logger = logging.getLogger(__name__)

_TEMPLATES = Path(__file__).parents[2] / "templates"
_GATED = ("/accesstoken/", "/recurring/", "/webhooks/")  # where Vipps' gateway would speak for the framework
_BLUEPRINTS = (
    *(token_api, agreement_api, charge_api, webhook_api, twilio_api),
    *(control_api, disorder_api, hooks_api, pages, landing),
)
_PAUSE = 0.15  # real seconds between two looks at what is due
# A turn takes a hundred rows of a kind; this many are a million, or a row that never rests.
_MOST_TURNS = 10_000
_BODY_MOST = 8 * 1024 * 1024  # two thousand charges are about one megabyte


class Simulator:
    """A whole stand-in. One for each process and data folder.

    data: the folder with its memory.  base_url: where it is reached, on this machine, such as http://127.0.0.1:8001.
    follower: called while the clock is moved; does the other side's due work and says whether there was any.
    Raises ValueError for a base_url that is not this machine: it must never be taken for the real thing.
    """

    def __init__(self, data: Path, *, base_url: str, follower: Callable[[], bool] | None = None) -> None:
        check_base_url(base_url)
        self.follower = follower
        self._world = World(data, base_url)
        self._post = Post(self._world)
        self._pass = threading.Lock()
        self._machine = TimeMachine(self._world, self.run_due, self._follow)
        self._thread: threading.Thread | None = None
        self.app = _create_app(self._world, self._machine)

    @property
    def clock(self) -> Clock:
        """What time it is here; `now()` is aware, in UTC."""
        return self._world.clock

    def run_due(self) -> bool:
        """Do everything that is due now, and wait until it is done. Returns whether there was anything.

        One caller at a time; others wait.
        """
        with self._pass:
            for turn in range(_MOST_TURNS):
                if self._world.stopping.is_set() or not self._is_anything_due():
                    return turn > 0
                run_rows(self._world)
                self._post.send_due(wait=True)
            logger.error("After %s turns there is still something due", _MOST_TURNS)
            return True

    def _look(self) -> None:
        """Begin what is due now, and wait for no receiver."""
        with self._pass:
            while self._is_anything_due() and run_rows(self._world) and not self._world.stopping.is_set():
                pass
            self._post.send_due(wait=False)

    def _is_anything_due(self) -> bool:
        due = next_due(self._world)
        return due is not None and due <= self._world.clock.now()

    def _follow(self) -> bool:
        return self.follower() if self.follower else False

    def start(self) -> None:
        """Let time do its work by itself, in a thread of its own, until `stop`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._world.stopping.is_set():
            self._world.new_work.wait(_PAUSE)
            self._world.new_work.clear()
            if self._machine.is_moving or self._world.stopping.is_set():
                continue  # whoever moves the clock runs what is due, in order
            try:
                self._look()
            except Exception:
                logger.exception("What was due could not be done; it is tried again")
                self._world.stopping.wait(1)

    def stop(self) -> None:
        """End the thread and close everything. What was owed is still owed after the next start."""
        self._world.stopping.set()
        self._world.new_work.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._pass:
            self._post.close()
            self._world.store.close()


def create_simulator(data: Path, *, base_url: str, follower: Callable[[], bool] | None = None) -> Simulator:
    """Return a stand-in whose memory is in the folder `data`."""
    return Simulator(data, base_url=base_url, follower=follower)


def _create_app(world: World, machine: TimeMachine) -> Flask:
    app = Flask("invoice.simulator", template_folder=str(_TEMPLATES), static_url_path="/sim/static")
    app.config["MAX_CONTENT_LENGTH"] = _BODY_MOST
    app.extensions["simulator_world"] = world
    app.extensions["simulator_time_machine"] = machine
    app.url_map.merge_slashes = False  # an empty id is a wrong address, not a redirect
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.before_request(_refuse_strangers)
    app.before_request(_refuse_added_methods)
    app.after_request(lambda answer: _date(answer, world))
    app.wsgi_app = _lower_token_path(app.wsgi_app)  # type: ignore[method-assign]
    app.register_error_handler(404, unknown_address)
    app.register_error_handler(405, unknown_address)
    app.register_error_handler(HTTPException, _http_error)
    return app


def _date(answer: Response, world: World) -> Response:
    """Date an answer by the time that it is here: a client may compare its clock with it."""
    answer.date = world.clock.now()
    return answer


def _lower_token_path(wsgi_app: Callable[..., Any]) -> Callable[..., Any]:
    """Let the token's path be written in any case. Source: the vendor's own collection and plugin differ (2026-06)."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("PATH_INFO", "").lower() == TOKEN_PATH:
            environ["PATH_INFO"] = TOKEN_PATH
        return wsgi_app(environ, start_response)

    return call


def _refuse_strangers() -> Response | None:
    """Keep other web sites from moving our clock through somebody's browser; answer to no name but this machine's.

    A name of the vendors' that leads here would make the stand-in look like the real thing.
    """
    if not is_loopback(host_in(request.host)):
        said = f"This is a simulator. It is reached on this machine only, and never as {request.host[:200]}."
        return respond(GatewayRefusal(403, said).answer(request.path))
    if (
        request.path.startswith("/sim/")
        and request.method != "GET"
        and request.headers.get("Sec-Fetch-Site") == "cross-site"
    ):
        return respond(json_answer(403, {"error": "Sec-Fetch-Site: other sites may not use this"}))
    return None


def _refuse_added_methods() -> Response | None:
    """Answer HEAD and OPTIONS, which the framework gives to every view, like any method that Vipps does not have."""
    if request.method in ("HEAD", "OPTIONS") and request.path.startswith(_GATED):
        return unknown_address(MethodNotAllowed())
    return None


def _http_error(error: HTTPException) -> Response:
    status, said = error.code or 500, error.description or error.name
    if not request.path.startswith(_GATED):
        return respond(json_answer(status, {"error": said}))
    outer = {"responseCode": status, "responseMessage": error.name}
    return respond(json_answer(status, {"responseInfo": outer, "result": {"message": said}}))
