"""Who looks after a trunk: user ids of Kommo."""

RESPONSIBLE = {"PJSIP/shop": 9100001, "PJSIP/service": 9100002}


def keeper(call):
    """Whose a missed incoming call is, or None."""
    if call["channel"]["type"] != "incoming" or call["result"] == 200:
        return None
    return RESPONSIBLE.get(call["channel"]["trunk"]["number"])
