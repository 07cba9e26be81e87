"""What can be claimed now, without what waits for a later try."""

from django.db import migrations, models
from django.contrib.postgres.operations import AddIndexConcurrently


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0004_sweep_cursor'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='outboxentry',
            index=models.Index(condition=models.Q(('due_at__isnull', True), ('failed_at__isnull', True), ('leased_until__isnull', True)), fields=['version', 'priority', 'id'], name='shop_similarity_outbox_ready'),
        ),
    ]
