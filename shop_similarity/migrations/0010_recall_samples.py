import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('shop_similarity', '0009_outbox_pending'),
    ]

    operations = [
        migrations.CreateModel(
            name='RecallSample',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('measured_at', models.DateTimeField(db_index=True, verbose_name='measured at')),
                ('recall', models.FloatField(null=True, verbose_name='recall')),
                ('filtered_recall', models.FloatField(null=True, verbose_name='recall behind a filter')),
                ('k', models.PositiveSmallIntegerField(verbose_name='products of each search')),
                ('products', models.PositiveSmallIntegerField(verbose_name='products asked with')),
                ('path', models.CharField(max_length=10, verbose_name='path')),
                ('is_cut_short', models.BooleanField(default=False, verbose_name='cut short')),
                ('exact_ms', models.FloatField(null=True, verbose_name='exact search in ms')),
                ('coded_ms', models.FloatField(null=True, verbose_name='coded search in ms')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='recall_samples', to='shop_similarity.modelversion', verbose_name='model version')),
            ],
            options={
                'verbose_name': 'sample of the recall',
                'verbose_name_plural': 'samples of the recall',
                'ordering': ['-measured_at'],
            },
        ),
    ]
