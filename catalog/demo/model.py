"""The first model version of the demo's shop."""

from collections.abc import Callable
from pathlib import Path

from django.utils.translation import gettext as _

from catalog.demo.children import Child
from catalog.demo.errors import DemoError
from shop_similarity.models import ModelVersion


def active_version() -> ModelVersion | None:
    """The version that the shop shows look-alikes of."""
    return ModelVersion.objects.filter(state=ModelVersion.State.ACTIVE).first()


def lacks_explanation() -> bool:
    """Whether nothing says yet why products are similar to the version that the shop shows."""
    return ModelVersion.objects.filter(state=ModelVersion.State.ACTIVE, aspect_basis=None).exists()


def ensure_model(folder: Path, *, start: Callable[[Callable[[], Child]], Child]) -> ModelVersion:
    """The active version; if there is none, the training room's command makes it from ImageNet weights.

    What explains its similarities is left for later, for the first page does not need it.

    start: starts a child so that it cannot get lost. Raises DemoError if the command fails; it has said why.
    """
    if version := active_version():
        return version
    child = start(lambda: Child(["manage.py", "calibrate_mildnet", "--activate", "--no-aspects"], folder=folder))
    status = child.process.wait()
    version = active_version()
    if status != 0 or version is None:
        raise DemoError(
            _("There is no model, so there can be no look-alikes: `manage.py calibrate_mildnet` ended with %(status)d.")
            % {"status": status}
        )
    return version
