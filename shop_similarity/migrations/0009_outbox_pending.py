"""The index that held what waits and what can be claimed in one."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0008_outbox_product'),
    ]

    operations = [
        RemoveIndexConcurrently(model_name='outboxentry', name='shop_similarity_outbox_pending'),
    ]
