"""Click-to-call: calls to Kazakhstan leave through a context of their own, where the dialplan takes another trunk."""

import re


def process_originate_params(params):
    if re.fullmatch(r"\+?7[67]\d{9}", params["extension"]):
        params["context"] = "from-internal-kz"
    return {"state": "success", "data": params}
