"""What people's browsers open, what the providers call, and what operators and their machines look at."""

from __future__ import annotations

from invoice.web.openapi.parts import Answer, Example, Operation, parameter, text
from invoice.web.openapi.samples import LINK, MANAGE, PARTNER, RETURN

_AWAY = {303: Answer("To the next page.", ("Redirection",), ("Location",))}
_OTHER_SITE = {403: Answer("The form belongs to another site (`Sec-Fetch-Site`).", ("Page",))}
_OVER = {409: Answer("Somebody subscribes already.", ("Page",)), 410: Answer("The link is closed.", ("Page",))}
_NOTICE = parameter("notice", "Why the person is back: `try_again` or `refused`.", text())

TABLE = {
    "pages.show_offer": Operation(
        text="Opening it changes nothing.",
        query=(_NOTICE,),
        answers={200: Answer("The offer, with one button.", ("Page",)), **_OVER},
        examples={
            "waiting": Example("A link that waits", 200, given={"token": LINK}),
            "unknown": Example("No such link", 404, given={"token": "unknown"}),
        },
    ),
    "pages.open_consent": Operation(
        answers={**_AWAY, **_OTHER_SITE, **_OVER},
        examples={"waiting": Example("A link that waits", 303, given={"token": LINK})},
    ),
    "pages.see": Operation(
        text="Texts whose links hardly anybody opens are paused.",
        answers={204: Answer("Noted."), **_OTHER_SITE},
        examples={"waiting": Example("A link that waits", 204, given={"token": LINK})},
    ),
    "pages.process": Operation(
        text="Opening it changes nothing.",
        query=(_NOTICE,),
        answers={
            200: Answer("The offer, with one button.", ("Page",)),
            302: Answer("To Vipps, while the first draft is fresh.", ("Redirection",), ("Location",)),
            **_OVER,
        },
        examples={"fresh": Example("A moment after the request", 302, given={"partnerId": PARTNER, "token": LINK})},
    ),
    "pages.come_back": Operation(
        text="Opening it changes nothing.",
        answers={200: Answer("How it stands.", ("Page",))},
        examples={"waiting": Example("A person who waits", 200, given={"partnerId": PARTNER, "returnId": RETURN})},
    ),
    "pages.ring": Operation(
        answers={200: Answer("Whether there is news.", ("State",)), **_OTHER_SITE},
        examples={
            "waiting": Example(
                "A person who waits",
                200,
                given={"partnerId": PARTNER, "returnId": RETURN},
                answer={"state": "waiting"},
            )
        },
    ),
    "pages.manage": Operation(
        query=(parameter("recurring", "The subscription's number, as the app appends it.", text()),),
        answers={200: Answer("The subscription.", ("Page",))},
        examples={"own": Example("A subscription", 200, given={"token": MANAGE})},
    ),
    "pages.ask_to_stop": Operation(
        text="Opening it changes nothing.",
        answers={200: Answer("What stopping means, with one button.", ("Page",)), **_AWAY},
        examples={"own": Example("A subscription", 200, given={"token": MANAGE})},
    ),
    "pages.stop": Operation(
        answers={**_AWAY, **_OTHER_SITE},
        examples={"own": Example("A subscription", 303, given={"token": MANAGE})},
    ),
    "hooks.vipps": Operation(
        text="For Vipps.",
        body="Webhook",
        answers={
            200: Answer("Taken, also what we do not know yet.", ("Nothing",)),
            401: Answer("The signature does not fit.", ("Message",), ("WWW-Authenticate",)),
            404: Answer("There is no such registration.", ("Words",)),
            413: Answer("More than 64 KiB.", ("Message",)),
        },
        examples={
            "unknown": Example(
                "No such registration",
                404,
                given={"registration": "unknown"},
                body={},
                answer="There is no such registration.",
            )
        },
    ),
    "hooks.twilio": Operation(
        text="For Twilio.",
        query=(parameter("seal", "Ours, of this very message; texts from before there were seals lack it.", text()),),
        body="Receipt",
        media_types=("application/x-www-form-urlencoded",),
        answers={
            204: Answer("Taken."),
            400: Answer("It cannot be read.", ("InvalidRequest",)),
            403: Answer("The signature or the seal does not fit.", ("Message",)),
            404: Answer("There is no such message.", ("Words",)),
            413: Answer("More than 64 KiB.", ("Message",)),
        },
        examples={
            "unsigned": Example(
                "Without a signature",
                403,
                given={"messageId": 1},
                body={"MessageSid": "SM1", "MessageStatus": "delivered"},
                answer={"message": "The signature in the X-Twilio-Signature header does not fit."},
            )
        },
    ),
    "health.healthz": Operation(
        answers={200: Answer("It does.", ("Health",))},
        examples={"alive": Example("A living process", 200, answer={"status": "ok"})},
    ),
    "health.readyz": Operation(
        answers={
            200: Answer("Everything holds.", ("Readiness",)),
            503: Answer("What is false does not hold.", ("Readiness",)),
        },
        examples={
            "ready": Example(
                "A service that can work", 200, answer={"database": True, "migrations": True, "engine": True}
            )
        },
    ),
    "api_docs.show_document": Operation(
        answers={200: Answer("The document.", ("Document",))},
        examples={"document": Example("The document", 200)},
    ),
    "api_docs.show_page": Operation(
        answers={200: Answer("The page.", ("Page",))}, examples={"page": Example("The page", 200)}
    ),
    "static": Operation(
        text="For the pages.",
        answers={200: Answer("The file.", ("File",)), 304: Answer("It is the one that you have.")},
        examples={"style": Example("The style of all pages", 200, given={"filename": "site.css"})},
    ),
}
