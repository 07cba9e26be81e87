"""What the pages and mails about an error leave out."""

import re

from django.views.debug import SafeExceptionReporterFilter


class ErrorReportFilter(SafeExceptionReporterFilter):
    """Django's own, which also hides the addresses of servers: they may contain passwords."""

    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern + "|DATABASE_URL|REDIS_URL|BROKER|RESULT_BACKEND", re.I
    )
