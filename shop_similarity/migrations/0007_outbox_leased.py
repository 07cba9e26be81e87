"""What workers have claimed."""

from django.db import migrations, models
from django.contrib.postgres.operations import AddIndexConcurrently


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0006_outbox_later'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='outboxentry',
            index=models.Index(condition=models.Q(('leased_until__isnull', False)), fields=['leased_until'], name='shop_similarity_outbox_leased'),
        ),
    ]
