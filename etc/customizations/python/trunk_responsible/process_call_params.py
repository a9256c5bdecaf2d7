"""A missed incoming call belongs to whoever looks after the trunk that it came through."""

from trunks import keeper


def process_call_params(params):
    if user := keeper(params["call_full"]):
        params["responsible_user_id"] = user
    return {"state": "success", "data": params}
