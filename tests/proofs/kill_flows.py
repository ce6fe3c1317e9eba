"""The flows that a process dies in, and the table that says which flow reaches which boundary.

A flow is what partners, people and operators do about one thing. It ends by itself; what is still owed then is done
while both sides come to rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.proofs.kill_driver import WEEKLY, Driver
from tests.proofs.kill_world import KEYS, OWNER, PARTNER, START

Flow = Callable[[Driver], None]
_DANE = {"partner": OWNER, "currency": "DKK", "msisdn": "+4520123456"}


def signup(d: Driver) -> None:
    """A request with a text and callbacks, a press that comes too late for its draft, a yes, and its first money."""
    to = d.world.receiver.url
    number = d.subscribe(
        "signup",
        campaignAmount="49",
        sendSMS=True,
        statusCallbackUrl=f"{to}/status?code={{{{statusCode}}}}",
        confirmSubscriptionCallbackUrl=f"{to}/confirm",
        smsStatusCallbackUrl=f"{to}/text",
    )
    for _ in range(3):
        d.pass_time(seconds=20)
    d.pass_time(minutes=5)
    token = d.one("SELECT link_token FROM subscriptions WHERE id = :id", number)
    d.ask("POST", f"/s/{token}/seen")
    d.sign(number)
    d.live(1)


def reminder(d: Driver) -> None:
    """The link is texted once more; nobody ever opens it."""
    number = d.subscribe("reminder", sendSMS=True)
    d.pass_time(seconds=20)
    d.api("POST", f"/api/recurring/{number}/resend", {}, headers={"Idempotency-Key": "again"})
    d.pass_time(seconds=20)
    for day in (5, 10, 16):
        d.world.advance_to(START.replace(day=START.day + day))
        d.work()


def periods(d: Driver) -> None:
    """An endpoint for events, a weekly payment, and a turn of all that is done only now and then."""
    d.api("PUT", "/api/events/endpoint", {"url": d.world.receiver.url})
    d.active("periods")
    d.live(9)


def cancelling(d: Driver) -> None:
    """A cancel while the first renewal waits at Vipps."""
    number, _ = d.active("cancelling", campaignAmount="49")
    d.live(5)
    d.cancel(number)
    d.live(9)


def leaving(d: Driver) -> None:
    """The person ends it behind the link in the app."""
    number, _ = d.active("leaving")
    token = d.one("SELECT manage_token FROM subscriptions WHERE id = :id", number)
    d.ask("POST", f"/manage/{token}/stop")
    d.live(9)


def direct(d: Driver) -> None:
    """Charges, a call-off, a refund and an end by the second contract."""
    _, agreement = d.active("direct", campaignAmount="49")
    paid = d.one("SELECT name FROM charges WHERE period = 0")
    item = {"agreement_id": agreement, "price": 2500, "description": "Kaffe"}
    d.direct("charge/make", [{**item, "charge_id": "one"}, {**item, "charge_id": "two"}], key="make")
    d.direct("agreement/get", agreement)
    d.direct("charge/get", [{"agreement_id": agreement}])
    d.direct("charge/cancel", [{"agreement_id": agreement, "charge_id": "two"}])
    refund = {"agreement_id": agreement, "charge_id": paid, "price": 1900, "description": "Kulanse"}
    d.direct("charge/refund", [refund], key="refund")
    d.live(5)
    d.direct("agreement/cancel", [agreement])
    d.live(9)


def literal(d: Driver) -> None:
    """What the original module told as failed must not happen later; what is over is put to Vipps once more."""
    d.flask("partner", "set", "10295", "--contract-mode", "strict")
    _, agreement = d.active("literal")
    item = {"agreement_id": agreement, "description": "Kaffe"}
    d.doubtful |= {777, 888}
    for price, fault in ((777, "timeout_after"), (888, "429")):
        d.world.fault("create_charge", fault, times=1)
        d.direct("charge/make", [{**item, "price": price}], once=True)
        d.world.http.delete(f"{d.world.vipps_url}/sim/faults")
        d.pass_time(minutes=5)
    d.direct("agreement/cancel", [agreement])
    d.world.fault("update_agreement", "500", times=1)
    d.direct("agreement/cancel", [agreement])
    d.live(4)


def elsewhere(d: Driver) -> None:
    """An agreement that was signed, and a charge that was made, with the partner's own keys and not through us."""
    draft = {
        "pricing": {"type": "LEGACY", "amount": 9900, "currency": "DKK"},
        "interval": {"unit": "MONTH", "count": 1},
        "merchantRedirectUrl": "https://www.example.com/back",
        "merchantAgreementUrl": "https://www.example.com/mine",
        "productName": "Avisen",
    }
    agreement = d.world.merchant("POST", "/recurring/v3/agreements", draft, unit="-dk").json()["agreementId"]
    d.world.control(f"agreements/{agreement}/approve")
    charge = {"amount": 700, "description": "Portal", "due": "2030-01-18", "retryDays": 0}
    charge |= {"transactionType": "DIRECT_CAPTURE", "orderId": "portal-1"}
    d.world.merchant("POST", f"/recurring/v3/agreements/{agreement}/charges", charge, unit="-dk")
    d.live(4)
    key = d.flask("partner", "key", "add", str(OWNER), "--may-see-token").split()[-1]
    d.ask("GET", "/vipps-recurring-payments/test/auth", headers={"Authorization": f"Bearer {key}"})
    refund = {"agreement_id": agreement, "charge_id": "portal-1", "price": 300, "description": "Kulanse"}
    d.direct("charge/refund", [refund], partner=OWNER, key="refund")
    d.live(6)


