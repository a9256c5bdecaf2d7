"""A neighbour of the customizations, for what they share."""


def trunk_tags(params):
    trunk = params["call_full"]["channel"]["trunk"]["number"]
    return ["Call", trunk or "unknown trunk"]
