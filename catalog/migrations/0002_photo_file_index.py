from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    # A shop stays open while its index is built.
    atomic = False

    dependencies = [
        ('catalog', '0001_initial'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='productphoto',
            index=models.Index(fields=['file'], name='catalog_photo_file', opclasses=['varchar_pattern_ops']),
        ),
    ]
