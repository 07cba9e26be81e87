"""The plugin in Django's admin, one subject per file: docs/admin.md.

Django finds and registers all of it by itself. A shop with an admin site of its own calls :func:`register`; one that
wants other pages unregisters the plugin's model admins and registers its own subclasses.
"""

from __future__ import annotations

from django.contrib import admin

from ..models import Dashboard, Experiment, MerchandisingRule, ModelVersion, OutboxEntry
from .experiments import ExperimentAdmin
from .outbox import OutboxEntryAdmin
from .product_admin import SimilarProductsAdminMixin
from .rules import MerchandisingRuleAdmin
from .versions import DashboardAdmin, ModelVersionAdmin

__all__ = [
    "ExperimentAdmin",
    "MerchandisingRuleAdmin",
    "ModelVersionAdmin",
    "OutboxEntryAdmin",
    "SimilarProductsAdminMixin",
    "register",
]


def register(site: admin.AdminSite) -> None:
    """Register the plugin's model admins at a site. The pages (dashboard, comparison, look-alikes) come with them.

    Raises:
        AlreadyRegistered: the site has one of them already.
    """
    site.register(Dashboard, DashboardAdmin)
    site.register(ModelVersion, ModelVersionAdmin)
    site.register(OutboxEntry, OutboxEntryAdmin)
    site.register(MerchandisingRule, MerchandisingRuleAdmin)
    site.register(Experiment, ExperimentAdmin)


register(admin.site)
