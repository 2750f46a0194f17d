"""Self-contained HTML pages: no server, no network, and merchants' text on them cannot run anything."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...core.extras import require
from ...core.files import write_text


def write_page(
    path: Path,
    template: str,
    context: Mapping[str, Any],
    *,
    specs: Mapping[str, Any] | None = None,
    titles: Mapping[str, str],
    package: str = __package__,
) -> None:
    """Render `template` with `context`, all of it escaped, into one HTML file with its style and scripts, atomically.

    :param specs: Vega-Lite specifications by their name in the page; without one the chart libraries stay out.
    :param titles: policy id -> title, for the filter `title_of`.
    :param package: where the template lies.
    :raises StorageError: if the disk is full or the place not writable; `path` is then unchanged.
    """
    jinja2, markupsafe = require("jinja2", "train"), require("markupsafe", "train")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["title_of"] = lambda policy: titles.get(policy, policy)
    scripts = [*([_vega_bundle()] if specs else []), _resource("report.js.j2")]
    trusted = {
        "css": markupsafe.Markup(_resource("report.css")),
        "scripts": [markupsafe.Markup(script) for script in scripts],
        "specs": [(key, markupsafe.Markup(_script_json(spec))) for key, spec in (specs or {}).items()],
        "content_policy": content_policy(scripts),
    }
    write_text(path, environment.from_string(_resource(template, package)).render(**{**context, **trusted}))


def content_policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy that lets these inline scripts run, no other, and nothing be fetched."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _resource(name: str, package: str = __package__) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, of the version altair writes for."""
    alt, vl_convert = require("altair", "train"), require("vl_convert", "train")
    version = alt.SCHEMA_VERSION.rpartition(".")[0]
    bundle: str = vl_convert.javascript_bundle(vl_version=version)
    if re.search(r"<(!--|/?script)", bundle, re.IGNORECASE):
        bundle = re.sub(r"<(?=!--|/?script)", r"\\x3c", bundle, flags=re.IGNORECASE)
    return bundle


def _script_json(value: Any) -> str:
    """JSON that no text inside can use to leave the script element it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
