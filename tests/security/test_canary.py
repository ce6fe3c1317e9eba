"""A whole story with canaries in it: a number, a card, a text, and every secret there is. None may sing.

Numbers and the words of texts are data that the service keeps, and its partner reads them; keys and secrets rest
encrypted or as digests. In no log, in no error, on no page and in nobody else's answer is any of them.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from invoice.services import accounts, partners
from invoice.store.db import db, reading
from invoice.store.models import WebhookRegistration
from tests import factories
from tests.journeys.stand import (
    PARTNER,
    WEEKLY,
    Stand,
    a_stand_on_each_database,  # noqa: F401 - a fixture
)
from tests.receivers import Receiver, receiving, write
from tests.security.canary import (
    ADDRESS_KEY,
    LOGIN,
    NUMBER,
    PAN,
    PHONE,
    TEXT,
    Canaries,
    Door,
    Everything,
    Said,
    listening,
    opened,
)
from tests.web.module import OWN_UNIT

OTHER = 20000
MODULE = "/vipps-recurring-payments"


@dataclass
class Story:
    """The service with two partners, somebody who listens, and what has been answered to whom."""

    stand: Stand
    door: Door
    receiver: Receiver
    heard: Everything
    canaries: Canaries
    key: str = ""

    def ask(self, method: str, target: str, body: object = None, *, by: str | None = None, **headers: str) -> Said:
        """Ask as the partner, or with other credentials; by="": with none."""
        proof = basic(PARTNER) if by is None else by
        return self.door.ask(method, target, body, **(headers | ({"Authorization": proof} if proof else {})))

    def refused(self, status: int, *asked: object, but: tuple[str, ...] = (), **more: str | None) -> Said:
        """Ask for what is refused: the answer repeats nothing."""
        answer = self.ask(*asked, **more)  # type: ignore[arg-type]
        assert answer.status == status, answer
        assert self.canaries.found_in(answer.text + str(answer.headers), but=but) == []
        return answer


def basic(number: int, secret: str | None = None) -> str:
    return "Basic " + b64encode(f"{number}:{secret or factories.SECRET + f'-{number}'}".encode()).decode()


WISH = {
    **WEEKLY,
    "msisdn": PHONE,
    "memberId": PHONE,  # some partners have nothing better to call their members
    "orderNumber": "order-1",
    "description": "Avisen hver dag",
    "sendSMS": True,
    "smsText": f"{TEXT} {{{{url}}}}",
}


@pytest.fixture
def heard() -> Iterator[Everything]:
    with listening() as ear:
        yield ear


@pytest.fixture
def story(heard: Everything, stand_on_each: Stand) -> Iterator[Story]:
    stand = stand_on_each
    factories.a_partner(OTHER)
    canaries = Canaries({"number": NUMBER, "card": PAN, "text": TEXT, "login": LOGIN, "address": ADDRESS_KEY})
    key = partners.add_key(PARTNER, may_see_token=True)
    canaries.add(
        password=f"{factories.SECRET}-{PARTNER}",
        basic=basic(PARTNER).removeprefix("Basic "),
        other_password=f"{factories.SECRET}-{OTHER}",
        key=key,
        signing=partners.turn_hmac_on(PARTNER, takes_short=True),
        vipps_secret=stand.settings.vipps_client_secret,
        vipps_key=stand.settings.vipps_subscription_key,
        twilio=stand.settings.twilio_auth_token,
        own_secret=OWN_UNIT.client_secret,
        own_key=OWN_UNIT.subscription_key,
        our_key=stand.settings.invoice_secret_key,
    )
    with reading():
        (hook,) = db.session.scalars(db.select(WebhookRegistration)).all()
        canaries.add(hook_secret=hook.secret, hook_address=hook.token)
    with receiving() as receiver, opened(stand.app) as door:
        yield Story(stand, door, receiver, heard, canaries, key)


def live(story: Story) -> None:
    """The story: everything that can be done, and everything that can go wrong."""
    _knock(story)
    number = _subscribe(story)
    _accept(story, number)
    _pay(story, number)
    _by_the_other_contract(story, number)
    _end(story, number)


def _knock(story: Story) -> None:
    """Those who are not let in, and what cannot be read."""
    subscribe = "/api/recurring/subscribe"
    story.refused(401, "POST", subscribe, WISH, by="")
    story.refused(401, "POST", subscribe, WISH, by=basic(PARTNER, PHONE))
    story.refused(401, "POST", subscribe, WISH, by=f"Bearer {story.key}x")
    story.refused(
        401, "POST", subscribe, WISH, by=f"hmac-sha256 {PARTNER}:{'A' * 43}=:n:{int(story.stand.now().timestamp())}"
    )
    story.refused(403, "POST", f"{MODULE}/charge/make", [WISH], by=basic(PARTNER, PHONE))
    story.refused(403, "POST", subscribe, WISH, by=basic(OTHER))
    story.refused(400, "POST", subscribe, json.dumps(WISH).encode()[:-9])
    story.refused(400, "POST", subscribe, {**WISH, "amount": PAN, "basis": PHONE, "sendSMS": TEXT})
    story.refused(400, "POST", subscribe, {**WISH, "msisdn": f"{PHONE}x", "currency": PAN, "agreementUrl": TEXT})
    story.refused(400, "POST", subscribe, {**WISH, "statusCallbackUrl": f"https://u:{LOGIN}@10.0.0.1/{ADDRESS_KEY}"})
    for field in ("name", "description", "smsText", "memberId"):
        told = story.refused(400, "POST", subscribe, {**WISH, field: f"kort {PAN[:4]} {PAN[4:]}, {PAN}"}).json
        assert set(told["modelState"]) == {f"request.{field[0].upper()}{field[1:]}"}
    story.refused(401, "POST", subscribe, WISH, by="", X_Request_Id=PAN)
    story.refused(413, "POST", subscribe, {**WISH, "description": TEXT * 9000})
    story.refused(415, "POST", subscribe, WISH, Content_Type="text/plain")
    story.refused(404, "DELETE", f"/api/recurring/cancel/{PHONE}", but=("number",))  # the documented words name it
    story.refused(400, "GET", f"/api/transactions?partnerId={PARTNER}&referenceId={PAN}&referenceId={PHONE}")
    story.refused(404, "GET", f"/s/{NUMBER}{'A' * 14}", by="")
    story.refused(404, "GET", f"/{PHONE}/{PAN}?x={TEXT}", by="")
    story.refused(404, "GET", f"/s/{'A' * 22}?notice=%ff{NUMBER}", by="")
    hook = f"/hooks/vipps/{story.canaries.known['hook_address']}"
    story.refused(401, "POST", hook, {"eventType": TEXT, "msisdn": PHONE}, by=f"HMAC-SHA256 Signature={PAN}")
    form = f"To={PHONE}&Body={TEXT}&MessageSid=SM1".encode()
    story.refused(403, "POST", "/hooks/twilio/1", form, by="", Content_Type="application/x-www-form-urlencoded")


def _subscribe(story: Story) -> int:
    """A wish that Vipps refuses in the person's own words, one whose draft is lost, and its text likewise."""
    stand, base = story.stand, story.receiver.url.replace("http://", f"http://user:{LOGIN}@")
    echo = {"title": "Bad Request", "detail": f"phoneNumber {PHONE} of card {PAN}", "contextId": "c-1"}
    stand.wire.instead("draft", 400, echo)
    story.refused(400, "POST", "/api/recurring/subscribe", {**WISH, "orderNumber": "order-0"})
    stand.fault("draft", "500", times=1)
    stand.fault("send_message", "500_after", times=1)
    stand.fault("list_messages", "502", times=1)
    query = f"?to={{{{msisdn}}}}&status={{{{status}}}}&key={ADDRESS_KEY}"
    callbacks = {
        name: f"{base}/{name}{query}"
        for name in ("statusCallbackUrl", "confirmSubscriptionCallbackUrl", "smsStatusCallbackUrl")
    }
    answer = story.ask(
        "POST", "/api/recurring/subscribe", WISH | callbacks, Idempotency_Key="key-1", X_Request_Id="r-1"
    )
    assert answer.status == 200, answer
    assert story.canaries.found_in(answer.text) == []
    endpoint = story.ask(
        "PUT", "/api/events/endpoint", {"url": f"{story.receiver.url}/e?key={ADDRESS_KEY}"}, Idempotency_Key="key-2"
    )
    story.canaries.add(
        endpoint=endpoint.json["secret"].removeprefix("whsec_"), link=answer.json["url"].rpartition("/")[2]
    )
    number = int(answer.json["subscriptionId"])
    row = stand.subscription(number)
    story.canaries.add(link=row.link_token, manage=row.manage_token)
    story.receiver.answers.extend([500, 302, write(f"{TEXT} {PHONE}".encode())])
    stand.live(hours=2)
    return number


