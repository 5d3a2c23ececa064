"""A module after a call as it was before: models keep caches, and what a trace leaves in them is of no use to anybody.

Owns attributes and the containers held in them. What the model writes into its tensors is another matter: states.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import nn

_CONTAINERS = (dict, list, set)
_NOTHING = object()


@contextmanager
def untouched(module: nn.Module) -> Generator[None]:
    """Put the attributes of a module and its children back, and the contents of dicts, lists and sets among them."""
    saved = [(vars(m), dict(vars(m)), _contents(vars(m))) for m in module.modules()]
    try:
        yield
    finally:
        for live, before, contents in saved:
            for name in live.keys() - before.keys():
                del live[name]
            for name, value in before.items():
                if live.get(name, _NOTHING) is not value:
                    live[name] = value
            for container, content in contents:
                _refill(container, content)


def _contents(attributes: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(value, value.copy()) for value in attributes.values() if isinstance(value, _CONTAINERS)]


def _refill(container: Any, content: Any) -> None:
    """Give a container its contents back, if they are not the same objects any more."""
    if len(container) == len(content):
        if isinstance(container, dict) and all(container.get(k, _NOTHING) is v for k, v in content.items()):
            return
        if isinstance(container, list) and all(x is y for x, y in zip(container, content, strict=True)):
            return
        if isinstance(container, set) and container == content:
            return
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)
