"""The main job, end to end: a POST becomes a paying subscriber, and a cancel ends it for good."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta

import pytest

from tests.journeys.demo import Demo, approve, disagreements, press

pytestmark = pytest.mark.journey

# The documented payload, byte for byte: no-break spaces stand in it, also between its tokens.
DOCUMENTED = (
    '{\n"partnerId":"10295",\n"msisdn":"+4712457890",\n"currency":"NOK",\n'
    '"orderNumber":"unique-order-number-12346",\n"amount":"12.50",\n"campaignAmount":"10",\u00a0 \n'
    '"paymentProvider":"Vipps",\n'
    '"description":"Recurring\u00a0 payment\u00a0 subscription\u00a0 request",\n"basis":"1",\n'
    '"agreementUrl":"https://www.merchantwebsite.com",\n"name":"The\u00a0 name\u00a0 of\u00a0 the\u00a0 product",\n'
    '"sendSMS":"true",\n"smsText":"Click\u00a0 to\u00a0 proceed",\n"smsNotificationOriginator":"2119"\n}'
).encode()

MONTHLY = {
    "partnerId": 10295,
    "msisdn": "+4791234567",
    "currency": "NOK",
    "orderNumber": "gym-1",
    "amount": 299,
    "campaignAmount": 49,
    "paymentProvider": "Vipps",
    "description": "Trening hele måneden",
    "basis": 2,
    "name": "Treningssenter",
    "sendSMS": True,
    "smsText": "Velkommen! {{url}}",
}


def the_31st_after(day: date) -> date:
    day += timedelta(days=1)
    while day.day != 31:
        day += timedelta(days=1)
    return day


@pytest.fixture
def months(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--months"))


def month_ends(anchor: date, count: int) -> list[str]:
    """The same day of each following month, or its last: counted by hand, without our calendar code."""
    found = []
    for k in range(1, count + 1):
        year, month = divmod(anchor.year * 12 + anchor.month - 1 + k, 12)
        found.append(date(year, month + 1, min(anchor.day, monthrange(year, month + 1)[1])).isoformat())
    return found


def test_the_documented_payload_is_answered_and_texted(demo: Demo):
    answer = demo.subscribe(DOCUMENTED)
    demo.advance(seconds=5)

    assert answer.status_code == 200, answer.text
    assert (answer.json()["method"], answer.json()["fields"]) == ("GET", {})
    assert answer.json()["url"].startswith(f"{demo.service}/api/recurring/process/10295/")
    [text] = demo.texts("+4712457890")
    assert text["from"] == "2119"
    assert text["body"].startswith(f"Click to proceed {demo.service}/s/")


def test_a_request_becomes_renewals_and_a_cancel_ends_them(demo: Demo, months: int):
    # Signed on the 31st, at noon, whatever the hour is now: late in the evening the date in Oslo is another one.
    now, anchor = demo.now(), the_31st_after(demo.now().date())
    noon = datetime.combine(anchor, time(12), UTC)
    demo.advance(seconds=int((noon - now).total_seconds()))

    # A POST, a text, a link, a yes.
    answer = demo.subscribe(MONTHLY).json()
    demo.advance(seconds=5)
    [text] = demo.texts("+4791234567")
    back = approve(demo, press(demo, text["links"][0]))
    assert back.startswith(f"{demo.service}/api/recurring/return/10295/")
    assert demo.get(back).status_code == 200
    demo.advance(seconds=5)
    assert demo.post(back).json() == {"state": "done"}

    # Active, and the first money is taken.
    [listed] = demo.listed()
    assert (listed["subscriptionId"], listed["chargeStatus"]) == (answer["subscriptionId"], "Active")
    assert [(c["type"], c["status"], c["amount"]) for c in demo.ledger()["charges"]] == [("INITIAL", "CHARGED", 4900)]

    demo.advance(months=months)
    demo.advance(days=1)
    renewals = sorted(
        (c["due"][:10], c["amount"])
        for c in demo.ledger()["charges"]
        if c["status"] == "CHARGED" and c["type"] != "INITIAL"
    )
    assert renewals == [(due, 29900) for due in month_ends(anchor, months)]
    assert disagreements(demo) == []

    # The end, and a month of nothing, in which one more would have fallen due.
    assert demo.cancel(answer["subscriptionId"]).status_code == 200
    demo.advance(minutes=5)
    [agreement] = demo.ledger()["agreements"]
    assert agreement["status"] == "STOPPED"
    assert demo.listed()[0]["chargeStatus"] == "Cancelled"
    before = demo.ledger()
    demo.advance(days=32)
    assert demo.ledger() == before
    assert disagreements(demo) == []


def test_the_manage_link_shows_and_stops_the_subscription(demo: Demo):
    answer = demo.subscribe(MONTHLY).json()
    demo.advance(seconds=5)
    approve(demo, press(demo, demo.texts("+4791234567")[0]["links"][0]))
    demo.advance(seconds=5)
    [listed] = demo.listed()
    manage = listed["agreementUrl"]
    assert manage.endswith(f"?recurring={answer['subscriptionId']}")

    shown = demo.get(manage)
    confirm = demo.get(manage.split("?")[0] + "/stop")
    stopped = demo.post(manage.split("?")[0] + "/stop")
    demo.advance(minutes=5)

    assert "Treningssenter" in shown.text
    assert confirm.status_code == stopped.status_code == 200
    assert demo.listed()[0]["chargeStatus"] == "Cancelled"


def test_a_stop_in_the_app_ends_the_subscription(demo: Demo):
    demo.subscribe(MONTHLY)
    demo.advance(seconds=5)
    approve(demo, press(demo, demo.texts("+4791234567")[0]["links"][0]))
    demo.advance(seconds=5)
    [agreement] = demo.ledger()["agreements"]

    demo.post(f"{demo.simulator}/sim/agreements/{agreement['id']}/stop")
    demo.advance(minutes=1)

    assert demo.listed()[0]["chargeStatus"] == "Stopped"


@pytest.mark.parametrize("fault", ["down", "html", "drop_after"])
def test_vipps_in_trouble_loses_nothing(demo: Demo, fault: str):
    """Accepted while Vipps fails; the work is done when it is back. Every fault at every call: `test_failures`."""
    demo.begin_fault("*", fault)
    answer = demo.subscribe(MONTHLY)
    assert answer.status_code == 200, answer.text
    demo.advance(minutes=1)
    demo.end_faults()
    demo.advance(minutes=30)

    landing = press(demo, demo.texts("+4791234567")[0]["links"][0])
    approve(demo, landing)
    demo.begin_fault("*", fault)
    demo.advance(hours=30)
    demo.end_faults()
    demo.advance(days=35)

    assert demo.listed()[0]["chargeStatus"] == "Active"
    assert disagreements(demo) == []
    assert len([c for c in demo.ledger()["charges"] if c["status"] == "CHARGED"]) == 2
    assert len(demo.texts("+4791234567")) == 1


def test_a_second_demo_on_the_same_data_says_so(demo: Demo):
    other = Demo(demo.data)

    with pytest.raises(AssertionError, match="Another demo runs"):
        other.start()


def test_no_log_holds_a_number_a_secret_a_link_or_a_text(demo: Demo):
    demo.begin_fault("send_message", "500_after")
    demo.subscribe({**MONTHLY, "smsText": "CANARY-TEXT {{url}}"})
    demo.advance(minutes=2)
    demo.end_faults()
    demo.begin_fault("*", "502")
    demo.advance(minutes=30)
    demo.end_faults()
    demo.advance(minutes=30)
    [link] = demo.texts("+4791234567")[0]["links"]
    approve(demo, press(demo, link))
    demo.get(link + "x")
    demo.advance(days=40)

    log = (demo.data.parent / "demo.log").read_text()
    assert "is put off" in log, "the faults were logged"
    for canary in ("91234567", demo.secret, link.rpartition("/")[2], "CANARY-TEXT", "demo-secret", "Bearer", "eyJ"):
        assert canary not in log