def _accept(story: Story, number: int) -> None:
    """The person opens the link, is led astray by another site, accepts and looks."""
    stand, row = story.stand, story.stand.subscription(number)
    mine = ("link", "manage")  # a page is its person's, and its product is called as its partner calls it
    for target in (f"/s/{row.link_token}", f"/manage/{row.manage_token}", f"/manage/{row.manage_token}/stop"):
        page = story.ask("GET", target, by="")
        assert story.canaries.found_in(page.text, but=mine) == [], target
    story.refused(403, "POST", f"/s/{row.link_token}", b"", by="", but=("link",), Sec_Fetch_Site="cross-site")
    assert story.ask("POST", f"/s/{row.link_token}", b"", by="").status == 303
    attempt = stand.agreements(number)[-1]
    back = f"/api/recurring/return/{PARTNER}/{attempt.return_id}"
    story.canaries.add(back=attempt.return_id)
    stand.decide(str(attempt.provider_agreement_id), "approve")
    stand.fault("fetch_agreement", "html", times=1)
    for method in ("GET", "POST", "GET"):
        page = story.ask(method, back, None if method == "GET" else b"", by="")
        assert story.canaries.found_in(page.text, but=(*mine, "back")) == []
        stand.settle()
    stand.live(minutes=30)


def _pay(story: Story, number: int) -> None:
    """Two renewals, whose calls go wrong in every way that there is."""
    stand = story.stand
    for kind in ("500_after", "malformed", "drop_after", "401", "429", "down", "timeout_after"):
        stand.fault("create", kind, times=1)
    stand.live(days=5)
    for call in ("fetch_charge", "list_charges", "fetch_agreement", "token"):
        stand.fault(call, "502", times=2)
    stand.live(days=10)
    for target in (
        f"/api/transactions/search/{PARTNER}/{number}",
        "/api/events",
        f"/api/recurring/subscriptions/{PARTNER}/5/2030-01-01",
    ):
        answer = story.ask("GET", target)
        # What a partner has asked for is its own to read; secrets are not told twice.
        assert story.canaries.found_in(answer.text, but=("number", "address")) == [], target
        story.refused(403 if str(PARTNER) in target else 200, "GET", target, by=basic(OTHER))


