"""Every refusal a provider is known to give, by name: status, headers and body.

Which of them have a `retry-after` is a fact, not an oversight: a 429 without one is no
rate limit, but money that is spent. `DATE` stands in the messages that name a day, and
always lies a month ahead; `row.on(day)` is the same refusal with another day,
`row.saying(...)` with other words.

The names without a prefix are those of the Messages API. `openai_` is OpenAI's own,
`openrouter_` and `codex_` are what two servers make of its format.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

IN_A_MONTH = datetime.now(UTC).replace(
    hour=0, minute=0, second=0, microsecond=0
) + timedelta(days=30)
DATE = f"{IN_A_MONTH:%Y-%m-%d}"
JSON = "application/json"
HTML = "text/html; charset=utf-8"


class Row(NamedTuple):
    """One refusal. The body is JSON if it is an object, else sent as it is."""

    status: int
    body: dict[str, Any] | bytes
    headers: dict[str, str]

    def with_headers(self, **headers: str) -> "Row":
        """`retry_after="3600"` is the header `retry-after`."""
        added = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._replace(headers=self.headers | added)

    def saying(self, message: str) -> "Row":
        if isinstance(self.body, bytes):
            return self._replace(body=message.encode())
        error = self.body["error"] | {"message": message}
        return self._replace(body=self.body | {"error": error})

    def on(self, day: str) -> "Row":
        """The same refusal, but the day it names is this (2001-02-03)."""
        if isinstance(self.body, bytes):
            return self._replace(body=self.body.replace(DATE.encode(), day.encode()))
        return self._replace(body=json.loads(json.dumps(self.body).replace(DATE, day)))


def anthropic(status: int, kind: str, message: str, code: str = "") -> Row:
    """An error of the Messages API; its request id is put in when it is sent."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if code:
        error["details"] = {"error_code": code}
    return Row(status, {"type": "error", "error": error}, {"content-type": JSON})


