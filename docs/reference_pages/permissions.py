"""Every permission that a user or a group can be given."""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth.management import _get_all_permissions

from .markdown import cell, code, table


def page() -> str:
    return "\n\n".join(
        [
            "# Permissions, all of them",
            "What a user or a group can be given. [The admin](../admin.md#permissions) says what each lets its holder "
            "do, and which also need the shop's own permissions. What only the plugin writes nobody can change in the "
            "admin, whatever permissions they hold.",
            table(
                ("permission", "its name in the admin", "of the model"),
                ((code(name), cell(label), code(model)) for name, label, model in permissions()),
            ),
        ]
    )


def permissions() -> list[tuple[str, str, str]]:
    """Codename with its app, name, model; of all apps of the plugin."""
    return [
        (f"{config.label}.{codename}", str(label), model.__name__)
        for config in apps.get_app_configs()
        if config.name.startswith("shop_similarity")
        for model in config.get_models()
        for codename, label in _get_all_permissions(model._meta)
    ]
