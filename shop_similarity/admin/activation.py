"""Activating a model version and going back to the one before, each on a page that says first what it would do."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import rollout
from ..embedding import bell
from ..embedding.index import index_state
from ..models import Embedding, Experiment, ModelVersion, OutboxEntry
from . import access, journal
from .pages import admin_path, admin_url, render_page

# So many leftovers of a retired version a request may remove; the rest is work for the workers.
_FEW_ROWS = 500

_State = ModelVersion.State


class ActivationForm(forms.Form):
    """The choice to activate. Forcing it has to be chosen and explained."""

    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=500,
        help_text=gettext_lazy("Who wants it and why; kept with the version."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    force = forms.BooleanField(
        label=gettext_lazy("Activate it although it was not found to be better"), required=False, label_suffix=""
    )

    def __init__(self, *args: Any, can_force: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not can_force:
            del self.fields["force"]

    def clean(self) -> dict[str, Any]:
        super().clean()
        values = self.cleaned_data
        if values.get("force") and not values.get("note", "").strip():
            self.add_error("note", _("Write why it is activated although it was not found to be better."))
        return values


def urls(site: admin.AdminSite) -> list[URLPattern]:
    guard: dict[str, Any] = {"permission": access.ACTIVATE_VERSION}
    return [
        admin_path(site, "<int:pk>/activate/", activation_page, "shop_similarity_activate", **guard),
        admin_path(site, "<int:pk>/activate/now/", activate, "shop_similarity_activate_now", post=True, **guard),
        admin_path(site, "roll-back/", roll_back_page, "shop_similarity_roll_back", **guard),
        admin_path(site, "roll-back/now/", roll_back, "shop_similarity_roll_back_now", post=True, **guard),
    ]


def activation_page(
    request: HttpRequest, site: admin.AdminSite, pk: int, *, form: ActivationForm | None = None, error: str = ""
) -> HttpResponse:
    """What stands in the way of a version, what the comparison says, and the form."""
    version = get_object_or_404(ModelVersion, pk=pk)
    active = ModelVersion.objects.active()
    verdict = rollout.judge(version, active) if active != version else None
    if active is None and verdict is not None and verdict.better:
        # There was nothing to compare with.
        verdict = None
    can_force = verdict is not None and not verdict.better
    return render_page(
        request,
        site,
        "activate.html",
        _("Activate %(version)s") % {"version": version.name},
        {
            "version": version,
            "active": active,
            "verdict": verdict,
            "obstacles": rollout.coverage(version).obstacles() if version.state in ModelVersion.LIVE else [],
            "is_possible": version.state in (_State.CANDIDATE, _State.RETIRED),
            "ending": Experiment.objects.running().first(),
            "is_wished": version.activation_requested_at is not None,
            "error": error,
            "form": form or ActivationForm(can_force=can_force, initial={"note": ""}),
            "action": reverse("admin:shop_similarity_activate_now", args=[pk], current_app=site.name),
            **_links(request, site, active, version),
        },
        status=200 if not error and form is None else 422,
    )


def _links(
    request: HttpRequest, site: admin.AdminSite, active: ModelVersion | None, version: ModelVersion | None
) -> dict[str, str | None]:
    compare = admin_url(site, "shop_similarity_compare") if request.user.has_perm(access.COMPARE_VERSIONS) else None
    return {
        "compare_url": f"{compare}?old={active.pk}&new={version.pk}"
        if compare and active and version and active != version
        else None,
        "dashboard_url": admin_url(site, "shop_similarity_dashboard")
        if request.user.has_perm(access.VIEW_DASHBOARD)
        else None,
    }


def activate(request: HttpRequest, site: admin.AdminSite, pk: int) -> HttpResponse:
    """Wish for the activation; the workers switch when nothing is missing."""
    version = get_object_or_404(ModelVersion, pk=pk)
    form = ActivationForm(request.POST, can_force=True)
    if not form.is_valid():
        return activation_page(request, site, pk, form=form)
    if version.state == _State.RETIRED and _has_leftovers(version):
        bell.ring()
        return activation_page(
            request,
            site,
            pk,
            error=_(
                "The workers are still removing what %(version)s left behind. Try again in a moment; if it stays like "
                "this, see whether a worker runs."
            )
            % {"version": version.name},
        )
    note = form.cleaned_data["note"].strip()
    try:
        is_done = rollout.request_activation(
            version, force=form.cleaned_data["force"], note=f"{request.user.get_username()}: {note}".rstrip(": ")
        )
    except rollout.NotBetter:
        # The page itself tells the reasons.
        said = _("It was not activated. To activate it all the same, tick the box below and write why.")
        return activation_page(request, site, pk, error=said)
    except rollout.RolloutError as error:
        return activation_page(request, site, pk, error=str(error))
    said = (
        _("The active version is %(version)s now.")
        if is_done
        else _("As soon as the workers have embedded all that it lacks, %(version)s becomes the active version.")
    ) % {"version": version.name}
    journal.note(request, version, " ".join(filter(None, [_("Activation requested."), version.activation_note])))
    messages.success(request, said)
    return HttpResponseRedirect(_home(request, site))


def _has_leftovers(version: ModelVersion) -> bool:
    if index_state(version.pk).state != "absent":
        return True
    return any(
        model.objects.filter(version=version).order_by()[_FEW_ROWS : _FEW_ROWS + 1].values_list("pk").exists()
        for model in (Embedding, OutboxEntry)
    )


def roll_back_page(request: HttpRequest, site: admin.AdminSite, *, error: str = "") -> HttpResponse:
    """Which version takes the place of which, and what it lacks."""
    active, standby = ModelVersion.objects.active(), ModelVersion.objects.standby()
    return render_page(
        request,
        site,
        "roll_back.html",
        _("Go back to the version before"),
        {
            "active": active,
            "standby": standby,
            "ending": Experiment.objects.running().first(),
            "obstacles": rollout.coverage(standby).obstacles() if standby else [],
            "error": error,
            "action": reverse("admin:shop_similarity_roll_back_now", current_app=site.name),
            **_links(request, site, active, standby),
        },
        status=422 if error else 200,
    )


def roll_back(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """Go back at once."""
    note = request.POST.get("note", "").strip()[:500]
    try:
        version = rollout.roll_back(note=f"{request.user.get_username()}: {note}".rstrip(": "))
    except rollout.RolloutError as error:
        return roll_back_page(request, site, error=str(error))
    said = _("The active version is %(version)s again.") % {"version": version.name}
    journal.note(request, version, " ".join(filter(None, [_("Rolled back to it."), note])))
    messages.success(request, said)
    return HttpResponseRedirect(_home(request, site))


def _home(request: HttpRequest, site: admin.AdminSite) -> str:
    name = "shop_similarity_dashboard" if request.user.has_perm(access.VIEW_DASHBOARD) else "index"
    return reverse(f"admin:{name}", current_app=site.name)