def _by_the_other_contract(story: Story, number: int) -> None:
    """Money back by the second contract, through its own words of trouble; and keys that are the partner's own."""
    stand, agreement = story.stand, story.stand.at_vipps(number)
    paid = next(c.name for c in stand.charges(number) if c.status == "CHARGED")
    item = {"agreement_id": agreement, "charge_id": paid, "price": 900, "description": TEXT}
    stand.wire.instead("find_agreement", 500, {"message": f"{PHONE}"})
    # Its contract tells what Vipps has said, to the letter, and to nobody but the partner whose agreement it is.
    story.refused(200, "POST", f"{MODULE}/agreement/get", agreement, but=("number",))
    for mode in ("strict", "fixed"):
        partners.change(PARTNER, partners.Terms(contract_mode=mode))
        story.refused(
            200, "POST", f"{MODULE}/charge/refund", [item, {**item, "price": PHONE}, {**item, "charge_id": "nobody"}]
        )
        told = story.refused(200, "POST", f"{MODULE}/charge/refund", [{**item, "description": f"{TEXT} {PAN}"}])
        assert told.json["errors"] == [f"{paid}: description must not hold the number of a card."]
        story.refused(200, "POST", f"{MODULE}/charge/refund", [item], by=basic(OTHER))
        story.refused(200, "POST", f"{MODULE}/charge/make", [{**item, "charge_id": "x" * 90}])
    token = story.ask("GET", f"{MODULE}/test/auth", by=f"Bearer {story.key}").text
    story.refused(403, "GET", f"{MODULE}/test/auth")
    story.canaries.add(token=token)
    accounts.bring(PARTNER, OWN_UNIT)
    stand.live(days=1)
    rotated = story.ask("POST", "/api/events/endpoint/rotate", b"", Idempotency_Key="key-3").json["secret"]
    story.canaries.add(rotated=rotated.removeprefix("whsec_"))


def _end(story: Story, number: int) -> None:
    """The end, by the member's name; then once more, and by somebody whose member it is not."""
    member = f"/api/recurring/cancel/{PHONE.replace('+', '%2B')}"
    story.refused(404, "DELETE", member, by=basic(OTHER), but=("number",))
    assert story.ask("POST", f"/api/recurring/{PHONE}/resend", {"smsText": TEXT}).status == 409
    assert story.ask("DELETE", member).status == 200
    story.stand.fault("update_agreement", "500_after", times=1)
    story.stand.live(days=2)
    assert story.ask("DELETE", member).status == 400
    assert story.stand.status(number) == "CANCELLED"
    row = story.stand.subscription(number)
    story.refused(410, "GET", f"/s/{row.link_token}", by="", but=("link",))


def test_no_log_and_no_answer_to_a_stranger_holds_what_is_secret(story: Story, capfd: pytest.CaptureFixture[str]):
    live(story)

    for words in ("is put off", "was refused", "Refused: partner", "POST /s/***", "DELETE /api/recurring/cancel/***"):
        assert story.heard.said(words), f"nothing was heard of: {words}"
    assert {got.path.partition("?")[0] for got in story.receiver.got} >= {"/statusCallbackUrl", "/e"}
    singing = {name: line for line in story.heard.lines for name in story.canaries.found_in(line)}
    assert singing == {}
    printed = capfd.readouterr()
    assert story.canaries.found_in(printed.out + printed.err) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_at_rest_no_key_and_no_secret_stands_in_clear(story: Story, tmp_path_factory: pytest.TempPathFactory):
    live(story)

    folder = tmp_path_factory.getbasetemp()
    rest = b"".join(path.read_bytes() for path in folder.glob("invoice.sqlite3*")).decode("latin-1")
    # What the service cannot do without: whom to text and what, and the links that it texts. Addresses of partners
    # stand there without their credentials; whatever else a partner writes into them is no secret to the operator.
    data = {"number", "text", "address", "link", "manage", "back", "hook_address"}
    assert set(story.canaries.found_in(rest)) == data
