"""The plugin in a shop with parents, stock records, trees and text keys."""

from tests.support.inner_run import run_tests


def test_everything_works_in_an_odd_shop(servers):
    run_tests(servers, "tests.odd_shop.settings", "tests/odd_shop/run_values.py", "tests/odd_shop/run_keys.py")
