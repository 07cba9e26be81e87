from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('shop_similarity', '0013_embedding_changed'),
    ]

    operations = [
        migrations.AddField(
            model_name='visualquery',
            name='is_kept',
            field=models.BooleanField(db_default=False, default=False, verbose_name='photo is kept'),
        ),
        migrations.AddField(
            model_name='visualquery',
            name='product',
            field=models.TextField(blank=True, db_default='', default='', verbose_name='product'),
        ),
        migrations.AddField(
            model_name='visualquery',
            name='regions',
            field=models.JSONField(null=True, verbose_name='objects'),
        ),
        migrations.AddIndex(
            model_name='visualquery',
            index=models.Index(condition=models.Q(('is_kept', True)), fields=['created_at'], name='shop_similarity_query_kept'),
        ),
    ]
