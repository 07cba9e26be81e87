"""Text from outside, looked at once, before anything is done with it.

PostgreSQL holds no NUL, UTF-8 no half of a surrogate pair, and codecs of Python's own can be made to take hours or to
raise whatever they like. What a form or a JSON body says of itself is looked at where it is read.
"""

from __future__ import annotations

import codecs
import re

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, QueryDict
from django.utils.translation import gettext as _

MOST_CHARACTERS = 8_192
"""Longer than any path, parameter or cookie that this plugin or a shop makes."""

CHECKS_ITSELF = "shop_similarity_checks_text"
"""Attribute of views that look at their text themselves."""

# Those that browsers and programs send, and that decode any bytes in linear time.
_CHARSETS = {"utf-8", "ascii", "iso8859-1", "cp1252"}
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")


class UnusableText(BadRequest):
    """A request holds text that can be no text of the shop's; ``str()`` is a translated sentence."""


def is_usable(text: str, most: float = MOST_CHARACTERS) -> bool:
    """Whether a database, a cache and a header can hold it: no NUL, no half of a surrogate pair, not over-long."""
    return len(text) <= most and _UNUSABLE.search(text) is None


def check_charset(request: HttpRequest) -> None:
    """Look at the charset that the request wants its form and its address to be read with.

    Raises:
        UnusableText: it is none of those that browsers send.
    """
    if request.encoding is not None and codecs.lookup(request.encoding).name not in _CHARSETS:
        raise UnusableText(_("The charset of the request is not known here; send UTF-8."))


def check_request(request: HttpRequest) -> None:
    """Look at charset, parameters, the cookie that names the session, and the path; the body is not read.

    Raises:
        UnusableText: one of them is unusable; the sentence says what.
        Http404: no path of the shop is such.
    """
    check_charset(request)
    check_values(request.GET)
    check_session_cookie(request)
    if not is_usable(request.path_info):
        raise Http404


def check_session_cookie(request: HttpRequest) -> None:
    """Look at the cookie that names the session, with which the database is asked.

    Raises:
        UnusableText: it is unusable.
    """
    if not is_usable(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")):
        raise UnusableText(_("The cookie of the session is no text that can be kept; delete it."))


def check_values(values: QueryDict, most: float = MOST_CHARACTERS) -> None:
    """Look at the names and values of an address or a form.

    Args:
        most: characters of each; infinite for forms that are bounded otherwise.

    Raises:
        UnusableText: one of them is unusable.
    """
    for name, several in values.lists():
        if not all(is_usable(text, most) for text in (name, *several)):
            raise UnusableText(
                _("%(name)s is too long, or has characters that no text has.") % {"name": ascii(name)[1:-1][:40]}
            )
