"""Every SELECT that needs a name, the claims, and the rings. Each is bounded and ordered.

All of them run inside the caller's `transaction()` or `reading()`. A file for each noun; this is their one door.
"""

# ruff: noqa: F403
from invoice.store.queries.agreements import *
from invoice.store.queries.brakes import *
from invoice.store.queries.charges import *
from invoice.store.queries.deliveries import *
from invoice.store.queries.direct import *
from invoice.store.queries.due import *
from invoice.store.queries.expected import *
from invoice.store.queries.marks import *
from invoice.store.queries.messages import *
from invoice.store.queries.partners import *
from invoice.store.queries.privacy import *
from invoice.store.queries.proof import *
from invoice.store.queries.proof_life import *
from invoice.store.queries.subscriptions import *
from invoice.store.queries.work import *
