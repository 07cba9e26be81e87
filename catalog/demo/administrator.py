"""The demo's login for the admin."""

from pathlib import Path

from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _

from catalog.services.password import create_password, read_password

NAME = "admin"


def administrator(data: Path, *, show_password: bool) -> str:
    """Make the user once, with a generated password; returns the login as text, also on later starts.

    Args:
        data: the shop's folder, in which the password is kept in a file that only its owner can read.
        show_password: name the password itself, where nobody keeps what is printed, and not its file.
    """
    password_file = data / "admin_password"
    users = get_user_model()
    user = users.objects.filter(username=NAME).first()
    if user is None:
        password = create_password(password_file)
        users.objects.create_superuser(NAME, password=password)
    else:
        password = read_password(password_file)
        if password is None or not user.check_password(password):
            return _("%(name)s, with the password you gave it") % {"name": NAME}
    if not show_password:
        return _("%(name)s, its password is in %(file)s, which only you can read") % {
            "name": NAME,
            "file": password_file,
        }
    return _("%(name)s, password %(password)s") % {"name": NAME, "password": password}
