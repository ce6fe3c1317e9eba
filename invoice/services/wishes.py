"""What a partner asks for, as values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256

from invoice.lifecycle import Channel, Interval


@dataclass(frozen=True)
class SubscriptionRequest:
    """What a partner asks for; amounts in minor units, the number as E.164."""

    msisdn: str
    currency: str
    amount: int
    campaign_amount: int | None
    interval: Interval
    name: str
    description: str
    order_number: str | None
    member_id: str | None
    agreement_url: str | None
    # Credentials may stand in them.
    status_callback_url: str | None = field(repr=False)
    confirm_callback_url: str | None = field(repr=False)
    send_sms: bool
    sms_text: str | None
    sms_originator: str | None
    sms_callback_url: str | None = field(default=None, repr=False)

    @property
    def digest(self) -> bytes:
        """The same for the same wish, however it was spelled."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).digest()

    @property
    def callback_urls(self) -> dict[Channel, str | None]:
        """The templated callbacks, as they came."""
        return {
            Channel.STATUS: self.status_callback_url,
            Channel.CONFIRM: self.confirm_callback_url,
            Channel.SMS: self.sms_callback_url,
        }

    @property
    def initial_amount(self) -> int:
        """What is taken at signing: the campaign's amount (0: a free first period), or else a whole period."""
        return self.amount if self.campaign_amount is None else self.campaign_amount
