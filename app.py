"""The front door: settings -> providers -> services -> blueprints -> Flask application. Nothing imports it."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask_migrate import Migrate

from invoice.cli.demo import demo_command
from invoice.cli.processes import ENGINE, SETTINGS
from invoice.cli.service import run_command, worker_command
from invoice.config import Settings, environ
from invoice.engine.inline import Engine
from invoice.providers.base import PaymentProvider, SmsProvider
from invoice.providers.twilio import TwilioClient
from invoice.providers.vipps import VippsClient
from invoice.providers.vipps_caller import SalesUnit
from invoice.services.accounts import AccountKeys, Accounts
from invoice.services.batches import Batches
from invoice.services.cancels import Cancels
from invoice.services.captures import Captures
from invoice.services.changes import Changes
from invoice.services.charges import Charges
from invoice.services.consents import Consents
from invoice.services.doctor import Doctor
from invoice.services.drafts import Drafts
from invoice.services.health import MIGRATIONS
from invoice.services.inbox import Inbox
from invoice.services.jobs import Jobs, Services
from invoice.services.limits import SharedRates
from invoice.services.messages import Messages
from invoice.services.operations import Operations
from invoice.services.plans import Plans
from invoice.services.refunds import Refunds
from invoice.services.stops import Stops
from invoice.services.subscriptions import Subscriptions
from invoice.services.sweep import Sweep
from invoice.services.webhooks import WebhookRegistrations
from invoice.store.db import db, install_engine_settings, set_encryption_keys
from invoice.web import bodies, errors, formats, headers, health, hooks, logs, mobile_invoice, pages
from invoice.web import services as reach
from invoice.web.invites import invite_text
from invoice.web.links import TokenConverter


def create_app(
    settings: Settings | None = None, *, payments: PaymentProvider | None = None, sms: SmsProvider | None = None
) -> Flask:
    """Build the application.

    settings: by default from the environment.  payments, sms: the providers, by default Vipps and Twilio.
    Raises ConfigError when settings are missing or wrong.
    """
    settings = settings or Settings.from_environ(environ())
    app = Flask(__name__, static_folder=str(Path(formats.__file__).parent / "static"))
    _open_store(app, settings)
    accounts = _accounts(settings, payments)
    sms = sms or TwilioClient(settings.twilio_base_url, settings.twilio_account_sid, settings.twilio_auth_token)
    services = build_services(settings, accounts, sms)
    app.extensions.update(
        {
            reach.SERVICES: services,
            reach.PAYMENTS: accounts.own,
            reach.SMS: sms,
            reach.PUBLIC_URL: settings.invoice_public_url,
        }
    )
    engine = Engine(app, Jobs(services))
    app.extensions[ENGINE], app.extensions[SETTINGS] = engine, settings
    _open_faces(app, settings)
    return app


def build_services(settings: Settings, accounts: Accounts, sms: SmsProvider) -> Services:
    """Join the use cases; each gets exactly what it needs."""
    operations = Operations()
    drafts = Drafts(settings, accounts, operations)
    consents = Consents(settings, accounts, operations, drafts)
    Stops(accounts, operations)
    webhooks = WebhookRegistrations(settings, accounts)
    return Services(
        accounts=accounts,
        operations=operations,
        subscriptions=Subscriptions(settings, operations, drafts, invite_text),
        consents=consents,
        changes=Changes(accounts, operations),
        plans=Plans(settings, accounts),
        batches=Batches(settings, accounts, operations),
        charges=Charges(accounts),
        captures=Captures(accounts, operations),
        cancels=Cancels(accounts, operations),
        refunds=Refunds(accounts, operations),
        inbox=Inbox(accounts.own, consents, Messages(sms, operations)),
        webhooks=webhooks,
        sweep=Sweep(accounts, consents),
        rates=SharedRates(),
        doctor=Doctor(settings, webhooks),
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
    pool = {"pool_size": 10, "max_overflow": 20}
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = pool if is_sqlite else {**pool, "pool_pre_ping": True}
    set_encryption_keys(settings.invoice_secret_key)
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS), render_as_batch=True)
    with app.app_context():
        install_engine_settings(db.engine)


def _open_faces(app: Flask, settings: Settings) -> None:
    app.config["MAX_CONTENT_LENGTH"] = bodies.MAX_BYTES
    app.config["TRUSTED_HOSTS"] = settings.trusted_hosts
    app.json.ensure_ascii = app.json.sort_keys = False  # type: ignore[attr-defined]
    # A text message is no page: what a partner calls its product stands in it as it is.
    app.jinja_env.autoescape = lambda name: not (name or "").endswith(".txt")
    app.url_map.converters["token"] = TokenConverter
    formats.make_babel(app)
    formats.register(app)
    logs.hide_links()
    errors.register(app)
    is_https = settings.invoice_public_url.startswith("https")
    headers.register(app, form_targets=settings.form_targets, is_https=is_https)
    for face in (mobile_invoice, pages, hooks, health):
        app.register_blueprint(face.blueprint)


demo = demo_command(create_app)
run = run_command()
worker = worker_command()
