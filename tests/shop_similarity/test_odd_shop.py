"""The plugin in a shop with parents, stock records, trees and text keys."""

from tests.support.inner_run import run_tests


def test_everything_works_in_an_odd_shop(servers):
    files = (f"tests/odd_shop/run_{subject}.py" for subject in ("values", "plans", "keys"))
    run_tests(servers, "tests.odd_shop.settings", *files)
