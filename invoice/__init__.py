"""Mobile Invoice: send a text, get a paying subscriber.

The floors, from the ground up. Imports only fall (`tests/test_house.py`).

rules       errors config clock lifecycle schedule money phone    pure: no Flask, no database, no network
store       db models queries migrations                          what is remembered, and the only commit
providers   base http vipps twilio                                 the two neighbours, in our words
services    partners operations subscriptions charges messages     the use cases; the only floor that opens
            outbox inbox webhooks jobs                              transactions and calls providers
engine      inline                                                 who runs the recurring work
faces       web/ cli                                               translate and leave

`app.py` joins them. `simulator/` is a house of its own: a stand-in Vipps and a stand-in Twilio.
"""
