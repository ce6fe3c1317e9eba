"""Every error that the house raises, as one tree.

InvoiceError
  RequestError          the caller's doing; nothing changed
    Invalid             a value is missing or wrong (names the field)
    NotFound            no such thing, or not this caller's
    Conflict            the thing exists but is in no state for this
      Busy              the same is being done right now; ask again in a moment
    KeyReused           an idempotency key that stands for another request
    Limited             more than is allowed; ask again later
    Unauthenticated     no or wrong credentials
    Forbidden           right credentials, somebody else's resource
  ProviderError         a neighbour's doing
    ProviderRefused     a definite no: nothing happened, asking again will not help
    ProviderDenied      our keys were refused: nothing happened, an operator must look
    ProviderUnavailable not now: the call never arrived or was turned away; safe to send again
    ProviderUncertain   it may have happened: ask by name before sending again
  Unreadable            what rests sealed opens with none of our keys, or was changed
  ConfigError           the settings are incomplete or contradict each other

With money the one distinction that matters is *no* against *do not know*.
The class docstring is the default message. No message holds a secret or a whole phone number.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Exchange:
    """A call to a neighbour and its answer, as they went over the wire, for those who tell it word by word."""

    method: str
    url: str
    status: int
    reason: str
    body: bytes = field(repr=False)


class InvoiceError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)


class RequestError(InvoiceError):
    """The request cannot be carried out."""


class Invalid(RequestError):
    """The request is invalid."""

    def __init__(self, errors: dict[str, list[str]] | None = None, message: str | None = None) -> None:
        """errors: wire field name -> what is wrong with it, in sentences that name the field."""
        self.errors = errors or {}
        super().__init__(message)


class NotFound(RequestError):
    """Not found."""


class Conflict(RequestError):
    """The resource is not in a state for this."""


class Busy(Conflict):
    """The same request is being carried out right now."""

    retry_after_s = 2


class KeyReused(RequestError):
    """This Idempotency-Key stands for another request. Use a new one."""


class Limited(RequestError):
    """Too many requests."""

    def __init__(self, message: str | None = None, *, retry_after_s: int) -> None:
        """retry_after_s: seconds after which it may be asked again."""
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Unauthenticated(RequestError):
    """Authorization has been denied for this request."""


class Forbidden(RequestError):
    """These credentials do not give access to this resource."""


class ProviderError(InvoiceError):
    """The provider did not do what was asked."""

    exchange: Exchange | None = None  # the answer that says so, where there was one
    failure = ""  # where there was none: "connect", "timeout" or "broken"

    @property
    def origin(self) -> ProviderError:
        """The first of the errors that this one was raised from: it knows what went over the wire."""
        cause = self.__cause__
        return cause.origin if isinstance(cause, ProviderError) else self


class ProviderRefused(ProviderError):
    """The provider refused."""

    def __init__(self, message: str | None = None, *, status: int = 0, problem: str = "") -> None:
        """status: HTTP status.  problem: the provider's own identifier of the problem, or empty."""
        self.status = status
        self.problem = problem
        super().__init__(message)


class ProviderDenied(ProviderError):
    """The provider refused our keys."""


class ProviderUnavailable(ProviderError):
    """The provider cannot be reached."""

    def __init__(
        self, message: str | None = None, *, retry_after_s: float | None = None, is_throttled: bool = False
    ) -> None:
        """retry_after_s: what it asked us to wait.  is_throttled: it said that there are too many calls."""
        self.retry_after_s = retry_after_s
        self.is_throttled = is_throttled
        super().__init__(message)


class ProviderUncertain(ProviderError):
    """The provider's answer is not known."""


class Unreadable(InvoiceError):
    """What is stored opens with no key of INVOICE_SECRET_KEY: one is missing from it, or the row was changed."""


class ConfigError(InvoiceError):
    """The settings are incomplete."""
