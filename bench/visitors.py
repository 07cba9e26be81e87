"""Visitors of the reference shop for locust; bench/traffic.py starts it and tells it by the environment what to do.

BENCH_VISIT  JSON: folder with photos, products, `mix` (weights by kind, no pause) or `rates` (by kind: requests a
             second, how many clients make them)
BENCH_LOG    file that gets a line of JSON for each request: when it began, kind, status (0: no answer), ms,
             whether it said Retry-After, error
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import deque
from html.parser import HTMLParser
from pathlib import Path

from locust import FastHttpUser, constant, constant_throughput, events, task

PLAN = json.loads(os.environ["BENCH_VISIT"])
PHOTOS = [path.read_bytes() for path in sorted(Path(PLAN["photos"]).iterdir())]
TARGETS = PLAN["targets"]
BOUNDARY = "shop-similarity-bench"
# Lists that pages have shown and whose products may be clicked: token, keys of the products.
SHOWN: deque[tuple[str, list[str]]] = deque(maxlen=500)
LOG = Path(os.environ["BENCH_LOG"]).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115 - as long as the process


@events.request.add_listener
def _note(name, response_time, response, exception, start_time, **kwargs) -> None:
    status = getattr(response, "status_code", 0) or 0
    headers = getattr(response, "headers", None) or {}
    # What is wrong with an answer that says that nothing is: a form that came back.
    error = f"{type(exception).__name__}: {exception}"[:200] if exception and status < 400 else ""
    LOG.write(json.dumps([start_time, name, status, response_time, bool(headers.get("Retry-After")), error]) + "\n")


def multipart(fields: dict[str, str], name: str, photo: bytes) -> dict:
    """Body and header of a form with one photo."""
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{fields[key]}\r\n' for key in fields]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="photo.jpg"\r\n'
    body = "".join(parts).encode() + f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + photo
    return {
        "data": body + f"\r\n--{BOUNDARY}--\r\n".encode(),
        "headers": {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    }


class Form(HTMLParser):
    """The fields of an admin page as a browser would send them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes) -> None:
        values = dict(attributes)
        name = values.get("name")
        if tag in ("select", "textarea"):
            self._open = name or ""
            self.fields.setdefault(self._open, "")
        elif tag == "option" and "selected" in values and self._open:
            self.fields[self._open] = values.get("value") or ""
        elif tag == "input" and name and values.get("type") not in ("file", "submit", "checkbox", "button"):
            self.fields[name] = values.get("value") or ""
        elif tag == "input" and name and values.get("type") == "checkbox" and "checked" in values:
            self.fields[name] = "on"

    def handle_endtag(self, tag) -> None:
        if tag in ("select", "textarea"):
            self._open = ""

    def handle_data(self, data) -> None:
        if self._open and not self.fields.get(self._open) and data.strip():
            self.fields[self._open] = data


def look(user) -> None:
    """A product page; what its widget shows may be clicked later."""
    with user.client.get(random.choice(TARGETS)["url"], name="page", catch_response=True) as answer:
        page = answer.text or ""
        token = re.search(r'data-similarity-token="([^"]+)"', page)
        keys = re.findall(r'data-similarity-product="([^"]+)"', page)
        if token and keys:
            SHOWN.append((token.group(1), keys))


def look_plain(user) -> None:
    user.client.get(random.choice(TARGETS)["plain_url"], name="plain")


def search(user) -> None:
    user.client.get(f"/api/similarity/v1/products/{random.choice(TARGETS)['pk']}/similar/?limit=8", name="api")


def search_by_photo(user) -> None:
    form = multipart({"limit": "8"}, "image", random.choice(PHOTOS))
    # Who has saved in the admin is signed in, and the API takes that for a browser's page.
    tokens = [cookie.value for cookie in user.client.cookiejar if cookie.name == "csrftoken"]
    form["headers"] |= {"X-CSRFToken": tokens[0], "Referer": user.host} if tokens else {}
    user.client.post("/api/similarity/v1/search/image/", name="photo", **form)


def click(user) -> None:
    if SHOWN:
        token, keys = random.choice(SHOWN)
        reports = [{"kind": "impression"}, {"kind": "click", "product": random.choice(keys)}]
        user.client.post("/similarity/events/", json={"token": token, "events": reports}, name="click")


def save(user) -> None:
    """Put another photo in the place of a product's first one, in the admin."""
    if not getattr(user, "logged_in", False):
        page = user.client.get("/admin/login/", name="login").text or ""
        fields = Form(page).fields | {"username": "bench", "password": PLAN["password"], "next": "/admin/"}
        user.client.post("/admin/login/", data=fields, name="login", headers={"Referer": user.host})
        user.logged_in = True
    url = f"/admin/catalog/product/{random.choice(TARGETS[:20])['pk']}/change/"
    answer = user.client.get(url, name="save form")
    if answer.status_code != 200 or "photos-0-id" not in (answer.text or ""):
        user.logged_in = False
        return
    # With a comment of its own, or the worker would take the vector that is there.
    photo = random.choice(PHOTOS)
    photo = photo[:2] + b"\xff\xfe\x00\x0a" + random.randbytes(8) + photo[2:]
    fields = Form(answer.text).fields
    sent = multipart(fields, "photos-0-file", photo)
    sent["headers"]["Referer"] = user.host
    with user.client.post(url, name="save", allow_redirects=False, catch_response=True, **sent) as answer:
        if answer.status_code == 302:
            answer.success()
        elif answer.status_code == 200:
            lines = re.findall(r'<ul class="errorlist.*?</ul>', answer.text or "", re.S)
            answer.failure(f"not saved: {re.sub('<[^>]+>', ' ', ' '.join(lines))[:200]}")


KINDS = {"page": look, "plain": look_plain, "api": search, "photo": search_by_photo, "click": click, "save": save}


class Visitor(FastHttpUser):
    abstract = True
    # Longer than the shop lets anybody wait.
    network_timeout = 90.0
    connection_timeout = 30.0


if "mix" in PLAN:

    class Hurried(Visitor):
        """One client that asks again as soon as it has an answer."""

        wait_time = constant(0)
        tasks = {KINDS[kind]: weight for kind, weight in PLAN["mix"].items()}

else:
    for kind, (rate, count) in PLAN["rates"].items():
        globals()[f"Steady_{kind}"] = type(
            f"Steady_{kind}",
            (Visitor,),
            {
                "fixed_count": count,
                "wait_time": constant_throughput(rate / count),
                "visit": task(KINDS[kind]),
            },
        )
