"""Sweeps that go on where they were cut off."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('shop_similarity', '0003_heartbeats'),
    ]

    operations = [
        migrations.AddField(
            model_name='sweeprun',
            name='cursor',
            field=models.JSONField(blank=True, null=True, verbose_name='cursor'),
        ),
        migrations.AddField(
            model_name='sweeprun',
            name='seen_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='seen at'),
        ),
        migrations.AddField(
            model_name='sweeprun',
            name='examined',
            field=models.PositiveBigIntegerField(db_default=0, default=0, verbose_name='photos examined'),
        ),
    ]
