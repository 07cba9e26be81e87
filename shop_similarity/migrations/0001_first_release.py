"""All tables as of the first release."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import pgvector.django.bit
import pgvector.django.halfvec
import shop_similarity.fields
import shop_similarity.models
import shop_similarity.models.experiments
import uuid
from django.db import migrations, models
from pgvector.django import VectorExtension


class VectorExtensionThatStays(VectorExtension):
    """Going back leaves it: other apps may use it, and it often belongs to a role that is not the shop's."""

    def database_backwards(self, *args, **kwargs):
        pass


class Migration(migrations.Migration):

    # Databases of before the first release, on which all of these were applied, have these tables already.
    replaces = [
        ('shop_similarity', '0001_initial'),
        ('shop_similarity', '0002_rollout'),
        ('shop_similarity', '0003_storefront'),
        ('shop_similarity', '0004_run_experiments'),
        ('shop_similarity', '0005_event_days'),
        ('shop_similarity', '0006_visual_query_mean'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        VectorExtensionThatStays(),
        migrations.CreateModel(
            name='SweepRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('started_at', models.DateTimeField(auto_now_add=True, verbose_name='started at')),
                ('finished_at', models.DateTimeField(blank=True, null=True, verbose_name='finished at')),
                ('with_files', models.BooleanField(default=False, verbose_name='asked the storage')),
                ('enqueued', models.PositiveIntegerField(default=0, verbose_name='photos queued')),
                ('removed', models.PositiveIntegerField(default=0, verbose_name='embeddings removed')),
            ],
            options={
                'verbose_name': 'sweep',
                'verbose_name_plural': 'sweeps',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='ModelVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True, verbose_name='name')),
                ('architecture', models.CharField(max_length=50, verbose_name='architecture')),
                ('config', models.JSONField(default=dict, help_text='Arguments of the architecture.', verbose_name='configuration')),
                ('preprocessing', models.JSONField(default=dict, help_text="How a photo becomes the network's input.", verbose_name='preprocessing')),
                ('weights', models.FileField(max_length=255, storage=shop_similarity.models.weights_storage, upload_to='shop_similarity', verbose_name='weights')),
                ('weights_sha256', models.CharField(max_length=64, verbose_name='SHA-256 of the weights')),
                ('weights_source', models.TextField(blank=True, verbose_name='source of the weights')),
                ('metrics', models.JSONField(blank=True, default=dict, verbose_name='metrics')),
                ('state', models.CharField(choices=[('candidate', 'candidate'), ('active', 'active'), ('standby', 'standby'), ('retired', 'retired')], db_index=True, default='candidate', max_length=10, verbose_name='state')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
                ('activated_at', models.DateTimeField(blank=True, null=True, verbose_name='activated at')),
                ('activation_forced', models.BooleanField(default=False, verbose_name='activation forced')),
                ('activation_note', models.TextField(blank=True, verbose_name='about the activation')),
                ('activation_requested_at', models.DateTimeField(blank=True, null=True, verbose_name='activation requested at')),
            ],
            options={
                'verbose_name': 'model version',
                'verbose_name_plural': 'model versions',
                'ordering': ['-created_at'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', 'active')), fields=('state',), name='shop_similarity_one_active_version'), models.UniqueConstraint(condition=models.Q(('state', 'standby')), fields=('state',), name='shop_similarity_one_standby_version')],
                'permissions': [('view_dashboard', 'Can view the dashboard of similar products'), ('activate_modelversion', 'Can activate and roll back model versions'), ('compare_modelversion', 'Can compare model versions')],
            },
        ),
        migrations.CreateModel(
            name='Embedding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('product_id', shop_similarity.fields.ProductKeyField(verbose_name='product key')),
                ('image_id', shop_similarity.fields.ImageKeyField(verbose_name='image key')),
                ('file_name', models.TextField(verbose_name='file name')),
                ('file_mark', models.TextField(blank=True, verbose_name='size and time of the file')),
                ('content_sha256', models.CharField(max_length=64, verbose_name='SHA-256 of the file')),
                ('vector', pgvector.django.halfvec.HalfVectorField(dimensions=4096, verbose_name='vector')),
                ('code', pgvector.django.bit.BitField(length=4096, verbose_name='code')),
                ('embedded_at', models.DateTimeField(auto_now=True, verbose_name='embedded at')),
                ('version', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='embeddings', to='shop_similarity.modelversion', verbose_name='model version')),
            ],
            options={
                'verbose_name': 'embedding',
                'verbose_name_plural': 'embeddings',
                'base_manager_name': 'objects',
                'indexes': [models.Index(fields=['version', 'product_id'], name='shop_similarity_emb_product'), models.Index(fields=['version', 'content_sha256'], name='shop_similarity_emb_content')],
                'constraints': [models.UniqueConstraint(fields=('version', 'image_id'), name='shop_similarity_one_embedding_per_image')],
            },
        ),
        migrations.CreateModel(
            name='OutboxEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('product_id', shop_similarity.fields.ProductKeyField(verbose_name='product key')),
                ('image_id', shop_similarity.fields.ImageKeyField(verbose_name='image key')),
                ('priority', models.SmallIntegerField(choices=[(0, 'saved'), (10, 'found by a sweep'), (20, 'backfill')], default=0, verbose_name='priority')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
                ('due_at', models.DateTimeField(blank=True, null=True, verbose_name='not before')),
                ('attempts', models.PositiveSmallIntegerField(default=0, verbose_name='attempts')),
                ('leased_until', models.DateTimeField(blank=True, null=True, verbose_name='claimed until')),
                ('claimed_by', models.CharField(blank=True, max_length=255, verbose_name='claimed by')),
                ('last_error', models.TextField(blank=True, verbose_name='last error')),
                ('failed_at', models.DateTimeField(blank=True, null=True, verbose_name='failed at')),
                ('file_name', models.TextField(blank=True, verbose_name='file name')),
                ('file_mark', models.TextField(blank=True, verbose_name='size and time of the file')),
                ('version', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='outbox', to='shop_similarity.modelversion', verbose_name='model version')),
            ],
            options={
                'verbose_name': 'outbox entry',
                'verbose_name_plural': 'outbox',
                'ordering': ['priority', 'id'],
                'indexes': [models.Index(condition=models.Q(('failed_at__isnull', True)), fields=['version', 'priority', 'id'], name='shop_similarity_outbox_pending'), models.Index(fields=['version', 'image_id'], name='shop_similarity_outbox_image'), models.Index(condition=models.Q(('failed_at__isnull', False)), fields=['version', 'failed_at'], name='shop_similarity_outbox_failed')],
                'permissions': [('retry_outboxentry', 'Can queue failed photos again'), ('reembed_product', 'Can have the photos of a product embedded again')],
            },
        ),
        migrations.CreateModel(
            name='AspectBasis',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('data', models.BinaryField(verbose_name='matrices')),
                ('sha256', models.CharField(max_length=64, verbose_name='SHA-256 of the matrices')),
                ('metrics', models.JSONField(blank=True, default=dict, verbose_name='metrics')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
                ('version', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='aspect_basis', to='shop_similarity.modelversion', verbose_name='model version')),
            ],
            options={
                'verbose_name': 'aspect basis',
                'verbose_name_plural': 'aspect bases',
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='Experiment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True, verbose_name='name')),
                ('share', models.FloatField(default=0.5, help_text='Of the visitors, 0.01 to 0.99.', validators=[django.core.validators.MinValueValidator(0.01), django.core.validators.MaxValueValidator(0.99)], verbose_name='share of the treatment')),
                ('salt', models.CharField(default=shop_similarity.models.experiments.new_salt, editable=False, max_length=32, verbose_name='salt')),
                ('started_at', models.DateTimeField(blank=True, null=True, verbose_name='started at')),
                ('ended_at', models.DateTimeField(blank=True, null=True, verbose_name='ended at')),
                ('note', models.TextField(blank=True, verbose_name='note')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
                ('control', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='experiments_as_control', to='shop_similarity.modelversion', verbose_name='control version')),
                ('treatment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='experiments_as_treatment', to='shop_similarity.modelversion', verbose_name='treatment version')),
            ],
            options={
                'verbose_name': 'experiment',
                'verbose_name_plural': 'experiments',
                'ordering': ['-created_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(('control', models.F('treatment')), _negated=True), name='shop_similarity_experiment_two_versions'), models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True), ('started_at__isnull', False)), fields=('ended_at',), name='shop_similarity_one_running_experiment', nulls_distinct=False, violation_error_message='Another experiment is running: stop it first.')],
                'permissions': [('run_experiment', 'Can start and stop experiments')],
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('query_id', models.UUIDField(verbose_name='query id')),
                ('kind', models.CharField(choices=[('impression', 'impression'), ('click', 'click'), ('basket', 'add to basket')], max_length=10, verbose_name='kind')),
                ('surface', models.CharField(choices=[('widget', 'similar products'), ('visual', 'visual search'), ('basket', 'several products'), ('api', 'API')], max_length=10, verbose_name='surface')),
                ('product_id', shop_similarity.fields.ProductKeyField(blank=True, null=True, verbose_name='product that was looked at')),
                ('shown', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), blank=True, default=list, size=None, verbose_name='products shown')),
                ('target_product_id', shop_similarity.fields.ProductKeyField(blank=True, null=True, verbose_name='product that was chosen')),
                ('position', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='position')),
                ('visitor', models.CharField(blank=True, max_length=100, verbose_name='visitor')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='shop_similarity.modelversion', verbose_name='model version')),
                ('experiment', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='shop_similarity.experiment', verbose_name='experiment')),
                ('bucket', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='bucket')),
                ('shown_at', models.DateTimeField(verbose_name='shown at')),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
                'indexes': [models.Index(fields=['shown_at'], name='shop_similarity_event_shown'), models.Index(condition=models.Q(('experiment__isnull', False)), fields=['experiment', 'bucket'], name='shop_similarity_event_bucket')],
                'constraints': [models.UniqueConstraint(fields=('query_id', 'kind', 'target_product_id'), name='shop_similarity_one_event', nulls_distinct=False)],
            },
        ),
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
        migrations.CreateModel(
            name='DailyStatistic',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(verbose_name='day')),
                ('surface', models.CharField(choices=[('widget', 'similar products'), ('visual', 'visual search'), ('basket', 'several products'), ('api', 'API')], max_length=10, verbose_name='surface')),
                ('position', models.PositiveSmallIntegerField(default=0, verbose_name='position')),
                ('impressions', models.PositiveBigIntegerField(default=0, verbose_name='impressions')),
                ('clicks', models.PositiveBigIntegerField(default=0, verbose_name='clicks')),
                ('baskets', models.PositiveBigIntegerField(default=0, verbose_name='baskets')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='shop_similarity.modelversion', verbose_name='model version')),
                ('experiment', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='statistics', to='shop_similarity.experiment', verbose_name='experiment')),
            ],
            options={
                'verbose_name': 'daily statistic',
                'verbose_name_plural': 'daily statistics',
                'ordering': ['-day', 'position'],
                'constraints': [models.UniqueConstraint(fields=('day', 'version', 'surface', 'experiment', 'position'), name='shop_similarity_one_statistic', nulls_distinct=False)],
            },
        ),
        migrations.CreateModel(
            name='MerchandisingRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('pin', 'pin'), ('hide', 'hide'), ('boost', 'boost')], max_length=5, verbose_name='kind')),
                ('product_id', shop_similarity.fields.ProductKeyField(blank=True, null=True, verbose_name='product')),
                ('category', models.CharField(blank=True, max_length=200, verbose_name='category')),
                ('target_product_id', shop_similarity.fields.ProductKeyField(blank=True, null=True, verbose_name='target product')),
                ('target_category', models.CharField(blank=True, max_length=200, verbose_name='target category')),
                ('position', models.PositiveSmallIntegerField(blank=True, help_text='Where a pinned product stands, 1 being the first.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100)], verbose_name='position')),
                ('boost', models.FloatField(blank=True, help_text='Added to the similarity in the ranking, -1 to 1; below 0 it demotes.', null=True, validators=[django.core.validators.MinValueValidator(-1), django.core.validators.MaxValueValidator(1)], verbose_name='boost')),
                ('starts_at', models.DateTimeField(blank=True, null=True, verbose_name='from')),
                ('ends_at', models.DateTimeField(blank=True, null=True, verbose_name='until')),
                ('is_on', models.BooleanField(default=True, verbose_name='on')),
                ('note', models.CharField(blank=True, max_length=300, verbose_name='note')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated at')),
            ],
            options={
                'verbose_name': 'merchandising rule',
                'verbose_name_plural': 'merchandising rules',
                'ordering': ['-updated_at'],
                'indexes': [models.Index(fields=['product_id'], name='shop_similarity_rule_product')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('target_category', ''), ('target_product_id__isnull', False)), models.Q(('target_product_id__isnull', True), models.Q(('target_category', ''), _negated=True)), _connector='OR'), name='shop_similarity_rule_one_target'), models.CheckConstraint(condition=models.Q(('product_id__isnull', True), ('category', ''), _connector='OR'), name='shop_similarity_rule_one_place'), models.CheckConstraint(condition=models.Q(('ends_at__isnull', True), ('starts_at__isnull', True), ('ends_at__gt', models.F('starts_at')), _connector='OR'), name='shop_similarity_rule_ends_later')],
            },
        ),
        migrations.CreateModel(
            name='Preference',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('product_id', shop_similarity.fields.ProductKeyField(verbose_name='product that was looked at')),
                ('chosen_id', shop_similarity.fields.ProductKeyField(verbose_name='product that was chosen')),
                ('skipped_id', shop_similarity.fields.ProductKeyField(verbose_name='product that was skipped')),
                ('count', models.PositiveIntegerField(default=0, verbose_name='times')),
                ('last_day', models.DateField(verbose_name='last day')),
            ],
            options={
                'verbose_name': 'preference',
                'verbose_name_plural': 'preferences',
                'indexes': [models.Index(fields=['last_day'], name='shop_similarity_preference_day')],
                'constraints': [models.UniqueConstraint(fields=('product_id', 'chosen_id', 'skipped_id'), name='shop_similarity_one_preference')],
            },
        ),
        migrations.CreateModel(
            name='VisualQuery',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('photo', models.BinaryField(null=True, verbose_name='photo')),
                ('vector', pgvector.django.halfvec.HalfVectorField(dimensions=4096, null=True, verbose_name='vector')),
                ('created_at', models.DateTimeField(auto_now_add=True, db_index=True, verbose_name='created at')),
                ('claimed_at', models.DateTimeField(blank=True, null=True, verbose_name='claimed at')),
                ('answered_at', models.DateTimeField(blank=True, null=True, verbose_name='answered at')),
                ('error', models.TextField(blank=True, verbose_name='error')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='shop_similarity.modelversion', verbose_name='model version')),
            ],
            options={
                'verbose_name': 'visual query',
                'verbose_name_plural': 'visual queries',
                'base_manager_name': 'objects',
                'indexes': [models.Index(condition=models.Q(('answered_at__isnull', True)), fields=['created_at'], name='shop_similarity_query_waiting')],
            },
        ),
        # Photos of shoppers belong neither into the write-ahead log nor into what is copied from it.
        migrations.RunSQL(
            "ALTER TABLE shop_similarity_visualquery SET UNLOGGED",
            "ALTER TABLE shop_similarity_visualquery SET LOGGED",
        ),
        migrations.CreateModel(
            name='VisualQueryMean',
            fields=[
                ('version', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='shop_similarity.modelversion', verbose_name='model version')),
                ('mean', models.BinaryField(verbose_name='mean')),
                ('photos', models.PositiveBigIntegerField(verbose_name='photos')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated at')),
            ],
            options={
                'verbose_name': 'mean of visual queries',
                'verbose_name_plural': 'means of visual queries',
            },
        ),
    ]
