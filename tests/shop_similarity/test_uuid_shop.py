"""The plugin in a shop with UUID keys and photos on the product itself."""

from tests.support.inner_run import run_tests


def test_everything_works_in_a_shop_with_uuid_keys(servers):
    files = ("tests/uuid_shop/run_in_uuid_shop.py", "tests/uuid_shop/run_admin_in_uuid_shop.py")
    run_tests(servers, "tests.uuid_shop.settings", *files)
