"""What is to be tried later, by its time."""

from django.db import migrations, models
from django.contrib.postgres.operations import AddIndexConcurrently


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('shop_similarity', '0005_outbox_ready'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='outboxentry',
            index=models.Index(condition=models.Q(('due_at__isnull', False), ('failed_at__isnull', True)), fields=['due_at'], name='shop_similarity_outbox_later'),
        ),
    ]
