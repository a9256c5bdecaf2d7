"""Calls through these trunks stay out of the CRM. With `in` instead of `not in` it is a white list."""

BLACKLIST = {"PJSIP/intercom", "PJSIP/alarm"}


def need_registration(params):
    trunk = params["call_full"]["channel"]["trunk"]["number"]
    return {"state": "success", "data": {"result": trunk not in BLACKLIST}}
