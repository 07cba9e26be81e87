"""Rules about attributes, the dashboard in the admin's index, the permission to read the feed."""

from django.db import migrations, models
from django.db.models import Q


def remove_rules_about_attributes(apps, schema_editor):
    """The state before has no word for them."""
    rules = apps.get_model("shop_similarity", "MerchandisingRule")
    rules.objects.using(schema_editor.connection.alias).exclude(attribute="").delete()


class Migration(migrations.Migration):

    dependencies = [
        ('shop_similarity', '0011_engine_copies'),
    ]

    operations = [
        migrations.CreateModel(
            name='Dashboard',
            fields=[],
            options={
                'verbose_name': 'dashboard',
                'verbose_name_plural': 'dashboard',
                'proxy': True,
                'default_permissions': (),
                'indexes': [],
                'constraints': [],
            },
            bases=('shop_similarity.modelversion',),
        ),
        migrations.AlterModelOptions(
            name='modelversion',
            options={'ordering': ['-created_at'], 'permissions': [('view_dashboard', 'Can view the dashboard of similar products'), ('activate_modelversion', 'Can activate and roll back model versions'), ('compare_modelversion', 'Can compare model versions'), ('view_feed', 'Can read the feed of similar products')], 'verbose_name': 'model version', 'verbose_name_plural': 'model versions'},
        ),
        migrations.RemoveConstraint(model_name='merchandisingrule', name='shop_similarity_rule_one_target'),
        migrations.AddField(
            model_name='merchandisingrule',
            name='attribute',
            field=models.CharField(blank=True, db_default='', default='', help_text="What products share, such as the brand; one of those that the shop's settings name.", max_length=30, verbose_name='attribute'),
        ),
        migrations.AlterField(
            model_name='merchandisingrule',
            name='kind',
            field=models.CharField(choices=[('pin', 'pin'), ('hide', 'hide'), ('boost', 'boost'), ('share', 'weigh an attribute'), ('same', 'the same only'), ('other', 'others only')], max_length=5, verbose_name='kind'),
        ),
        migrations.AddConstraint(
            model_name='merchandisingrule',
            constraint=models.CheckConstraint(
                condition=Q(target_product_id__isnull=False, target_category='', attribute='')
                | (Q(target_product_id__isnull=True, attribute='') & ~Q(target_category=''))
                | (Q(target_product_id__isnull=True, target_category='') & ~Q(attribute='')),
                name='shop_similarity_rule_one_target',
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, remove_rules_about_attributes),
    ]
