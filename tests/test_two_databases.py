"""The plugin where products and its tables are in a database that is not ``default``.

All tests with all of their parameters: ``pytest tests/shop_similarity tests/workers --ds tests.two_databases.settings
-p tests.two_databases.plugin -m "not long and not slow and not browser"``, less the folders and files of NOT_HERE.
"""

import pytest

from tests.support.inner_run import run_tests

FOLDERS = ("tests/shop_similarity", "tests/workers")
# These have databases of their own, start servers and processes with settings of their own, or take minutes.
NOT_HERE = (
    "tests/shop_similarity/migrations",
    "tests/shop_similarity/test_databases.py",
    "tests/shop_similarity/test_odd_shop.py",
    "tests/shop_similarity/test_uuid_shop.py",
    "tests/shop_similarity/test_web_process.py",
    "tests/workers/test_any_history.py",
    "tests/workers/test_replica.py",
)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_everything_works_in_a_database_that_is_not_default(servers):
    run_tests(
        servers,
        "tests.two_databases.settings",
        *FOLDERS,
        *(f"--ignore={path}" for path in NOT_HERE),
        *("-p", "tests.two_databases.plugin", "-p", "tests.support.one_of_each", "--every", "3"),
        *("-m", "not long and not slow and not browser"),
        seconds=1700,
    )