def change(d: Driver) -> None:
    """A new price on its way to the app, and to the next payment."""
    number, _ = d.active("change")
    _unless(d, "SELECT 1 FROM changes", "change", subscription=number, amount=11000)
    d.live(9)


def ending(d: Driver) -> None:
    """An end with the paid period, taken back, asked for again, and come."""
    number, _ = d.active("ending")
    d.live(4)
    d.act("end_with_period", subscription=number)
    d.pass_time(minutes=10)
    d.act("keep", subscription=number)
    d.act("end_with_period", subscription=number)
    d.live(12)


def reservation(d: Driver) -> None:
    """Money that is set aside: a part is captured and given back, the deadline is told, the rest is let go."""
    number = d.subscribe("reservation", campaignAmount="90", **_DANE)
    d.world.write("UPDATE subscriptions SET reserves_initial = true")
    d.pass_time(minutes=5)
    d.sign(number)
    charge = int(d.one("SELECT id FROM charges WHERE is_reserved"))
    d.pass_time(minutes=5)
    _unless(d, "SELECT 1 FROM operations WHERE kind = 'CAPTURE'", "capture", charge=charge, amount=4000)
    d.pass_time(minutes=5)
    _unless(d, "SELECT 1 FROM refunds", "refund", charge=charge, amount=1500)
    d.live(12)
    d.act("call_off", charge=charge)
    d.live(13)


def _unless(d: Driver, done: str, act: str, **arguments: Any) -> None:
    """Do something whose repetition would be another: whoever saw no answer, or "not yet", looks first."""
    for _ in range(d.tries):
        d.act(act, once=True, **arguments)
        if d.world.rows(done):
            return
        d.pass_time(minutes=5)
    raise AssertionError(f"It cannot be done: {act}")


def office(d: Driver) -> None:
    """What operators do about partners and keys, and partners about their doors and their events."""
    d.flask("partner", "add", "30000", "--name", "Ny", "--originator", "2119")
    d.flask("partner", "set", "30000", "--name", "Nyere")
    d.flask("partner", "suspend", "30000")
    d.flask("partner", "resume", "30000")
    d.flask("partner", "rotate", "30000")
    d.flask("partner", "key", "add", "30000")
    newest = d.one("SELECT max(id) FROM partner_secrets WHERE kind = 'KEY'")
    d.flask("partner", "key", "revoke", "30000", str(newest))
    d.flask("vipps", "keys", "drop", str(OWNER))
    d.flask("vipps", "keys", "set", str(OWNER), *KEYS)
    d.flask("vipps", "keys", "encrypt")
    d.flask("partner", "endpoint", "set", "10295", d.world.receiver.url)
    d.flask("partner", "endpoint", "rotate", "10295")
    d.subscribe("office")
    d.work()
    event = d.api("GET", "/api/events")["events"][0]["id"]
    d.api("POST", f"/api/events/{event}/replay")
    d.flask("partner", "endpoint", "remove", "10295")
    secret = d.flask("partner", "hmac", "on", "10295").split()[-1]
    answered = d.signed(secret, "n1")
    if answered.status_code != 200 and not d.deaths:
        d.strange.append(f"a signature was not taken: {answered.text}")
    d.flask("partner", "hmac", "off", "10295")
    d.ask("GET", "/api/events", auth=("10295", "wrong"))
    d.ask("GET", "/manage/AAAAAAAAAAAAAAAAAAAAAA")
    d.act("end_leases")
    d.live(1)


