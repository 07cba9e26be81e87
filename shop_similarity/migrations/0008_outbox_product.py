"""Entries of a product, which the deletion of the product looks for."""

from django.db import migrations, models
from django.contrib.postgres.operations import AddIndexConcurrently


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0007_outbox_leased'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='outboxentry',
            index=models.Index(fields=['version', 'product_id'], name='shop_similarity_outbox_product'),
        ),
    ]
