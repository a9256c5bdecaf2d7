"""Tells another system of a missed incoming call. Its address stands in notify_url.txt beside this file."""

import json
from pathlib import Path
from urllib.request import Request, urlopen


def post_registration(params):
    call = params["call_full"]
    if call["channel"]["type"] == "incoming" and call["result"] != 200:
        url = Path(__file__).with_name("notify_url.txt").read_text().strip()
        message = {"phone": call["channel"]["from"]["number"], "at": call["channel"]["start_time"]}
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(url, json.dumps(message).encode(), headers), timeout=2):
            pass
    return {"state": "success"}
