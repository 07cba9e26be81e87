"""Entries of a product by an index of the product alone."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0014_visual_query_objects'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='outboxentry',
            index=models.Index(fields=['product_id'], name='shop_similarity_outbox_of'),
        ),
    ]
