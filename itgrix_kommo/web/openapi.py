"""`GET /openapi.json`: the description of this face for programs; tests hold the implementation to it."""

from __future__ import annotations

from typing import Any, Final

from itgrix_kommo.pipeline.history import Fate
from itgrix_kommo.web import clicks
from itgrix_kommo.web.autodistribution import LONGEST_QUERY
from itgrix_kommo.web.originate_routes import LONGEST_WAIT
from itgrix_kommo.web.originate_routes import schema as originate_schema
from itgrix_kommo.web.read_call import MOST_IDS_ON_A_LINE
from itgrix_kommo.web.read_call import schema as read_call_schema

PATH: Final = "/openapi.json"

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_WORDS: Final = {
    400: "Something in the request makes no sense; `detail` names it.",
    401: "Who asks is not known.",
    403: "Who asks is known, and may not have this.",
    404: "There is no such thing, or it is not for the one who asks.",
    408: "The body took too long.",
    409: "Something else has to end first; `detail` tells what.",
    413: "The body is too large.",
    415: "The body is of another type.",
    429: "Too many requests; Retry-After tells when the next one is welcome.",
    503: "What is needed for it is not there now.",
}
_PAGES: Final = {
    200: "Access is granted.",
    400: "This is no answer that we asked for, or Kommo does not take its code.",
    403: "A person chose not to grant it.",
    404: "No grant is wanted as this is configured.",
    409: "This very answer was used before.",
    502: "Kommo could not be asked; the same page may be reloaded.",
}
_MOMENT: Final = "`YYYY-MM-DD hh:mm:ss` as the PBX's clock showed it, Unix seconds, or ISO 8601 with its zone."
_WORDS_ALONE: Final[dict[str, Any]] = {"text/plain": {"schema": {"type": "string"}}}
_SOUND: Final[dict[str, Any]] = {"audio/*": {}, "application/octet-stream": {}}


def description(version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of all paths that this room serves."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "itgrix-kommo",
            "version": version,
            "description": "Connects Asterisk with Kommo. Refusals are problem+json (RFC 9457).",
        },
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "originateToken": _bearer("http.tokens.originate"),
                "autodistributionToken": _bearer("http.tokens.autodistribution"),
                "widget": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Auth-Token",
                    "description": "The disposable token that Kommo signs for a widget; each is good for one call.",
                },
                "digest": {"type": "http", "scheme": "digest", "description": "The login of http.admin."},
                "basic": {"type": "http", "scheme": "basic", "description": "The same, over TLS or on the host alone."},
            },
            "schemas": {
                "Problem": _problem(),
                "Progress": _progress(),
                "Health": _health(),
                "Status": _status(),
                "ReadCall": _read_call(),
            },
        },
    }


