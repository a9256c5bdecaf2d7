"""Click-to-call: dials the last 10 digits with an 8 in front, as a Russian PBX wants them."""

import re


def process_originate_params(params):
    digits = re.sub(r"\D", "", params["extension"])
    if len(digits) >= 10:
        params["extension"] = "8" + digits[-10:]
    return {"state": "success", "data": params}
