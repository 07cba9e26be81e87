from django.db import models
from django.urls import reverse


class Product(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("product", args=[self.pk])


class Photo(models.Model):
    product = models.ForeignKey(Product, models.CASCADE, related_name="photos")
    file = models.ImageField(upload_to="photos")

    def __str__(self) -> str:
        return self.file.name
