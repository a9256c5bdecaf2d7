"""What must be true in the account before a call can be registered, and what is not so in words for a person."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from itgrix_kommo.errors import KommoError, KommoForbidden, Remedy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from itgrix_kommo.kommo.client import KommoClient
    from itgrix_kommo.kommo.models import Account, CustomField, Pipeline, User


@dataclass(frozen=True, slots=True)
class Problem:
    """`what` is the thing examined. `stops` the registering of calls; `passes` by itself, so examine again later."""

    what: str
    words: str
    remedy: str
    stops: bool
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. Ids are None, and mappings empty, where they could not be found out.

    `stages` tells of each pipeline the first stage that takes leads, `unsorted_pipelines` which take incoming leads.
    """

    problems: tuple[Problem, ...] = ()
    account: Account | None = None
    users: Mapping[int, User] = field(default_factory=dict)
    phone_field_id: int | None = None
    pipeline_id: int | None = None
    status_id: int | None = None
    stages: Mapping[int, int] = field(default_factory=dict)
    unsorted_pipelines: frozenset[int] = frozenset()

    @property
    def can_register(self) -> bool:
        return not any(problem.stops for problem in self.problems)

    @property
    def passes(self) -> bool:
        """Whether something may have mended itself soon: worth examining again without a person."""
        return any(problem.passes for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration refers to: a pipeline and stage (None: the account's main ones), users by id."""

    pipeline_id: int | None = None
    status_id: int | None = None
    user_ids: frozenset[int] = frozenset()


async def examine(client: KommoClient, wanted: Wanted) -> Report:
    """Look at everything there. Never raises a KommoError: the first one ends the examination and is in the report."""
    report = Report()
    what = "account"
    try:
        report = replace(report, account=await client.account())
        what = "users"
        report = await _examine_users(client, wanted, report)
        what = "phone field"
        phone_field_id, found = judge_phone_field(await client.contact_fields())
        report = replace(report, phone_field_id=phone_field_id, problems=(*report.problems, *found))
        what = "pipelines"
        pipelines = await client.pipelines()
        stage, found = judge_pipelines(pipelines, wanted.pipeline_id, wanted.status_id)
        stages, unsorted = first_stages(pipelines), unsorted_pipelines(pipelines, report.account)
        report = replace(report, stages=stages, unsorted_pipelines=unsorted, problems=(*report.problems, *found))
        if stage is not None:
            report = replace(report, pipeline_id=stage[0], status_id=stage[1])
    except KommoError as error:
        passes = error.remedy is Remedy.RETRY
        remedy = "nothing to do: it is looked at again" if passes else "mend what the message says"
        problem = Problem(what, str(error), remedy, stops=True, passes=passes)
        report = replace(report, problems=(*report.problems, problem))
    return report


async def _examine_users(client: KommoClient, wanted: Wanted, report: Report) -> Report:
    try:
        users = await client.users()
    except KommoForbidden as error:
        remedy = "use an administrator's token; until then the configured employees are taken as they are"
        return replace(report, problems=(*report.problems, Problem("users", str(error), remedy, stops=False)))
    found = judge_users(users, wanted.user_ids)
    return replace(report, users={user.id: user for user in users}, problems=(*report.problems, *found))


def judge_users(users: Iterable[User], wanted: Collection[int]) -> list[Problem]:
    """A wrong employee spoils his own calls' responsible, not the registering."""
    active = {user.id: user.is_active for user in users}
    problems = []
    for user_id in sorted(wanted):
        if user_id not in active:
            words, remedy = f"the account has no user {user_id}", "correct the user_id in the configuration"
        elif not active[user_id]:
            words, remedy = (
                f"user {user_id} is not active",
                "activate him in Kommo, or take him out of the configuration",
            )
        else:
            continue
        problems.append(Problem("users", words, remedy, stops=False))
    return problems


def judge_phone_field(fields: Iterable[CustomField]) -> tuple[int | None, list[Problem]]:
    """The id of the contacts' PHONE field: without it, and its WORK, clients can be neither found nor created."""
    phone = next((one for one in fields if one.code == "PHONE"), None)
    if phone is None:
        words = "contacts have no field with the code PHONE"
    elif not phone.has_enum("WORK"):
        words = f"the contacts' field PHONE ({phone.id}) has no WORK among its kinds"
    else:
        return phone.id, []
    remedy = "restore Kommo's own phone field of contacts, with the kind Work"
    return None, [Problem("phone field", words, remedy, stops=True)]


def first_stages(pipelines: Iterable[Pipeline]) -> dict[int, int]:
    """By pipeline id the first stage that takes leads; a pipeline without such a stage, or archived, is left out."""
    stages = {
        one.id: [stage.id for stage in one.statuses if stage.takes_leads] for one in pipelines if not one.is_archive
    }
    return {pipeline_id: taking[0] for pipeline_id, taking in stages.items() if taking}


def unsorted_pipelines(pipelines: Iterable[Pipeline], account: Account | None) -> frozenset[int]:
    """The pipelines that take incoming leads: the account has to allow it, and each of them."""
    if account is None or not account.is_unsorted_on:
        return frozenset()
    return frozenset(one.id for one in pipelines if one.is_unsorted_on and not one.is_archive)


def judge_pipelines(
    pipelines: Sequence[Pipeline], pipeline_id: int | None, status_id: int | None
) -> tuple[tuple[int, int] | None, list[Problem]]:
    """(pipeline id, status id) for new leads: the configured ones, else the main pipeline and its first stage."""
    remedy = "correct business.pipeline_id and business.status_id, or leave them null for the account's main ones"
    living = [pipeline for pipeline in pipelines if not pipeline.is_archive]
    if pipeline_id is not None:
        pipeline = next((one for one in living if one.id == pipeline_id), None)
        missing = f"the account has no pipeline {pipeline_id}, or it is archived"
    else:
        pipeline = next((one for one in living if one.is_main), None)
        missing = "the account has no main pipeline"
    if pipeline is None:
        return None, [Problem("pipelines", missing, remedy, stops=True)]
    stages = [stage.id for stage in pipeline.statuses if stage.takes_leads]
    if status_id is not None and status_id in stages:
        return (pipeline.id, status_id), []
    if status_id is not None:
        words = f"pipeline {pipeline.id} ({pipeline.name}) has no stage {status_id} that takes new leads"
    elif stages:
        return (pipeline.id, stages[0]), []
    else:
        words = f"pipeline {pipeline.id} ({pipeline.name}) has no stage that takes new leads"
    return None, [Problem("pipelines", words, remedy, stops=True)]
