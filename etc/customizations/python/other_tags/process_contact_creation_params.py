"""New contacts carry the trunk that the call came through as a tag."""

from trunk_tags import trunk_tags


def process_contact_creation_params(params):
    return {"state": "success", "data": {**params, "tags": trunk_tags(params)}}
