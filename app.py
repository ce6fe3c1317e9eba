"""The front door: settings -> providers -> services -> blueprints -> Flask application. Nothing imports it."""

from __future__ import annotations

from pathlib import Path

import click
from flask import Flask
from flask.cli import NoAppException
from flask_migrate import Migrate
from werkzeug.middleware.proxy_fix import ProxyFix

from invoice.cli.demo import demo_command
from invoice.cli.processes import ENGINE, SETTINGS
from invoice.cli.service import run_command, worker_command
from invoice.config import Settings, environ
from invoice.engine.inline import Engine
from invoice.errors import ConfigError
from invoice.providers.base import PaymentProvider, SmsProvider
from invoice.providers.guard import Guard
from invoice.providers.outbound import PartnerPipe
from invoice.providers.twilio import TwilioClient
from invoice.providers.vipps import VippsClient
from invoice.providers.vipps_caller import SalesUnit
from invoice.services.accounts import AccountKeys, Accounts
from invoice.services.audit import Audit
from invoice.services.batches import Batches
from invoice.services.cancels import Cancels
from invoice.services.captures import Captures
from invoice.services.changes import Changes
from invoice.services.charges import Charges
from invoice.services.consents import Consents
from invoice.services.deliveries import Deliveries
from invoice.services.direct import Direct
from invoice.services.doctor import Doctor
from invoice.services.drafts import Drafts
from invoice.services.endpoints import Endpoints
from invoice.services.extras import Extras
from invoice.services.health import MIGRATIONS
from invoice.services.inbox import Inbox
from invoice.services.invitations import Invitations
from invoice.services.jobs import Jobs, Services
from invoice.services.journal import Journal
from invoice.services.limits import SharedRates
from invoice.services.messages import Messages
from invoice.services.openings import Openings
from invoice.services.operations import Operations
from invoice.services.plans import Plans
from invoice.services.reconcile import Reconcile
from invoice.services.refunds import Refunds
from invoice.services.scopes import Scopes
from invoice.services.stops import Stops
from invoice.services.subscriptions import Subscriptions
from invoice.services.sweep import Sweep
from invoice.services.webhooks import WebhookRegistrations
from invoice.store.db import db, install_engine_settings, set_encryption_keys
from invoice.web import (
    api_docs,
    bodies,
    errors,
    events,
    formats,
    headers,
    health,
    hooks,
    idempotency,
    logs,
    mobile_invoice,
    pages,
    recurring_payments,
    refusals,
    transactions,
)
from invoice.web import services as reach
from invoice.web.invites import invite_text
from invoice.web.links import TokenConverter


def create_app(
    settings: Settings | None = None,
    *,
    payments: PaymentProvider | None = None,
    sms: SmsProvider | None = None,
    partners: PartnerPipe | None = None,
) -> Flask:
    """Build the application.

    settings: by default from the environment.  payments, sms: the providers, by default Vipps and Twilio.
    partners: the pipe to partners' own addresses, by default one that leads to public hosts only.
    Raises ConfigError when settings are missing or wrong.
    """
    settings = settings or _settings()
    app = Flask(__name__, static_folder=str(Path(formats.__file__).parent / "static"))
    _open_store(app, settings)
    equip(app, settings, payments=payments, sms=sms, partners=partners)
    _open_faces(app, settings)
    return app


def equip(
    app: Flask,
    settings: Settings,
    *,
    payments: PaymentProvider | None = None,
    sms: SmsProvider | None = None,
    partners: PartnerPipe | None = None,
) -> None:
    """Give an application its providers, use cases and engine: all that a process keeps in its memory."""
    accounts = _accounts(settings, payments)
    sms = sms or TwilioClient(settings.twilio_base_url, settings.twilio_account_sid, settings.twilio_auth_token)
    services = build_services(settings, accounts, sms, partners)
    app.extensions.update(
        {
            reach.SERVICES: services,
            reach.PAYMENTS: accounts.own,
            reach.SMS: sms,
            reach.PUBLIC_URL: settings.invoice_public_url,
            reach.PUBLIC_HOSTS: settings.public_hosts,
            refusals.REFUSALS: refusals.Refusals(),
            ENGINE: Engine(app, Jobs(services), Journal(settings.invoice_journal, settings.invoice_database_url)),
            SETTINGS: settings,
        }
    )


