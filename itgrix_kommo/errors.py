"""Every error the connector raises on purpose.

    ItgrixError
    ├── ConfigError                 the configuration can't be used as it is
    ├── AmiError
    │   ├── AmiUnavailable          there is no link to Asterisk at this moment
    │   ├── AmiLoginRefused         Asterisk knows us not, or not so: a person must act
    │   ├── AmiProtocolError        bytes that are no AMI, or too many of them
    │   ├── AmiActionTimeout        an action was sent, its answer never came
    │   └── AmiActionFailed         Asterisk answered an action with an error
    ├── KommoError
    │   ├── KommoUnreachable        no answer, or one that is none: the request may have been carried out
    │   ├── KommoOverloaded         429: told to wait
    │   ├── KommoTooHeavy           504: the batch was too large
    │   ├── KommoFault              5xx: Kommo's own failure
    │   ├── KommoBlocked            the account or address is blocked: every request fails
    │   ├── KommoUnauthorized       401: token wrong, expired or revoked
    │   ├── KommoUnpaid             402: the account's subscription has ended
    │   ├── KommoForbidden          403 for one method: a right is missing
    │   ├── KommoNotFound           404: no such path or parent
    │   └── KommoRejected           4xx: this very request will never be accepted
    ├── RecordingError
    │   ├── RecordingUnfinished     it is still being written: ask again later
    │   ├── RecordingUnusable       there is no sound to be had from this file
    │   └── ConversionFailed        no mp3 could be made now; the file as it is may serve
    ├── HookError                   a customization did not answer as it must: the unchanged data goes on
    │   ├── HookTimedOut            it took longer than it may, and was killed
    │   └── HooksUnusable           the directory of customizations can't be used as it is: a person must act
    ├── StorageError                the database can't be opened, read or written
    │   ├── StorageRefused          it can't hold this very row, however often it is asked
    │   ├── NameTaken               another daemon at work has this node's name
    │   ├── NodeAtWork              a node that was to be changed is not away
    │   └── NameChanged             all that is kept here is of a node of another name: a person must say why
    ├── WidgetError                 the widget's own files make nothing that Kommo would take
    └── TraceError                  a recorded trace can't be read

`remedy` tells what the one who catches it should do: try again, give this one up, or wait for a person.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Remedy(Enum):
    RETRY = "retry"
    GIVE_UP = "give up"
    PERSON = "a person must act"


class ItgrixError(Exception):
    """Root of all errors below; the message says what was wrong, where, and what to do."""

    remedy: ClassVar[Remedy] = Remedy.GIVE_UP


class ConfigError(ItgrixError):
    remedy = Remedy.PERSON


class AmiError(ItgrixError):
    remedy = Remedy.RETRY


class AmiUnavailable(AmiError):
    pass


class AmiLoginRefused(AmiError):
    remedy = Remedy.PERSON


class AmiProtocolError(AmiError):
    pass


class AmiActionTimeout(AmiError):
    pass


class AmiActionFailed(AmiError):
    remedy = Remedy.GIVE_UP


class KommoError(ItgrixError):
    """`status` is the HTTP status, or None where there was no answer.

    `may_have_happened` tells of a write whether Kommo may have carried it out all the same: false where it surely was
    not (never sent, or refused), true where only Kommo knows (a lost answer, a time-out, a fault of its own).
    """

    def __init__(self, message: str, *, status: int | None = None, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.may_have_happened = may_have_happened


class KommoUnreachable(KommoError):
    remedy = Remedy.RETRY


class KommoOverloaded(KommoError):
    remedy = Remedy.RETRY

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, status=429)
        self.retry_after = retry_after  # seconds


class KommoTooHeavy(KommoError):
    remedy = Remedy.RETRY


class KommoFault(KommoError):
    remedy = Remedy.RETRY


class KommoBlocked(KommoError):
    remedy = Remedy.PERSON


class KommoUnauthorized(KommoError):
    remedy = Remedy.PERSON


class KommoUnpaid(KommoError):
    remedy = Remedy.PERSON


class KommoForbidden(KommoError):
    remedy = Remedy.PERSON


class KommoNotFound(KommoError):
    pass


class KommoRejected(KommoError):
    """`problem` is Kommo's own body, for the one who retries by hand."""

    def __init__(self, message: str, *, status: int | None = None, problem: object = None) -> None:
        super().__init__(message, status=status)
        self.problem = problem


class RecordingError(ItgrixError):
    pass


class RecordingUnfinished(RecordingError):
    remedy = Remedy.RETRY


class RecordingUnusable(RecordingError):
    pass


class ConversionFailed(RecordingError):
    remedy = Remedy.RETRY


class HookError(ItgrixError):
    pass


class HookTimedOut(HookError):
    pass


class HooksUnusable(HookError):
    remedy = Remedy.PERSON


class StorageError(ItgrixError):
    remedy = Remedy.RETRY


class StorageRefused(StorageError):
    """The database can't hold what it was given: all else can be kept, this never."""

    remedy = Remedy.GIVE_UP


class NameTaken(StorageError):
    """Another daemon at work has this node's name."""

    remedy = Remedy.PERSON


class NodeAtWork(StorageError):
    """A node can be renamed or forgotten only while it is away."""

    remedy = Remedy.PERSON


class NameChanged(StorageError):
    """All rows of this host are another node's: it was renamed, or its disk is another's copy."""

    remedy = Remedy.PERSON


class WidgetError(ItgrixError):
    remedy = Remedy.PERSON


class TraceError(ItgrixError):
    pass
