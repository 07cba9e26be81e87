"""The dashboard as an entry of the admin's index, which lists models alone."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .versions import ModelVersion


class Dashboard(ModelVersion):
    """No rows of its own: the admin's index links to the dashboard by it."""

    class Meta:
        proxy = True
        # Whoever may see the dashboard is said by `view_dashboard`.
        default_permissions = ()
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")