def lost_draft(d: Driver) -> None:
    """A draft whose answer is lost, and which is accepted all the same."""
    d.world.fault("draft", "timeout_after", times=1)
    number = d.subscribe("lost-draft", campaignAmount="49")
    ulid = d.one("SELECT ulid FROM subscriptions WHERE id = :id", number)
    d._approve(ulid)
    for _ in range(5):
        d.pass_time(minutes=8)
    d.sign(number)
    d.live(2)


def lost_text(d: Driver) -> None:
    """A text that was not sent, although nobody said so; it is looked for, sent again, and once more after a 429."""
    d.world.fault("send_message", "timeout_before", times=1)
    d.subscribe("lost-text", sendSMS=True)
    d.pass_time(minutes=5)
    d.world.fault("send_message", "429", times=1)
    for _ in range(6):
        d.pass_time(minutes=5)


def busy(d: Driver) -> None:
    """Two renewals leave together, while Vipps has had too many calls."""
    d.active("busy")
    d.active("busy as well")
    d.live(3)
    d.world.fault("create_charges", "429", times=1)
    d.live(9)


def held(d: Driver) -> None:
    """A partner's charges are held, and let go in time."""
    d.active("held")
    d.flask("charges", "stop", "--partner", str(PARTNER), "--reason", "a drill")
    d.live(5)
    d.flask("charges", "start", "--partner", str(PARTNER))
    d.live(9)


def forgotten(d: Driver) -> None:
    """A person who never signed, and who is erased; what was sent is forgotten after three months."""
    number = d.subscribe("forgotten", sendSMS=True)
    d.pass_time(minutes=11)
    d.cancel(number)
    d.pass_time(minutes=5)
    d.act("erase", number=WEEKLY["msisdn"])
    if d.one("SELECT msisdn FROM subscriptions WHERE id = :id", number) == WEEKLY["msisdn"]:
        d.strange.append("a number that was to be forgotten")
    d.pass_time(days=89)
    if d.one("SELECT count(*) FROM operations WHERE request <> ''"):
        d.strange.append("a request that was to be forgotten")


def went_back(d: Driver) -> None:
    """The database is set back by some days: nothing leaves until what has happened since is read back."""
    database = d.world.database
    d.active("went-back")
    late = d.subscribe("signs-after-the-backup")
    d.between(database.keep, "point")
    d.pass_time(minutes=11)  # the first draft is over: the next one is known to Vipps alone
    d.sign(late)
    d.live(5)
    d.between(database.restore, "point")
    d.work()
    d.flask("reconcile")
    d.work()
    d.flask("charges", "start")
    d.live(9)


def strangers(d: Driver) -> None:
    """A registration for webhooks that is gone, one that nobody knows, and news of an agreement that is not ours."""
    there = d.world.merchant("GET", "/webhooks/v1/webhooks").json()["webhooks"]
    draft = {
        "pricing": {"type": "LEGACY", "amount": 9900, "currency": "NOK"},
        "interval": {"unit": "MONTH", "count": 1},
        "merchantRedirectUrl": "https://www.example.com/back",
        "merchantAgreementUrl": "https://www.example.com/mine",
        "productName": "Another's",
        "externalId": "another",
    }
    agreement = d.world.merchant("POST", "/recurring/v3/agreements", draft).json()["agreementId"]
    d.world.control(f"agreements/{agreement}/approve")
    d.pass_time(minutes=1)
    d.pass_time(minutes=1)
    d.world.control(f"agreements/{agreement}/stop")
    for each in there:
        d.world.merchant("DELETE", f"/webhooks/v1/webhooks/{each['id']}")
    orphan = {"url": f"{d.world.service_url}/hooks/vipps/nobodys", "events": ["recurring.agreement-activated.v1"]}
    d.world.merchant("POST", "/webhooks/v1/webhooks", orphan)
    d.live(1.5)
    d.active("strangers")
    d.live(2)


