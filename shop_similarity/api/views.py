"""The API's views."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ..catalogue import get_catalogue
from ..search import searched_version, similar_products
from .serializers import SimilarProductSerializer, SimilarProductsParameters


class SimilarProductsView(APIView):
    """Products that look like one product, most similar first.

    Only products that the shop shows are found, and only for a product that it shows. ``results`` is empty while the
    product has no embedding yet.
    """

    # The same products as on the shop's public pages.
    permission_classes = [AllowAny]

    def get(self, request: Request, pk: str) -> Response:
        parameters = SimilarProductsParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        visible = get_catalogue().visible_products()
        try:
            product = visible.filter(pk=visible.model._meta.pk.to_python(pk)).first()
        except (ValidationError, ValueError, OverflowError):
            product = None
        if product is None:
            raise Http404(_("There is no such product."))
        # Read once: the name in the answer is that of the version which found the products.
        version = searched_version()
        limit = parameters.validated_data["limit"]
        found = similar_products(product, limit, visible, version=version) if version else []
        results = SimilarProductSerializer(found, many=True, context={"request": request})
        return Response(
            {"product": str(product.pk), "version": version.name if version else None, "results": results.data}
        )
