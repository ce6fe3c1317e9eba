"""A stand-in for Vipps Recurring v3 (tokens and webhooks included) and Twilio's Messages, with a clock to move.

From the ground up; imports only fall, and nothing here imports the rest of the project: a stand-in that shared its
rules would share its mistakes.

facts     market accounts segments wording signing ids    what is fixed: keys, calendars, texts, names
memory    models store clock                              what is remembered, and what time it is
disorder  switches faults limits                          how the vendors may differ or misbehave
world     world act                                       one process; one piece of work in progress
rules     answers problems fields drafts wishes           what a request must look like, and how it is refused
life      agreements charges payments funds events        what happens to consents, money and texts
          messages shapes finding later
engine    engine post time_machine                        what happens by itself when time passes
faces     http breakage idempotency front token_api       the vendors' paths
          agreement_api charge_api webhook_api twilio_api
          control_api disorder_api hooks_api pages        our own paths under /sim, and the landing page
          phone_view landing
front door  reach app serving                             only on this machine, beside nothing real
"""