FLOWS: dict[str, Flow] = {
    flow.__name__: flow
    for flow in (
        *(signup, reminder, periods, cancelling, leaving, direct, literal, elsewhere, change, ending),
        *(reservation, office, lost_draft, lost_text, busy, held, forgotten, went_back, strangers),
    )
}

# boundary -> the flow that reaches it
REACHED_BY: dict[str, str] = {
    boundary: flow
    for flow, reached in {
        "went_back": (
            *("journal.watch", "reconcile.run#1", "reconcile.run#2", "reconcile._take_up"),
            *("reconcile._enter#1", "reconcile._enter#2"),
        ),
        "signup": (
            *("subscriptions._accept", "idempotency._take", "idempotency._write", "throttle.count_request"),
            *("consents.open", "consents._draft_anew", "consents.ring", "consents.refresh", "messages.receive"),
            *("operations.claim_next", "operations._settle", "inbox.take_webhook", "inbox.take_receipt"),
            *("deliveries._claim", "deliveries._settle", "feed.place", "jobs.beat", "jobs._to_check", "limits.take"),
            *("payments.draft_agreement", "payments.find_agreement", "payments.list_charges"),
            *("sms.send", "partners.call", "openings.mark", "throttle.count_press"),
        ),
        "reminder": ("subscriptions.resend", "subscriptions.expire"),
        "periods": (
            *("plans._plan_slice", "batches._submit_batch", "charges.refresh", "jobs._take", "jobs._finish"),
            *("sweep._call_roll_of", "sweep._next_page", "credentials.forget_nonces", "idempotency.forget_old"),
            *("limits.forget_old", "payments.create_charge", "payments.find_charge", "payments.list_webhooks"),
            *("payments.page_of_agreements", "proof.check", "openings.pause_unopened"),
            *("jobs._to_read_back", "charges.read_back"),
        ),
        "cancelling": ("subscriptions.cancel_for", "payments.stop_agreement"),
        "leaving": ("subscriptions.cancel",),
        "direct": (
            *("direct.stop", "direct.cancel", "direct._ask_for", "extras._enter", "idempotency.bind"),
            *("payments.check_keys", "payments.show_agreement", "payments.show_charges", "payments.cancel_charge"),
            *("refunds._count_from", "payments.refund_charge"),
        ),
        "literal": ("direct._look_again", "extras._call_off", "operations._give_up", "partners.change"),
        "elsewhere": ("scopes._adopt", "scopes._enter_charge", "payments.access_token"),
        "change": ("changes.change", "payments.update_agreement"),
        "ending": ("endings.end_with_period", "endings.keep", "endings.end"),
        "reservation": (
            *("captures.capture", "captures._count_from", "captures.warn", "cancels.cancel", "refunds.refund"),
            "payments.capture_charge",
        ),
        "office": (
            *("partners.add", "partners.suspend", "partners.resume", "partners.rotate", "partners.add_key"),
            *("partners.revoke_key", "partners.turn_hmac_on", "partners.turn_hmac_off", "accounts.bring"),
            *(
                "accounts.leave",
                "accounts.encrypt_anew#1",
                "accounts.encrypt_anew#2",
                "endpoints.put",
                "endpoints.rotate",
                "endpoints.remove",
            ),
            *("credentials._verify_signature", "throttle.count_failure", "throttle.count_guess"),
            *("feed._send_again", "operations.end_leases"),
        ),
        "lost_draft": ("consents.find", "inbox.claim_unread", "inbox.place#2", "payments.list_agreements"),
        "lost_text": ("messages._wait_for_evidence", "messages._uncount", "operations.put_back", "sms.find"),
        "busy": ("limits.hold", "payments.create_charges"),
        "held": ("brakes.stop", "brakes.start"),
        "forgotten": ("persons._erase", "privacy._forget_batch"),
        "strangers": ("webhooks._register", "payments.register_webhook", "payments.delete_webhook"),
    }.items()
    for boundary in reached
}
# boundary -> why no flow can reach it
UNREACHED = {
    "inbox.place#1": "what cannot be read is never stored: only a version that reads less would come here",
    "openings.resume": "wants two hundred texts that nobody opens; an operator who sees no answer says it again",
    "payments.find_charge_by_name": "for support by hand; nothing in the service asks it",
}
