"""The index that begins with the version goes: Postgres took it for a photo's entries, and read all that waits."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0015_outbox_of'),
    ]

    operations = [
        RemoveIndexConcurrently(model_name='outboxentry', name='shop_similarity_outbox_product'),
    ]
