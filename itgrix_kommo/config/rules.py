"""Settings of how calls are understood, and of what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from itgrix_kommo.config.hours import WorkingHours, hours_schema
from itgrix_kommo.config.links import Section
from itgrix_kommo.config.patterns import NumberPattern, Pattern, expression, substitution
from itgrix_kommo.config.values import (
    AbsolutePath,
    Between,
    Count,
    DialplanContext,
    Extension,
    Flag,
    KommoId,
    PhoneNumber,
    Popup,
    Prefix,
    Region,
    Seconds,
    Template,
    Text,
    Trunk,
    refusal,
    refusals,
)

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Hook = Literal[
    "need_registration",
    "process_call_params",
    "process_client_phone",
    "process_contact_creation_params",
    "process_lead_creation_params",
    "process_originate_params",
    "process_record_file_path",
    "process_task_creation_params",
    "customize_autodistribution",
    "post_registration",
    "process_contact_update_params",
    "process_lead_update_params",
    "process_unsorted_creation_params",
]
_HOOK_TIMEOUTS: Final[dict[Hook, float]] = {"process_record_file_path": 10, "customize_autodistribution": 0.5}


class Employee(Section):
    user_id: KommoId = Field(description="The employee's user id in Kommo.")
    extension: Extension = Field(
        description="The employee's internal number; who has a mobile alone gives its number here."
    )
    numbers: tuple[PhoneNumber, ...] = Field(
        default=(), description="Further numbers of the employee, such as a mobile that is rung as an extension (FMC)."
    )


def distinct(employees: tuple[Employee, ...]) -> tuple[Employee, ...]:
    """Refuses a user or number that two entries claim: calls and clicks could not tell whose it is."""
    users: dict[int, int] = {}
    numbers: dict[str, int] = {}
    problems: list[tuple[tuple[str | int, ...], str, str]] = []
    for at, employee in enumerate(employees):
        if (first := users.setdefault(employee.user_id, at)) != at:
            problems.append(((at, "user_id"), f"employees[{first}] has it too", "keep one entry for each user"))
        for place, number in [(("extension",), employee.extension), *_places(employee)]:
            if (first := numbers.setdefault(number, at)) != at:
                problems.append(((at, *place), f"employees[{first}] has it too", "give each number to one employee"))
    if problems:
        raise refusals(problems)
    return employees


def _places(employee: Employee) -> list[tuple[tuple[str | int, ...], str]]:
    return [(("numbers", at), number) for at, number in enumerate(employee.numbers)]


Employees = Annotated[tuple[Employee, ...], AfterValidator(distinct)]


class Replacement(Section):
    pattern: Text = Field(description="Regular expression in Go's dialect (RE2), searched for in the raw number.")
    substitution: Annotated[str, Field(strict=True, max_length=255)] = Field(
        description="What takes its place; $1 or ${1} is the first group, $$ a dollar sign."
    )
    applies_to: Literal["client", "employee", "both"] = Field(
        default="client", description="Whose numbers are rewritten: client, employee or both."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        expression(pattern)
        return pattern

    @field_validator("substitution")
    @classmethod
    def _names_groups(cls, template: str, info: ValidationInfo) -> str:
        if "pattern" in info.data:
            substitution(info.data["pattern"], template)
        return template

    def apply(self, number: str) -> str:
        """`number` with every match replaced."""
        return substitution(self.pattern, self.substitution).apply(number)


class ListEntry(Section):
    match: Literal["client", "internal", "trunk", "did"] = Field(
        default="internal",
        description="What is compared: client, internal (number), trunk or did (the number the client dialled).",
    )
    pattern: Text = Field(
        description="A number or an Asterisk-like pattern (X, Z, N, [1-5], . at the end); with trunk, its exact name."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: object) -> object:
        return {"match": "internal", "pattern": value} if isinstance(value, str) else value

    @field_validator("pattern")
    @classmethod
    def _reads(cls, pattern: str, info: ValidationInfo) -> str:
        if info.data.get("match") not in {None, "trunk"}:
            NumberPattern.parse(pattern)
        return pattern

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "description": "An internal number."}, handler(schema)]}

    def matches(self, value: str) -> bool:
        """Whether this entry means `value`, which is of the side that `match` names."""
        return value == self.pattern if self.match == "trunk" else NumberPattern.parse(self.pattern).matches(value)


class Numbers(Section):
    internal_max_length: Annotated[int, Between("length of internal numbers", 0, 15)] = Field(
        default=4,
        description="Digits up to which a number counts as internal; 4 as in the original, 0 trusts the lists alone.",
    )
    region: Region | None = Field(
        default=None,
        description="Country whose numbering plan reads national numbers, such as RU; null is the account's country.",
    )
    trunks: tuple[Trunk, ...] = Field(
        default=(),
        description="Trunks by technology and name, such as PJSIP/trunk; what carries external calls is found anyway.",
    )
    peer_trunks: tuple[Trunk, ...] = Field(
        default=(),
        description="Trunks to other PBXs of ours; a client's call that comes or goes by one is registered over there.",
    )
    replacements: tuple[Replacement, ...] = Field(
        default=(),
        description="Rules that rewrite numbers before Kommo is asked; each is applied to what the last one left.",
    )
    outside_prefixes: tuple[Prefix, ...] = Field(
        default=(),
        description="Digits dialled to get an outside line, such as 9; they are taken off the client's number.",
    )
    fmc_patterns_file: AbsolutePath = Field(
        default="/etc/itgrix_amo/fmc_patterns.txt",
        description="Mobiles that count as internal (FMC): patterns like 8123456XXXX, one a line, re-read on change.",
    )
    blacklist: tuple[ListEntry, ...] = Field(
        default=(),
        description="Calls that are not registered; a bare text is an internal number. It outranks the whitelist.",
    )
    whitelist: tuple[ListEntry, ...] = Field(
        default=(), description="If not empty, only these calls are registered; a bare text is an internal number."
    )


class Route(Section):
    trunk: Trunk | None = Field(default=None, description="Trunk the call came over; null means any.")
    did: Pattern | None = Field(
        default=None,
        validate_default=True,
        description="Number the client dialled, or a pattern of it; null means any.",
    )
    pipeline_id: KommoId | None = Field(
        default=None, description="Pipeline for these calls; null keeps business.pipeline_id."
    )
    default_user_id: KommoId | None = Field(
        default=None, description="Default responsible for these calls; null keeps business.default_user_id."
    )
    tags: tuple[Text, ...] | None = Field(default=None, description="Tags for these calls; null keeps business.tags.")

    @field_validator("did")
    @classmethod
    def _tells_calls_apart(cls, did: NumberPattern | None, info: ValidationInfo) -> NumberPattern | None:
        if did is None and "trunk" in info.data and info.data["trunk"] is None:
            raise refusal("neither trunk nor did is given", "give one of them, or change business itself")
        return did


Hours = Annotated[
    InstanceOf[WorkingHours],
    BeforeValidator(WorkingHours.parse),
    PlainSerializer(WorkingHours.as_json),
    WithJsonSchema(hours_schema()),
]


class Tasks(Section):
    missed_inbound: Flag = Field(default=True, description="Whether a missed inbound call makes a task to call back.")
    unanswered_outbound: Flag = Field(
        default=False, description="Whether an outbound call nobody answered makes a task."
    )
    due_minutes: Count = Field(
        default=15, description="Minutes until the task is due, counted within the working hours."
    )
    task_type: KommoId = Field(default=1, description="Kommo's task type; 1 is the follow-up that every account has.")
    complete_on_contact: Flag = Field(
        default=True, description="Whether our open task is completed once the client was reached."
    )
    max_age_hours: Count = Field(
        default=24, description="Hours after which a missed call found in the history makes no task any more."
    )
    working_hours: Hours | None = Field(
        default=None,
        description='Hours by day in the node\'s time zone, such as {"mon-fri": "09:00-18:00"}; null is always.',
    )


class Business(Section):
    create_contacts: Flag = Field(default=True, description="Whether an unknown client becomes a contact.")
    create_leads: Literal["never", "no_open_lead", "always"] = Field(
        default="no_open_lead",
        description="When a lead is made: never, no_open_lead (if the client has none) or always (for every call).",
    )
    unsorted: Flag = Field(
        default=False,
        description="Whether unknown inbound clients go to Incoming leads instead of becoming contact and lead.",
    )
    pipeline_id: KommoId | None = Field(
        default=None, description="Pipeline of new leads; null is the account's main one."
    )
    status_id: KommoId | None = Field(
        default=None, description="Stage of new leads; null is the first of the pipeline."
    )
    tags: tuple[Text, ...] = Field(default=("Itgrix",), description="Tags of the contacts and leads that are made.")
    default_user_id: KommoId | None = Field(
        default=None, description="Responsible user where no employee is known; null leaves it to Kommo's robot."
    )
    create_at: Literal["ringing", "answered", "end"] = Field(
        default="end",
        description="When contact and lead are made: ringing, answered or end, when all about the call is known.",
    )
    missed_responsible: Literal["entity", "rung", "default"] = Field(
        default="entity",
        description="Who gets a missed call: entity (its responsible), rung (last) or default (user).",
    )
    reassign_on_answer: Flag = Field(
        default=False,
        description="Whether who answers becomes responsible for the client; off because it changes your data.",
    )
    popup: Popup = Field(
        default="ringing",
        description="When the employee sees the caller's card: ringing (or true), answered, off (or false).",
    )
    routes: tuple[Route, ...] = Field(
        default=(), description="Exceptions by trunk or dialled number; the first that fits is taken."
    )
    tasks: Tasks = Field(default=Tasks(), description="Call-back tasks.")


def _over_defaults(value: object) -> object:
    return {**_HOOK_TIMEOUTS, **value} if isinstance(value, Mapping) else value


class Customizations(Section):
    enabled: Flag = Field(default=True, description="Whether customizations run at all.")
    directory: AbsolutePath = Field(
        default="/opt/itgrix_amo/customizer/actions",
        description="Directory with one file per customization, named after it.",
    )
    disabled: tuple[Hook, ...] = Field(
        default=(), description="Customizations that don't run although their file exists."
    )
    timeout_s: Seconds = Field(
        default=3, description="Seconds a customization may take; then the unchanged data goes on."
    )
    timeouts: Annotated[Mapping[Hook, Seconds], BeforeValidator(_over_defaults)] = Field(
        default=dict(_HOOK_TIMEOUTS),
        description="Seconds for single customizations: a conversion needs more, a caller waiting less.",
    )
    php_workers: Annotated[int, Between("number of workers", 1, 64)] = Field(
        default=2, description="PHP processes that run customizations side by side."
    )
    socket: AbsolutePath | None = Field(
        default=None,
        description="Socket of `itgrix-kommo hooks host`, which runs them as another user; null: the daemon does.",
    )
    trace: Flag = Field(
        default=False, description="Whether every customization's input and output is logged; it is much."
    )

    def timeout_of(self, hook: Hook) -> float:
        """Seconds that `hook` may take."""
        return self.timeouts.get(hook, self.timeout_s)


class Originate(Section):
    channel: Annotated[Text, AfterValidator(Template(("extension", "phone")))] = Field(
        default="PJSIP/{extension}", description="Channel that rings the employee first; {extension} is the employee's."
    )
    context: DialplanContext = Field(
        default="from-internal", description="Dialplan context that dials the client; FreePBX's own."
    )
    priority: Count = Field(default=1, description="Dialplan priority to begin with.")
    caller_id: Annotated[Text, AfterValidator(Template(("extension", "phone")))] = Field(
        default='"{phone}" <{extension}>',
        description="Caller ID shown to the employee; {phone} is the client's number.",
    )
    timeout_s: Seconds = Field(default=30, description="Seconds the employee's phone rings; six to seven rings.")
    allowed: tuple[Pattern, ...] = Field(
        default=(NumberPattern.parse("+[1-9]XXXXXX."),),
        description="Numbers that may be called, as patterns of E.164; no short or special ones.",
    )
    per_user_per_minute: Count = Field(
        default=10, description="Calls a minute for one user; nobody dials faster by hand."
    )
    per_minute: Count = Field(default=60, description="Calls a minute for everybody together, against toll fraud.")


HOOKS: Final[tuple[Hook, ...]] = get_args(Hook)
