from django.urls import path

from shop import views

urlpatterns = [path("product/<int:pk>/", views.product, name="product")]