def _settings() -> Settings:
    """Read the environment; what is wrong with it is told by the `flask` program without a traceback."""
    try:
        return Settings.from_environ(environ())
    except ConfigError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise NoAppException(error.message) from error


def build_services(
    settings: Settings, accounts: Accounts, sms: SmsProvider, partners: PartnerPipe | None = None
) -> Services:
    """Join the use cases; each gets exactly what it needs."""
    partners = partners or PartnerPipe(Guard(allows_this_machine=settings.is_local, hosts=settings.callback_hosts))
    operations = Operations()
    drafts = Drafts(settings, accounts, operations)
    consents = Consents(settings, accounts, operations, drafts)
    Stops(accounts, operations)
    webhooks = WebhookRegistrations(settings, accounts)
    batches, scopes = Batches(settings, accounts, operations), Scopes(accounts)
    extras = Extras(settings, operations, batches, scopes)
    return Services(
        accounts=accounts,
        operations=operations,
        subscriptions=Subscriptions(settings, operations, drafts, Invitations(settings, invite_text), partners.guard),
        consents=consents,
        changes=Changes(accounts, operations),
        plans=Plans(settings, accounts),
        batches=batches,
        charges=Charges(accounts),
        captures=Captures(accounts, operations),
        cancels=Cancels(accounts, operations),
        refunds=Refunds(accounts, operations),
        inbox=Inbox(accounts.own, consents, Messages(sms, operations)),
        webhooks=webhooks,
        sweep=Sweep(accounts, consents),
        rates=SharedRates(),
        doctor=Doctor(settings, webhooks),
        deliveries=Deliveries(partners),
        endpoints=Endpoints(partners.guard),
        direct=Direct(accounts, operations, scopes, extras),
        audit=Audit(settings, accounts),
        reconcile=Reconcile(settings, accounts, consents),
        openings=Openings(settings),
    )


def _accounts(settings: Settings, payments: PaymentProvider | None) -> Accounts:
    """Return the payment accounts; `payments` stands in for all of them."""
    if payments is not None:
        return Accounts(payments, lambda _keys: payments)

    def connect(keys: AccountKeys) -> VippsClient:
        unit = SalesUnit(keys.client_id, keys.client_secret, keys.subscription_key, keys.account)
        return VippsClient(settings.vipps_base_url, unit, settings.landing_domains, rates=SharedRates())

    own = AccountKeys(
        account=settings.vipps_merchant_serial_number,
        client_id=settings.vipps_client_id,
        client_secret=settings.vipps_client_secret,
        subscription_key=settings.vipps_subscription_key,
    )
    return Accounts(connect(own), connect)


def _open_store(app: Flask, settings: Settings) -> None:
    is_sqlite = settings.invoice_database_url.startswith("sqlite")
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.invoice_database_url
    # What stands in a statement are phone numbers and texts: no error and no log line may show it.
    pool = {"pool_size": 10, "max_overflow": 20, "hide_parameters": True}
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = pool if is_sqlite else {**pool, "pool_pre_ping": True}
    set_encryption_keys(settings.invoice_secret_key)
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS), render_as_batch=True)
    with app.app_context():
        install_engine_settings(db.engine)


def _open_faces(app: Flask, settings: Settings) -> None:
    app.config["MAX_CONTENT_LENGTH"] = bodies.MAX_BYTES
    app.config["TRUSTED_HOSTS"] = settings.trusted_hosts
    if settings.invoice_trusted_proxies:  # without any, whoever calls could name any address as its own
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.invoice_trusted_proxies, x_proto=0, x_host=0, x_port=0, x_prefix=0
        )
    app.json.ensure_ascii = app.json.sort_keys = False  # type: ignore[attr-defined]
    # A text message is no page: what a partner calls its product stands in it as it is.
    app.jinja_env.autoescape = lambda name: not (name or "").endswith(".txt")
    app.url_map.converters["token"] = TokenConverter
    formats.make_babel(app)
    formats.register(app)
    logs.prepare()
    errors.register(app)
    is_https = settings.invoice_public_url.startswith("https")
    headers.register(app, form_targets=settings.form_targets, is_https=is_https)
    idempotency.register(app)
    refusals.register(app)
    for face in (mobile_invoice, transactions, events, recurring_payments, pages, hooks, health):
        app.register_blueprint(face.blueprint)
    api_docs.register(app)


demo = demo_command(create_app)
run = run_command()
worker = worker_command()