def _paths() -> dict[str, Any]:
    by_token_or_widget: list[dict[str, list[str]]] = [{"originateToken": []}, {"widget": []}]
    for_admin: list[dict[str, list[str]]] = [{"digest": []}, {"basic": []}]
    read_call = (400, 401, 403, 409, 503)
    return {
        "/originate": {
            "post": {
                "operationId": "originate",
                "summary": "Ring an employee's phone and put it through to a number.",
                "security": by_token_or_widget,
                "requestBody": {"required": True, "content": {"application/json": {"schema": originate_schema()}}},
                "responses": {
                    "202": _json(
                        "Asterisk has the order.",
                        {
                            "type": "object",
                            "required": ["originate_id"],
                            "properties": {"originate_id": {"type": "string"}},
                        },
                    ),
                    **_refusals(400, 401, 403, 404, 408, 413, 415, 429, 503),
                },
            }
        },
        "/originate/{originate_id}": {
            "get": {
                "operationId": "progress",
                "summary": "How a call that one has started goes on.",
                "security": by_token_or_widget,
                "parameters": [_path_parameter("originate_id"), *_awaited()],
                "responses": {
                    "200": _json("Its progress.", {"$ref": "#/components/schemas/Progress"}),
                    **_refusals(400, 401, 404, 429, 503),
                },
            }
        },
        "/autodistribution": {
            "get": {
                "operationId": "autodistribution",
                "summary": "Who is to get a call, and under which name; nobody: an empty answer.",
                "security": [{"autodistributionToken": []}, {}],
                "parameters": [
                    _query("from", "The caller's number.", required=True),
                    _query("trunk", "Over which it came, such as PJSIP/trunk.", required=False),
                ],
                "responses": {
                    "200": {
                        "description": "`number;name`, or nothing; JSON for who accepts it.",
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["number", "name"],
                                    "properties": {
                                        "number": {"type": "string"},
                                        "name": {"type": "string", "maxLength": 20},
                                    },
                                }
                            },
                        },
                    },
                    **_refusals(400, 401),
                },
            }
        },
        "/status": {
            "get": {
                "operationId": "status",
                "summary": "How the daemon and all that it depends on are.",
                "security": for_admin,
                "responses": {
                    "200": _json("The status.", {"$ref": "#/components/schemas/Status"}),
                    **_refusals(401, 403),
                },
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Figures in Prometheus' text format.",
                "security": for_admin,
                "responses": {
                    "200": {"description": "The figures.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                    **_refusals(401, 403),
                },
            }
        },
        "/healthz": {
            "get": {
                "operationId": "healthz",
                "summary": "Whether calls are captured; the body also names what stops the registering.",
                "security": [],
                "responses": {
                    "200": _json("Calls are captured.", {"$ref": "#/components/schemas/Health"}),
                    "503": _json("They are not: `capturing_fault` says why.", {"$ref": "#/components/schemas/Health"}),
                },
            }
        },
        "/webhooks/kommo/{secret}": {
            "post": {
                "operationId": "webhook",
                "summary": "Kommo tells what changed.",
                "security": [],
                "parameters": [_path_parameter("secret")],
                "requestBody": {
                    "required": True,
                    "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
                },
                "responses": {"200": {"description": "Heard."}, **_refusals(400, 404, 408, 413)},
            }
        },
        "/recordings/{signed}.mp3": {
            "get": {
                "operationId": "recording",
                "summary": "The recording of a call, for who holds its link; HEAD as well.",
                "security": [],
                "parameters": [
                    _path_parameter("signed"),
                    {"in": "header", "name": "Range", "required": False, "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {"description": "The whole of it.", "content": _SOUND},
                    "206": {
                        "description": "What was asked for of it.",
                        "content": {**_SOUND, "multipart/byteranges": {}},
                    },
                    "304": {"description": "It is as it was."},
                    "404": {"description": "There is none, or it is kept no longer.", "content": _WORDS_ALONE},
                    "410": {"description": "The link has expired.", "content": _WORDS_ALONE},
                    "412": {"description": "It is not as the condition says."},
                    "416": {"description": "It is not as long as that."},
                },
            }
        },
        "/pbx/read_call": {
            "get": {
                "operationId": "readCall",
                "summary": "Register calls of the past: those with an id, or those of a period.",
                "description": "Each call is told as soon as it was read; while nothing is told, empty lines come. "
                "It does something, though it is a GET, as it always was: nothing is registered twice by it.",
                "security": for_admin,
                "parameters": [
                    {**_query("id", "A linkedid or uniqueid; may be repeated.", required=False), "schema": _ids()},
                    _query("start_date", _MOMENT, required=False),
                    _query("end_date", "The same; now, if left out.", required=False),
                ],
                "responses": {"200": _json("What became of each.", _ref("ReadCall")), **_refusals(*read_call)},
            },
            "post": {
                "operationId": "readCallByBody",
                "summary": "The same, for many ids.",
                "security": for_admin,
                "requestBody": {"required": True, "content": {"application/json": {"schema": read_call_schema()}}},
                "responses": {
                    "200": _json("What became of each.", _ref("ReadCall")),
                    **_refusals(*read_call, 408, 413, 415),
                },
            },
        },
        "/oauth/kommo": {
            "get": {
                "operationId": "oauthAnswer",
                "summary": "Where Kommo sends the browser of who was asked for access.",
                "security": [],
                "parameters": [
                    _query(name, words, required=False)
                    for name, words in (
                        ("code", "Kommo's code, good once and for 20 minutes."),
                        ("state", "Ours, by which we know that we asked."),
                        ("referer", "The account's host; no other than kommo.base_url's is taken."),
                        ("client_id", "The integration."),
                        ("error", "Instead of a code, where access was not granted."),
                    )
                ],
                "responses": {
                    str(status): {"description": words, "content": {"text/html": {"schema": {"type": "string"}}}}
                    for status, words in _PAGES.items()
                },
            }
        },
        "/oauth/kommo/login": {
            "get": {
                "operationId": "oauthLogin",
                "summary": "Send the administrator's browser to Kommo, to grant access there.",
                "security": for_admin,
                "responses": {"303": {"description": "Kommo's page of consent."}, **_refusals(401, 403, 404)},
            }
        },
        "/oauth/kommo/uninstalled": {
            "get": {
                "operationId": "oauthUninstalled",
                "summary": "Kommo tells that the integration was taken out of the account.",
                "security": [],
                "parameters": [
                    _query("client_uuid", "The integration.", required=True),
                    _query("account_id", "The account.", required=True),
                    _query(
                        "signature", "HMAC-SHA256 of `client_uuid|account_id` by the secret key, in hex.", required=True
                    ),
                ],
                "responses": {"200": {"description": "Registering has stopped."}, **_refusals(400, 403, 404, 503)},
            }
        },
        PATH: {
            "get": {
                "operationId": "openapi",
                "summary": "This description.",
                "security": [],
                "responses": {"200": _json("It.", {"type": "object"})},
            }
        },
    }


def _refusals(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {"description": _WORDS[status], "content": {"application/problem+json": {"schema": _PROBLEM}}}
        for status in statuses
    }


def _json(words: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _bearer(setting: str) -> dict[str, Any]:
    return {"type": "http", "scheme": "bearer", "description": f"The token of {setting}."}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"in": "path", "name": name, "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(name: str, words: str, *, required: bool) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": LONGEST_QUERY}
    return {"in": "query", "name": name, "required": required, "description": words, "schema": schema}


def _awaited() -> list[dict[str, Any]]:
    """What makes the answer wait for news."""
    state = {"enum": [state.value for state in clicks.State]}
    seconds = {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT}
    common: dict[str, Any] = {"in": "query", "required": False}
    return [
        {**common, "name": "after", "description": "The state that is known: wait until it is left.", "schema": state},
        {**common, "name": "wait", "description": "Seconds to wait; goes with `after`.", "schema": seconds},
    ]


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties}


