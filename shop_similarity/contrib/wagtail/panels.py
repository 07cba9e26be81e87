"""A panel for the editor of a product: how far its photos are."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from wagtail.admin.panels import Panel

_HEADING = _("Photos for similar products")


class PhotoStatesPanel(Panel):
    """The state of each photo of a saved product with the versions of the model; four statements.

    As shoppers see it: photos of a draft are embedded when it is published.
    """

    def __init__(self, heading: Any = _HEADING, icon: str = "image", **kwargs: Any) -> None:
        super().__init__(heading=heading, icon=icon, **kwargs)

    class BoundPanel(Panel.BoundPanel):
        template_name = "shop_similarity/wagtail/photo_states_panel.html"

        def is_shown(self) -> bool:
            # Wagtail makes the instance of a page that is being added before it has a key.
            return self.instance is not None and self.instance.pk is not None

        def get_context_data(self, parent_context: Any = None) -> dict[str, Any]:
            from ...catalogue import get_catalogue
            from ...embedding.photo_states import photo_states
            from ...photos.thumbnails import sources

            # The instance of the editor holds what the newest draft says.
            product = get_catalogue().all_products().get(pk=self.instance.pk)
            photos = [(photo, sources(photo.file, (120,))) for photo in photo_states(product)]
            return super().get_context_data(parent_context) | {"photos": photos}
