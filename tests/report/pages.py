"""Reading what a page of a report holds."""

import gzip
import json
from base64 import b64decode
from typing import Any


def unpacked(text: str) -> dict[str, Any]:
    """The numbers that a page's script unpacks."""
    found: dict[str, Any] = json.loads(gzip.decompress(b64decode(text)))
    return found


def numbers_of(page: str) -> dict[str, Any]:
    """Those of a whole page."""
    return unpacked(page.partition('id="data">')[2].partition("</script>")[0])
