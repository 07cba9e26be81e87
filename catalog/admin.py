"""The back office of the shop."""

from django.contrib import admin
from django.db.models import Count
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from catalog.categories import tree_of
from catalog.models import Category, LoadedCatalogue, Product, ProductPhoto
from catalog.thumbnails import thumbnail
from shop_similarity.admin import SimilarProductsAdminMixin


def preview(photo: ProductPhoto | None) -> str:
    """A small picture of a photo, or a dash."""
    copy = thumbnail(photo, "small") if photo and photo.file else None
    return format_html('<img src="{}" alt="" width="80" height="80" loading="lazy">', copy.url) if copy else "–"


class HasPhotoFilter(admin.SimpleListFilter):
    """Products with or without photos."""

    title = _("photos")
    parameter_name = "photos"

    def lookups(self, request, model_admin):
        return [("yes", _("With photos")), ("no", _("Without photos"))]

    def queryset(self, request, queryset):
        if self.value() is None:
            return queryset
        return queryset.filter(photos__isnull=self.value() == "no").distinct()


class CategoryFilter(admin.SimpleListFilter):
    """Categories by their whole path, because "Tops" may stand under Men and under Women."""

    title = _("category")
    parameter_name = "category"

    def __init__(self, request, params, model, model_admin):
        self.tree = tree_of(request)
        super().__init__(request, params, model, model_admin)

    def lookups(self, request, model_admin):
        paths = [(str(key), " / ".join(step.category.name for step in self.tree.trail(key))) for key in self.tree.nodes]
        return sorted(paths, key=lambda path: path[1])

    def queryset(self, request, queryset):
        node = self.tree.nodes.get(int(self.value())) if (self.value() or "").isdecimal() else None
        return queryset.filter(category_id__in=node.subtree_ids()) if node else queryset


class PhotoInline(admin.TabularInline):
    model = ProductPhoto
    fields = ["shown", "file", "caption", "position"]
    readonly_fields = ["shown"]
    extra = 1

    @admin.display(description=_("preview"))
    def shown(self, photo):
        return preview(photo)


@admin.register(Product)
class ProductAdmin(SimilarProductsAdminMixin, admin.ModelAdmin):
    list_display = ["shown", "name", "sku", "category", "price", "stock", "is_published", "photo_count"]
    list_display_links = ["shown", "name"]
    list_filter = ["is_published", HasPhotoFilter, CategoryFilter]
    list_select_related = ["category"]
    list_per_page = 50
    search_fields = ["name", "sku", "category__name"]
    autocomplete_fields = ["category"]
    prepopulated_fields = {"slug": ["name"]}
    inlines = [PhotoInline]

    def get_queryset(self, request):
        return super().get_queryset(request).prefetch_related("photos")

    @admin.display(description=_("photo"))
    def shown(self, product):
        return preview(product.main_photo)

    @admin.display(description=_("photos"))
    def photo_count(self, product):
        return len(product.photos.all())


@admin.register(Category)
class CategoryAdmin(admin.ModelAdmin):
    list_display = ["name", "parent", "slug", "product_count"]
    list_select_related = ["parent"]
    search_fields = ["name"]
    autocomplete_fields = ["parent"]
    prepopulated_fields = {"slug": ["name"]}

    def get_queryset(self, request):
        return super().get_queryset(request).annotate(product_count=Count("products"))

    @admin.display(description=_("products"), ordering="product_count")
    def product_count(self, category):
        return category.product_count


@admin.register(LoadedCatalogue)
class LoadedCatalogueAdmin(admin.ModelAdmin):
    list_display = ["name", "description", "loaded_at"]
    readonly_fields = ["name", "loaded_at"]

    def has_add_permission(self, request):
        return False
