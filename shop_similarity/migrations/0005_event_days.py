import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('shop_similarity', '0004_run_experiments'),
    ]

    operations = [
        migrations.CreateModel(
            name='EventDay',
            fields=[
                ('day', models.DateField(primary_key=True, serialize=False, verbose_name='day')),
                ('rolled_up_at', models.DateTimeField(verbose_name='rolled up at')),
                ('closed_at', models.DateTimeField(blank=True, null=True, verbose_name='closed at')),
            ],
            options={
                'verbose_name': 'day of events',
                'verbose_name_plural': 'days of events',
            },
        ),
        migrations.RemoveIndex(
            model_name='event',
            name='shop_similarity_event_time',
        ),
        migrations.AddField(
            model_name='event',
            name='bucket',
            field=models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='bucket'),
        ),
        migrations.AddField(
            model_name='event',
            name='shown_at',
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name='shown at'),
            preserve_default=False,
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['shown_at'], name='shop_similarity_event_shown'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(condition=models.Q(('experiment__isnull', False)), fields=['experiment', 'bucket'], name='shop_similarity_event_bucket'),
        ),
        migrations.AddConstraint(
            model_name='experiment',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True), ('started_at__isnull', False)), fields=('ended_at',), name='shop_similarity_one_running_experiment', nulls_distinct=False, violation_error_message='Another experiment is running: stop it first.'),
        ),
    ]
