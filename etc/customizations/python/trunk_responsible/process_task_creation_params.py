"""The call-back task of a missed incoming call belongs to whoever looks after the trunk that it came through."""

from trunks import keeper


def process_task_creation_params(params):
    if user := keeper(params["call_full"]):
        params["responsible_user_id"] = user
    return {"state": "success", "data": params}