def _problem() -> dict[str, Any]:
    return _object(
        type={"type": "string"}, title={"type": "string"}, status={"type": "integer"}, detail={"type": "string"}
    )


def _progress() -> dict[str, Any]:
    return _object(
        originate_id={"type": "string"},
        state={"enum": [state.value for state in clicks.State]},
        extension={"type": "string"},
        phone={"type": "string"},
        started_at={"type": "integer", "description": "Unix seconds"},
        changed_at={"type": "integer", "description": "Unix seconds"},
        call_id={"type": ["string", "null"], "description": "The linkedid, once there is a channel."},
        outcome={"type": ["string", "null"], "description": "What it came to, once it has ended."},
        result={"type": ["integer", "null"], "description": "The same as a SIP-like code."},
        duration={"type": ["integer", "null"], "description": "Seconds of talk."},
    )


def _health() -> dict[str, Any]:
    return _object(
        status={"enum": ["ok", "degraded", "failing"]},
        capturing_fault={"type": "string"},
        registering_stopped_by={"type": "array", "items": {"type": "string"}},
        live_calls={"type": "integer"},
        registrations={"type": "object", "additionalProperties": {"type": "integer"}},
        troubles={
            "type": "array",
            "items": {"type": "string"},
            "description": "What would cost calls if the daemon ended now, such as a full disk.",
        },
    )


def _status() -> dict[str, Any]:
    hooks = {"type": "object", "additionalProperties": {"type": "boolean"}}
    return _object(
        app_state={"enum": ["", "stopped", "restarting"]},
        app_status={"enum": ["Ok", "Warning", "Error"]},
        customizer=_object(enabled={"type": "boolean"}, methods=hooks),
        outside={"type": "object"},
    )


def _read_call() -> dict[str, Any]:
    names = ("call_id", "reason", "type", "client", "ended")
    one = _object(fate={"enum": [fate.value for fate in Fate]}, **{name: {"type": "string"} for name in names})
    return _object(
        calls={"type": "array", "items": one},
        counts={"type": "object", "additionalProperties": {"type": "integer"}},
        error={"type": ["string", "null"], "description": "Why the reading ended early; what is told before holds."},
    )


def _ids() -> dict[str, Any]:
    """Fewer than a body takes: they have to go on one line."""
    properties: dict[str, Any] = read_call_schema()["properties"]
    many = next(one for one in properties["id"]["anyOf"] if one["type"] == "array")
    return {**many, "maxItems": MOST_IDS_ON_A_LINE}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