def openai(status: int, kind: str, message: str, code: str | None = None) -> Row:
    """An error of chat completions."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Row(status, {"error": error}, {"content-type": JSON})


def compatible(status: int, **error: object) -> Row:
    """An error of a server that speaks chat completions with fields of its own."""
    return Row(status, {"error": error}, {"content-type": JSON})


def gateway(status: int, title: str) -> Row:
    """A page of whatever stands before the provider."""
    page = f"<html><head><title>{status} {title}</title></head><body><center><h1>{status} {title}</h1></center></body></html>\n"
    return Row(status, page.encode(), {"content-type": HTML})


def redirect(url: str) -> Row:
    """Go to another host with this call; a key must not follow."""
    return Row(307, b"", {"location": url, "content-type": JSON})


GARBAGE = Row(
    200, b'{"id": "msg_01", "type": \xff\xfe not JSON', {"content-type": JSON}
)
KEY = "{the key itself}"  # in a body: what the caller sent is put in its place

INVALID = "invalid_request_error"
LIMITED = "rate_limit_error"
REGAIN = f"You will regain access on {DATE} at 00:00 UTC."
NO_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
QUOTA = "You exceeded your current quota, please check your plan and billing details."

MESSAGES = {
    "invalid_request": anthropic(400, INVALID, "max_tokens: Field required"),
    "credit_balance": anthropic(400, INVALID, NO_CREDIT),
    "spend_limit": anthropic(
        400, INVALID, f"You have reached your specified API usage limits. {REGAIN}"
    ),
    "workspace_spend_limit": anthropic(
        400,
        INVALID,
        f"You have reached your specified workspace API usage limits. {REGAIN}",
    ),
    "organization_on_hold": anthropic(
        400, INVALID, "This organization has been disabled.", "organization_on_hold"
    ),
    "authentication": anthropic(401, "authentication_error", "invalid x-api-key"),
    "key_echoed": anthropic(401, "authentication_error", f"invalid key: {KEY}"),
    "billing": anthropic(
        402, "billing_error", "There is a problem with your payment method."
    ),
    "linked_spend_limit": anthropic(
        402,
        "billing_error",
        "The linked organization has reached a spend limit.",
        "linked_organization_spend_limit_reached",
    ),
    "linked_billing": anthropic(
        402,
        "billing_error",
        "The linked organization cannot be billed.",
        "linked_organization_billing_unavailable",
    ),
    "permission": anthropic(
        403, "permission_error", "Your API key may not use the specified resource."
    ),
    "not_found": anthropic(404, "not_found_error", "model: claude-none"),
    "request_timeout": anthropic(408, "timeout_error", "Request timed out."),
    "conflict": anthropic(409, "conflict_error", "The resource is being changed."),
    "too_large": anthropic(
        413, "request_too_large", "Request exceeds the maximum size"
    ),
    "too_large_gateway": gateway(413, "Request Entity Too Large"),
    "rate_limit": anthropic(
        429,
        LIMITED,
        "This request would exceed your organization's rate limit of 600 requests per minute.",
    ).with_headers(retry_after="7"),
    "ramp_limit": anthropic(
        429,
        LIMITED,
        "This request would exceed your organization's acceleration limit.",
        "ramp_limit_exceeded",
    ).with_headers(retry_after="20"),
    "enforced_spend_limit": anthropic(
        429,
        LIMITED,
        f"You have reached the monthly API usage limit of your tier. {REGAIN}",
        "enforced_spend_limit_reached",
    ),
    "contract_spend_limit": anthropic(
        429,
        LIMITED,
        "You have reached the spend limit of your contract.",
        "contract_spend_limit_reached",
    ),
    "gateway_spend_limit": anthropic(
        429, LIMITED, f"spend limit reached (daily; resets {DATE} 00:00 UTC)"
    ).with_headers(x_should_retry="false"),
    "api_error": anthropic(500, "api_error", "Internal server error"),
    "bad_gateway": gateway(502, "Bad Gateway"),
    "unavailable": anthropic(503, "api_error", "Service unavailable"),
    "unavailable_for_now": anthropic(
        503, "api_error", "Service unavailable"
    ).with_headers(retry_after="5"),
    "timeout": anthropic(504, "timeout_error", "The request took too long."),
    "overloaded": anthropic(529, "overloaded_error", "Overloaded"),
    "overloaded_for_now": anthropic(529, "overloaded_error", "Overloaded").with_headers(
        retry_after="30"
    ),
}

OPENAI = {
    "openai_bad_request": openai(
        400, INVALID, "Missing required parameter: 'messages'.", "missing_parameter"
    ),
    "openai_invalid_api_key": openai(
        401, INVALID, "Incorrect API key provided.", "invalid_api_key"
    ),
    "openai_key_echoed": openai(
        401, INVALID, f"Incorrect API key provided: {KEY}.", "invalid_api_key"
    ),
    "openai_permission": openai(
        403,
        INVALID,
        "Your project may not use this model.",
        "model_not_available",
    ),
    "openai_model_not_found": openai(
        404,
        INVALID,
        "The model `gpt-none` does not exist or you do not have access to it.",
        "model_not_found",
    ),
    "openai_rate_limit": openai(
        429,
        "requests",
        "Rate limit reached for requests per min (RPM): Limit 600, Used 600, Requested 1. Please try again in 7s.",
        "rate_limit_exceeded",
    ).with_headers(
        retry_after="7",
        x_ratelimit_limit_requests="600",
        x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests="7s",
    ),
    "openai_insufficient_quota": openai(
        429, "insufficient_quota", QUOTA, "insufficient_quota"
    ),
    "openai_credit_balance": openai(
        429, "insufficient_quota", QUOTA, "credit_balance_exhausted"
    ),
    "openai_organization_spend_limit": openai(
        429, "insufficient_quota", QUOTA, "organization_spend_limit_exceeded"
    ),
    "openai_project_spend_limit": openai(
        429, "insufficient_quota", QUOTA, "project_spend_limit_exceeded"
    ),
    "openai_organization_usage_limit": openai(
        429, "insufficient_quota", QUOTA, "organization_usage_limit_exceeded"
    ),
    "openai_server_error": openai(
        500, "server_error", "The server had an error while processing your request."
    ),
    "openai_bad_gateway": gateway(502, "Bad Gateway"),
    "openai_overloaded": openai(
        503, "server_error", "The engine is currently overloaded, try again later."
    ),
    "openrouter_credits": compatible(
        402,
        code=402,
        message="Insufficient credits. Add more using your settings page.",
        metadata={"limit_source": "account"},
    ),
    "openrouter_key_cap": compatible(
        402,
        code=402,
        message="Key limit exceeded (total limit).",
        metadata={"limit_source": "key"},
    ),
    "codex_usage_limit": compatible(
        429,
        type="usage_limit_reached",
        message="The usage limit has been reached",
        plan_type="plus",
        resets_in_seconds=3600,
    ).with_headers(x_codex_primary_reset_after_seconds="3600"),
    "codex_usage_limit_at": compatible(
        429,
        type="usage_limit_reached",
        message="The usage limit has been reached",
        plan_type="plus",
        resets_at=int(IN_A_MONTH.timestamp()),
    ),
}

ROWS: dict[str, Row] = MESSAGES | OPENAI
