"""Plain values that a person wrote into a file: recipes, rungs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regraft.errors import DataError

FILE_BYTES = 1 << 20
"""Such a file at most."""


def plain_values(path: Path, what: str, shape: str) -> Any:
    """What a YAML or JSON file holds; no tags, no aliases. DataError says what is wrong, `what` it should be, and its `shape`."""
    try:
        if path.stat().st_size > FILE_BYTES:
            raise DataError(f"{path} has {path.stat().st_size >> 10:,} KB; a {what} may have {FILE_BYTES >> 10:,}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8", expected=f"a {what} as YAML or JSON") from None
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise DataError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return _read(path, text, what, shape)


def _read(path: Path, text: str, what: str, shape: str) -> Any:
    import yaml

    class Plain(yaml.SafeLoader):
        """Plain values alone: an alias may stand for more than memory holds."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not read")
            return super().compose_node(parent, index)

    try:
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.load(text, Plain)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read as a {what} ({said})", expected=f"YAML such as\n{shape}") from None
