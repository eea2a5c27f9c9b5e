"""The API in the words of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html): what GET /openapi.json answers."""

from allaprima.core import __version__
from allaprima.core.contract import STROKES
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.serve.parameters import CONTROLS

RANGES = {
    "strength": {"minimum": 0, "maximum": 1, "default": 1},
    "stroke": {"minimum": STROKES[0], "maximum": STROKES[1]},
}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
STYLE = {
    "type": "object",
    "required": ["name", "thumbnail", "credit", "licence"],
    "properties": {
        "name": {"type": "string"},
        "thumbnail": {"type": "string", "description": "A JPEG of at most 160 pixels a side, as a data URL."},
        "credit": {"type": "string"},
        "licence": {"type": "string"},
    },
}
REFUSED = {
    "400": "The request can't be read.",
    "401": "The token is missing or wrong.",
    "403": "The request comes from a page of another origin.",
    "413": "The body is too long.",
    "422": "The picture or a parameter is not one that can be used.",
    "503": "All places are taken, or the time is over: try again after Retry-After seconds.",
}


def document(formats) -> dict:
    """The document. formats: those that pictures are answered in."""
    parameters = {
        "style": {"type": "string", "default": DEFAULT_STYLE, "description": "A name that GET /api/styles lists."},
        "format": {"enum": list(formats), "description": "Of the answer; if not given, that of the picture, or jpeg."},
    } | {
        name: {"type": "boolean" if isinstance(default, bool) else "number"} | RANGES.get(name, {})
        for name, default in CONTROLS.items()
    }
    picture = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {"type": "object", "required": ["picture"], "properties": {"picture": picture} | parameters}
    answers = {"description": "The painted picture.", "content": {f"image/{name}": {} for name in formats}}
    stylize = {
        "summary": "Paint a picture in a style.",
        "operationId": "stylize",
        "parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in parameters.items()],
        "requestBody": {
            "required": True,
            "description": "The picture: JPEG, PNG, WebP, TIFF, AVIF, GIF or BMP. Of an animation, the first frame.",
            "content": {"application/octet-stream": {"schema": picture}, "multipart/form-data": {"schema": form}},
        },
        "responses": {"200": answers} | {status: _json(about, ERROR) for status, about in REFUSED.items()},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "allaprima", "version": __version__},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
        "paths": {
            "/api/stylize": {"post": stylize},
            "/api/styles": {"get": _reader("List the styles.", _json("Styles", {"type": "array", "items": STYLE}))},
            "/api/health": {"get": _reader("Tell that the server is alive.", _json("It is.", {"type": "object"}))},
            "/metrics": {
                "get": _reader("Give metrics to Prometheus.", {"description": "Metrics", "content": {"text/plain": {}}})
            },
        },
    }


def _json(about, schema):
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _reader(summary, answer):
    refused = {status: _json(REFUSED[status], ERROR) for status in ("400", "401", "403")}
    return {"summary": summary, "responses": {"200": answer} | refused}
