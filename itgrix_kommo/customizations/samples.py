"""A made-up call, and what each customization would be given for it: for the documentation and for trying files out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from itgrix_kommo.config import Hook

_UNSET: Final = "0001-01-01 00:00:00"
_CLIENT: Final = {"number": "+79991234567", "name": "", "kind": "external"}
_TRUNK: Final = {"number": "PJSIP/trunk", "name": "", "kind": "trunk"}
_EMPLOYEE: Final = {"id": 9100001, "name": "Anna", "phones": ["101"]}

_CALL_FULL: Final[dict[str, Any]] = {
    "active_conversation_id": "",
    "channel": {
        "answer_time": "2026-03-02 10:15:12",
        "end_time": "2026-03-02 10:16:40",
        "extra": {"hangupcause": 16, "hangupsource": "PJSIP/trunk-0000002a"},
        "from": _CLIENT,
        "id": "1772446500.84",
        "is_primary": True,
        "name": "PJSIP/trunk-0000002a",
        "start_time": "2026-03-02 10:15:00",
        "state": "ended",
        "to": {"number": "+74951112233", "name": "", "kind": "external"},
        "trunk": _TRUNK,
        "type": "incoming",
        "was_answered": True,
    },
    "conversations": {
        "1772446502.85": {
            "channel": {
                "answer_time": "2026-03-02 10:15:12",
                "end_time": "2026-03-02 10:16:40",
                "extra": {"hangupcause": 16, "hangupsource": "", "dialstatus": "ANSWER"},
                "from": _CLIENT,
                "id": "1772446502.85",
                "is_primary": False,
                "name": "PJSIP/101-0000002b",
                "start_time": "2026-03-02 10:15:02",
                "state": "ended",
                "to": {"number": "101", "name": "Anna", "kind": "internal"},
                "trunk": _TRUNK,
                "type": "incoming",
                "was_answered": True,
            },
            "is_parked": False,
            "user": _EMPLOYEE,
        }
    },
    "deal": None,
    "entity": {
        "id": 5501,
        "type": "contacts",
        "name": "Contact +79991234567",
        "phones": ["+79991234567"],
        "is_new": True,
        "responsible": _EMPLOYEE,
        "responsible_id": 9100001,
    },
    "is_ivr": False,
    "record": "https://pbx.example.com:8077/recordings/sample.mp3",
    "registration": None,
    "result": 200,
}
_MISSED_CALL_FULL: Final[dict[str, Any]] = {
    **_CALL_FULL,
    "channel": {**_CALL_FULL["channel"], "answer_time": _UNSET, "was_answered": False},
    "conversations": {
        "1772446502.85": {
            **_CALL_FULL["conversations"]["1772446502.85"],
            "channel": {
                **_CALL_FULL["conversations"]["1772446502.85"]["channel"],
                "answer_time": _UNSET,
                "extra": {"hangupcause": 26, "hangupsource": "", "dialstatus": "CANCEL"},
                "was_answered": False,
            },
        }
    },
    "record": "",
    "result": 487,
}
_PHONE_FIELD: Final = {"field_id": 3001, "values": [{"enum_code": "WORK", "value": "+79991234567"}]}

_CALL: Final[dict[str, Any]] = {
    "call_result": "Conversation took place",
    "call_status": 4,
    "created_at": 1772446500,
    "created_by": 9100001,
    "direction": "inbound",
    "duration": 88,
    "link": "https://pbx.example.com:8077/recordings/sample.mp3",
    "phone": "+79991234567",
    "responsible_user_id": 9100001,
    "source": "itgrix_amo",
}
_CONTACT: Final[dict[str, Any]] = {
    "custom_fields_values": [_PHONE_FIELD],
    "name": "Contact +79991234567",
    "responsible_user_id": 9100001,
    "tags": ["Itgrix"],
}
_LEAD: Final[dict[str, Any]] = {
    "_embedded": {"contacts": [{"id": 5501}], "tags": [{"name": "Itgrix"}]},
    "name": "+79991234567 - incoming",
    "pipeline_id": 7001,
    "responsible_user_id": 9100001,
    "status_id": 7101,
}
_ORIGINATE: Final[dict[str, Any]] = {
    "caller_id": '"+79991234567" <101>',
    "channel": "PJSIP/101",
    "context": "from-internal",
    "extension": "+79991234567",
    "priority": 1,
    "request_data": {"extension": "101", "phone": "+79991234567"},
}
_TASK: Final[dict[str, Any]] = {
    "complete_till": 1772447400,
    "created_by": 0,
    "entity_id": 5501,
    "entity_type": "contacts",
    "is_completed": False,
    "responsible_user_id": 9100001,
    "task_type": 1,
    "text": "Call back Contact +79991234567 on a missed call from a number +79991234567",
}
_UNSORTED: Final[dict[str, Any]] = {
    "_embedded": {
        "contacts": [{"custom_fields_values": [_PHONE_FIELD], "name": "Contact +79991234567", "tags": ["Itgrix"]}],
        "leads": [{"name": "+79991234567 - missed incoming", "pipeline_id": 7001, "tags": [{"name": "Itgrix"}]}],
    },
    "created_at": 1772446600,
    "metadata": {
        "called_at": 1772446500,
        "duration": 0,
        "from": "+79991234567",
        "is_call_event_needed": False,
        "link": "",
        "phone": "+74951112233",
        "service_code": "itgrix_amo",
        "uniq": "1772446500.84",
    },
    "pipeline_id": 7001,
    "source_name": "itgrix_amo",
    "source_uid": "1772446500.84",
}

PARAMS: Final[Mapping[Hook, dict[str, Any]]] = {
    "need_registration": {"call_full": _CALL_FULL, "call_stage": "call_ended"},
    "process_call_params": {"call_full": _CALL_FULL, **_CALL},
    "process_client_phone": {"phone": "+79991234567", "call_full": _CALL_FULL, "call_stage": "call_ended"},
    "process_contact_creation_params": {"call_full": {**_CALL_FULL, "entity": None}, **_CONTACT},
    "process_lead_creation_params": {"call_full": _CALL_FULL, **_LEAD},
    "process_originate_params": _ORIGINATE,
    "process_record_file_path": {
        "path": "/var/spool/asterisk/monitor/2026/03/02/in-101-1772446500.84.wav",
        "call_full": {**_CALL_FULL, "record": ""},
        "conversation_id": "1772446502.85",
    },
    "process_task_creation_params": {"call_full": _MISSED_CALL_FULL, **_TASK},
    "customize_autodistribution": {
        "number": "101",
        "name": "Anna",
        "from": "+79991234567",
        "trunk": "PJSIP/trunk",
        "request_data": {"from": "+79991234567", "trunk": "PJSIP/trunk"},
        "entity": _CALL_FULL["entity"],
        "error": "",
    },
    "post_registration": {"call_full": _MISSED_CALL_FULL},
    "process_contact_update_params": {"call_full": _CALL_FULL, "id": 5501, "responsible_user_id": 9100001},
    "process_lead_update_params": {"call_full": _CALL_FULL, "id": 6601, "responsible_user_id": 9100001},
    "process_unsorted_creation_params": {"call_full": {**_MISSED_CALL_FULL, "entity": None}, **_UNSORTED},
}
"""What each customization is given."""

DATA: Final[Mapping[Hook, dict[str, Any] | None]] = {
    "need_registration": {"result": True},
    "process_call_params": {**_CALL, "call_result": "Waited 10 s"},
    "process_client_phone": {"phone": "89991234567"},
    "process_contact_creation_params": {**_CONTACT, "tags": ["Itgrix", "From a call"]},
    "process_lead_creation_params": {**_LEAD, "name": "Shop: +79991234567"},
    "process_originate_params": {**_ORIGINATE, "extension": "89991234567"},
    "process_record_file_path": {"path": "/var/spool/asterisk/monitor/2026/03/02/in-101-1772446500.84.mp3"},
    "process_task_creation_params": {**_TASK, "task_type": 2},
    "customize_autodistribution": {"number": "102", "name": "Boris"},
    "post_registration": None,
    "process_contact_update_params": {"id": 5501, "responsible_user_id": 9100002},
    "process_lead_update_params": {"id": 6601, "status_id": 7102},
    "process_unsorted_creation_params": {**_UNSORTED, "pipeline_id": 7002},
}
"""What each of them may answer as `data`; None: only the state counts."""
