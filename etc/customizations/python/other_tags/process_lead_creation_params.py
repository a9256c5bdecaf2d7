"""New leads carry the trunk that the call came through as a tag."""

from trunk_tags import trunk_tags


def process_lead_creation_params(params):
    params["_embedded"]["tags"] = [{"name": name} for name in trunk_tags(params)]
    return {"state": "success", "data": params}
