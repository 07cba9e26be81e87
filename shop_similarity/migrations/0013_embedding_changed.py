"""Which products have got other embeddings since a time, for the feed."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0012_attributes'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='embedding',
            index=models.Index(fields=['version', 'embedded_at'], include=('product_id',), name='shop_similarity_emb_changed'),
        ),
    ]
