"""Experiments in the admin: plan one, start it, look at what it says, stop it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..feedback import experiments
from ..feedback.comparison import compare
from ..models import Experiment, ModelVersion
from . import access, journal
from .pages import CheckedAdmin, admin_path, admin_url

_PLANNED = ["name", "control", "treatment", "share", "note"]


class ExperimentForm(forms.ModelForm):
    """An experiment compares two versions that are embedded."""

    class Meta:
        model = Experiment
        fields = _PLANNED

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("control", "treatment"):
            field = self.fields.get(name)
            if isinstance(field, forms.ModelChoiceField):
                field.queryset = ModelVersion.objects.live().defer("metrics", "config", "preprocessing")

    def clean(self) -> dict[str, Any]:
        super().clean()
        values = self.cleaned_data
        if values.get("control") is not None and values.get("control") == values.get("treatment"):
            self.add_error("treatment", _("Choose another version than the control: there is nothing to compare."))
        return values


class StateFilter(admin.SimpleListFilter):
    """Experiments that are planned, run or are over."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("planned", gettext_lazy("planned")),
            ("running", gettext_lazy("running")),
            ("ended", gettext_lazy("ended")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "planned":
            return queryset.filter(started_at__isnull=True)
        if self.value() == "running":
            return queryset.filter(started_at__isnull=False, ended_at__isnull=True)
        if self.value() == "ended":
            return queryset.filter(ended_at__isnull=False)
        return queryset


class ExperimentAdmin(CheckedAdmin):
    """What was started can't be changed any more: its figures would say nothing."""

    form = ExperimentForm
    change_form_template = "shop_similarity/admin/experiment.html"
    list_display = ["name", "control", "treatment", "share", "state", "started_at", "ended_at"]
    list_filter = [StateFilter]
    list_select_related = ["control", "treatment"]
    search_fields = ["name"]

    def get_urls(self) -> list[URLPattern]:
        guard: dict[str, Any] = {"permission": access.RUN_EXPERIMENT, "post": True}
        return [
            admin_path(self.admin_site, "<int:pk>/start/", self.start, "shop_similarity_experiment_start", **guard),
            admin_path(self.admin_site, "<int:pk>/stop/", self.stop, "shop_similarity_experiment_stop", **guard),
            *super().get_urls(),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Experiment | None = None) -> list[str]:
        # Of a running one the note may still grow; who runs what is fixed.
        return ["control", "treatment", "share", "started_at", "ended_at"] if obj and obj.started_at else []

    def get_fields(self, request: HttpRequest, obj: Experiment | None = None) -> list[Any]:
        return [*_PLANNED, "started_at", "ended_at"] if obj and obj.started_at else _PLANNED

    def has_delete_permission(self, request: HttpRequest, obj: Experiment | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.is_running)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        active = ModelVersion.objects.active()
        return {"control": active and active.pk, **super().get_changeform_initial_data(request)}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        experiment = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if experiment is not None and experiment.started_at is not None:
            context["results"] = compare(experiment)
        if experiment is not None and request.user.has_perm(access.RUN_EXPERIMENT):
            site = self.admin_site
            if experiment.started_at is None:
                context["start_url"] = admin_url(site, "shop_similarity_experiment_start", experiment.pk)
            elif experiment.is_running:
                context["stop_url"] = admin_url(site, "shop_similarity_experiment_stop", experiment.pk)
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    @admin.display(description=gettext_lazy("state"))
    def state(self, experiment: Experiment) -> str:
        if experiment.started_at is None:
            return _("planned")
        return _("running") if experiment.ended_at is None else _("ended")

    def start(self, request: HttpRequest, site: admin.AdminSite, pk: int) -> HttpResponse:
        experiment = get_object_or_404(Experiment, pk=pk)
        try:
            experiments.start(experiment)
        except experiments.ExperimentError as error:
            messages.error(request, str(error))
        else:
            journal.note(request, experiment, _("Started the experiment."))
            messages.success(request, _("The experiment %(name)s is running now.") % {"name": experiment.name})
        return self._back(experiment)

    def stop(self, request: HttpRequest, site: admin.AdminSite, pk: int) -> HttpResponse:
        experiment = get_object_or_404(Experiment, pk=pk)
        try:
            experiments.stop(experiment, note=_("Stopped by %(user)s.") % {"user": request.user.get_username()})
        except experiments.ExperimentError as error:
            messages.error(request, str(error))
        else:
            journal.note(request, experiment, _("Stopped the experiment."))
            messages.success(request, _("The experiment %(name)s has ended.") % {"name": experiment.name})
        return self._back(experiment)

    def _back(self, experiment: Experiment) -> HttpResponseRedirect:
        url = reverse("admin:shop_similarity_experiment_change", args=[experiment.pk], current_app=self.admin_site.name)
        return HttpResponseRedirect(url)
