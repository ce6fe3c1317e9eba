"""`python -m tests.proofs.boundaries`: every place between two of which a process can die with something half done.

They are read from the code, so that none can be forgotten: each `with transaction()` of the services, and each verb of
the three ports that goes over the wire.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SERVICES = ROOT / "invoice" / "services"
_PORTS = {
    "PaymentProvider": ("payments", "invoice/providers/base.py"),
    "SmsProvider": ("sms", "invoice/providers/base.py"),
    "PartnerPipe": ("partners", "invoice/providers/outbound.py"),
}
# Verbs of a port that ask nobody: they freeze a body, compare, or read what has come.
ASK_NOBODY = frozenset(
    f"payments.{verb}"
    for verb in (
        *("draft_request", "terms_request", "charges_request", "charge_request", "capture_request", "refund_request"),
        *("clock_skew", "shows", "fault_of", "is_genuine", "read_webhook"),
    )
) | {"sms.is_genuine", "sms.read_receipt"}


@dataclass(frozen=True)
class Block:
    """A `with transaction()`: file and line say where it is, name what it is called."""

    name: str
    module: str
    line: int


@cache
def blocks() -> tuple[Block, ...]:
    """Return the transactions of the services, in the order of the code.

    Each is called `module.function`; of several in one function, or in functions of one name, `module.function#2`.
    """
    found = [(path.stem, *place) for path in sorted(_SERVICES.glob("*.py")) for place in _places(path)]
    often = Counter((module, function) for module, function, _ in found)
    seen: Counter[tuple[str, str]] = Counter()
    named = []
    for module, function, line in found:
        seen[module, function] += 1
        number = f"#{seen[module, function]}" if often[module, function] > 1 else ""
        named.append(Block(f"{module}.{function}{number}", f"invoice.services.{module}", line))
    return tuple(named)


def _places(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (function, line) of each transaction in a file."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        for item in node.items if isinstance(node, ast.With) else ():
            call = item.context_expr
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "transaction":
                yield function, call.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from sorted(walk(ast.parse(path.read_text()), ""), key=lambda place: place[1])


def ports() -> dict[str, list[str]]:
    """Return the verbs of each port, in the order of the code."""
    found = {}
    for kind, (port, path) in _PORTS.items():
        module = ast.parse((ROOT / path).read_text())
        [made] = [n for n in module.body if isinstance(n, ast.ClassDef) and n.name == kind]
        found[port] = [n.name for n in made.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    return found


@cache
def verbs() -> tuple[str, ...]:
    """Return what is asked of others over the wire, as `payments.stop_agreement`, in the order of the code."""
    found = [f"{port}.{name}" for port, names in ports().items() for name in names]
    return tuple(name for name in found if name not in ASK_NOBODY)


def boundaries() -> tuple[str, ...]:
    """Return all of them."""
    return (*(block.name for block in blocks()), *verbs())


if __name__ == "__main__":
    print("\n".join(boundaries()))  # noqa: T201 - it is what the command is for
