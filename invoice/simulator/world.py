"""One stand-in: its store, clock and switches together. Everything above gets at them through here."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

from invoice.simulator import ids, signing
from invoice.simulator.accounts import SalesUnit
from invoice.simulator.clock import Clock
from invoice.simulator.faults import Faults
from invoice.simulator.limits import Limits
from invoice.simulator.models import Setting
from invoice.simulator.store import Store
from invoice.simulator.switches import Switchboard

TOKEN_LIFE = timedelta(hours=1)  # Source: Vipps access token guide: one hour in the test environment (2026-04).
LANDING_PATH = "/dwo-api-application/v1/deeplink/vippsgateway"
LINK_LIFE = timedelta(minutes=10)  # Source: observed, exp = iat + 600 (2026-08).


class World:
    """Everything that is shared."""

    def __init__(self, data: Path, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.store = Store(data)
        self.clock = Clock(self.store)
        self.switchboard = Switchboard(self.store)
        self.faults = Faults(self.store)
        self.limits = Limits()
        self.new_work = threading.Event()  # set after a commit that may have left something to do
        self.stopping = threading.Event()
        self._key = self._signing_key()

    def _signing_key(self) -> str:
        with self.store.write() as session:
            row = session.get(Setting, "signing_key")
            if row is None:
                row = Setting(name="signing_key", value=ids.signing_key())
                session.add(row)
            return row.value

    def access_token(self, unit: SalesUnit) -> tuple[str, int, int]:
        """Return (token, not before, expires on) for a sales unit; epoch seconds."""
        start = int(self.clock.now().timestamp())
        end = start + int(TOKEN_LIFE.total_seconds())
        claims = {"use": "api", "msn": unit.merchant_serial_number, "nbf": start, "exp": end, "jti": ids.new_uuid()}
        return signing.make_token(claims, self._key), start, end

    def msn_in_token(self, token: str) -> str | None:
        """Return the serial number of the sales unit that `token` was given to, or None if it is not good."""
        claims = signing.read_token(token, self._key)
        is_good = claims and claims.get("use") == "api" and claims["exp"] > self.clock.now().timestamp()
        return str(claims["msn"]) if claims and is_good else None

    def link_for(self, agreement_id: str, issued: int, *, is_app: bool = False) -> str:
        """Return the address at which a person approves the agreement; `issued` in epoch seconds.

        is_app: in the app's own scheme, which on the test environment is this one. Source: agent-toolkit, 2026-08-21.
        """
        claims = {
            "use": "link",
            "agreementId": agreement_id,
            "iat": issued,
            "exp": issued + int(LINK_LIFE.total_seconds()),
            "jti": ids.new_uuid(),
        }
        token = signing.make_token(claims, self._key)
        return f"vippsMT://?token={token}" if is_app else self.landing_page(token)

    def landing_page(self, link: str) -> str:
        """Return the web address of the page at which a link, or the token in it, can be answered."""
        token = link.rpartition("token=")[2]
        return f"{self.base_url}{LANDING_PATH}?v=2&token={token}"

    def agreement_in_link(self, token: str) -> str | None:
        """Return the agreement id that a link's token carries, or None if it is not ours."""
        claims = signing.read_token(token, self._key)
        return str(claims["agreementId"]) if claims and claims.get("use") == "link" else None
