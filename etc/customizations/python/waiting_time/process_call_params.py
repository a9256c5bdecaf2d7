"""Writes into the call's result how long the client waited for an answer."""

from datetime import datetime


def process_call_params(params):
    channel = params["call_full"]["channel"]
    if channel["was_answered"]:
        waited = datetime.fromisoformat(channel["answer_time"]) - datetime.fromisoformat(channel["start_time"])
        params["call_result"] = f"Waited {waited.seconds} s"
    return {"state": "success", "data": params}
