"""How the sandbox behaves where Kommo's accounts differ or its documentation is silent.

Defaults are what is documented; where nothing is, the choice that forgives a client least.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Switches(BaseModel):
    """Set at start or at any time: `switches.popup_status = 202` is checked like a request."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    # Limits
    requests_per_second: Annotated[int, Field(ge=1)] = 7
    retry_after_s: Annotated[int, Field(ge=0)] = 300  # the figure in Kommo's own sample
    retry_after_enforced: bool = False  # refuse everything until it has passed, not only what exceeds the limit
    block_after: Annotated[int, Field(ge=1)] = 10  # consecutive violations
    block_body: Literal["json", "html"] = "html"
    heavy_batch: Annotated[int, Field(ge=1)] | None = None  # batches larger than this answer 504

    # The account
    unpaid: bool = False  # 402 for everything
    is_unsorted_on: bool = True
    phone_field: bool = True  # the contact field PHONE exists
    search_delay_s: Seconds = 0.0  # until the phone index knows a card: search, calls and pop-ups
    query_search: Literal["text", "last_7_digits"] = "text"
    filters: Literal["honoured", "ignored_on_cards", "ignored"] = "honoured"
    duplicate_control: bool = False  # of leads/complex
    user_agent_required: bool = False
    oversized_complex_status: Literal[400, 422] = 422

    # Answers
    single_patch: Literal["list", "object"] = "list"
    popup_status: Literal[200, 202] = 200
    mixed_calls_status: Literal[200, 400] = 200

    # Calls and incoming leads
    repeated_uniq: Literal["accepted", "refused"] = "accepted"
    calls_match_unsorted: bool = False
    identical_unsorted: Literal["accepted", "refused"] = "refused"

    # Webhooks
    same_destination: Literal["replace", "merge"] = "replace"
    webhook_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0

    @property
    def is_api_filter_enabled(self) -> bool:
        return self.filters == "honoured"
