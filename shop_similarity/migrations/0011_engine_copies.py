from django.db import migrations, models

# Called by triggers that workers set up where an engine beside Postgres is chosen; without them it does nothing. One
# statement notes all its rows at once, and none of a version that no engine has a copy of. It finds the tables whatever
# the path of the session: that of pg_restore is empty.
_FUNCTION = """
CREATE FUNCTION shop_similarity_note_changes() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO shop_similarity_enginechange (version_id, embedding_id)
    SELECT c.version_id, c.id FROM changed c WHERE c.version_id IN (
        SELECT e.version_id FROM shop_similarity_enginecopy e WHERE e.is_wanted
    );
    RETURN NULL;
END
$$
"""


class Migration(migrations.Migration):

    dependencies = [
        ('shop_similarity', '0010_recall_samples'),
    ]

    operations = [
        migrations.CreateModel(
            name='EngineChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version_id', models.BigIntegerField(verbose_name='model version')),
                ('embedding_id', models.BigIntegerField(verbose_name='embedding')),
            ],
            options={
                'verbose_name': 'change for the search engine',
                'verbose_name_plural': 'changes for the search engine',
                'indexes': [models.Index(fields=['version_id', 'id'], name='shop_similarity_engine_change')],
            },
        ),
        migrations.CreateModel(
            name='EngineCopy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version_id', models.BigIntegerField(verbose_name='model version')),
                ('engine', models.CharField(max_length=255, verbose_name='engine')),
                ('name', models.CharField(max_length=100, unique=True, verbose_name='name in the engine')),
                ('is_wanted', models.BooleanField(default=True, verbose_name='wanted')),
                ('cursor', models.TextField(blank=True, verbose_name='last photo')),
                ('photos', models.BigIntegerField(default=0, verbose_name='photos')),
                ('filled_at', models.DateTimeField(blank=True, null=True, verbose_name='complete since')),
                ('seen_at', models.DateTimeField(blank=True, null=True, verbose_name='engine answered at')),
                ('error', models.TextField(blank=True, verbose_name='trouble')),
            ],
            options={
                'verbose_name': 'copy in the search engine',
                'verbose_name_plural': 'copies in the search engine',
                'constraints': [models.UniqueConstraint(condition=models.Q(('is_wanted', True)), fields=('version_id',), name='shop_similarity_one_engine_copy')],
            },
        ),
        migrations.RunSQL(_FUNCTION, "DROP FUNCTION IF EXISTS shop_similarity_note_changes() CASCADE"),
    ]
