"""What the examples speak of: partner 10295's subscriptions and payments.

What is drawn at random stands here under a name, so that whoever sends the examples can put what was really drawn in
its place.
"""

from __future__ import annotations

from typing import Any

PARTNER = 10295
# Source: the Mobile Invoice document; every value is a text in it.
DOCUMENTED: dict[str, Any] = {
    "partnerId": "10295",
    "msisdn": "+4712457890",
    "currency": "NOK",
    "orderNumber": "unique-order-number-12346",
    "amount": "12.50",
    "campaignAmount": "10",
    "paymentProvider": "Vipps",
    "description": "Recurring payment subscription request",
    "basis": "1",
    "agreementUrl": "https://www.merchantwebsite.com",
    "name": "The name of the product",
    "sendSMS": "true",
    "smsText": "Click to proceed",
    "smsNotificationOriginator": "2119",
}

# Subscription 1 is the documented one, accepted a moment ago; 2 waits for its person; 3 has money set aside.
LINK, RETURN, MANAGE = "ota-Cb2ZeR1TpvYN5nWTLg", "b1VtJ9sYQ0mZlR8yK2nQdw", "Qm9Yc3VwM2Vyc2VjcmV0MQ"
AGREEMENT, REFERENCE = "agr_UVUFcx3", "01M7Z43SSX6QPQWMV4G9QFACPA-p0000-a0"
TRANSACTION, RESERVED = "6c1658de-e57e-5996-82f7-82848b8a2756", "0d2f3f0e-7a53-5e0e-9d58-0a8f8f6f3d11"
EVENT, NEXT_EVENT = "evt_3d1f0b8a6c8e5b0f9e6f1d2c3b4a5968", "evt_8c6e5b0f9e6f1d2c3b4a59683d1f0b8a"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 - an example
UNKNOWN_GUID, UNKNOWN_EVENT = "a3bb189e-8bf9-4888-9912-ace4e6543002", "evt_" + "0" * 32
