"""Kommo holds Russian numbers as 8..., the carrier sends +7...: one form before anything is looked up or written."""

import re


def process_client_phone(params):
    phone = re.sub(r"^(?:\+7|7|8)(\d{10})$", r"8\1", params["phone"])
    return {"state": "success", "data": {"phone": phone}}
