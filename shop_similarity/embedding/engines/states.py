"""What people and roll-outs ask about the engine: whether a version can be searched by it, and what its trouble is."""

from __future__ import annotations

from collections.abc import Collection

from django.utils.translation import gettext as _

from ...conf import get_settings
from ...engine_errors import EngineDown
from ...models import EngineChange, EngineCopy
from ..index import IndexState, index_states
from .choice import get_engine, is_beside

# A change or two always wait in a busy shop.
_BEHIND = 10_000


def search_states(version_ids: Collection[int]) -> dict[int, IndexState]:
    """What names the candidates of several versions: their index in Postgres or their copy in the engine; one
    statement. The engine itself is not asked.
    """
    if not is_beside():
        return index_states(version_ids)
    rows = {
        row.version_id: row
        for row in EngineCopy.objects.filter(version_id__in=version_ids, is_wanted=True, engine=get_settings().engine)
    }
    return {version_id: _state_of(rows.get(version_id)) for version_id in version_ids}


def _state_of(row: EngineCopy | None) -> IndexState:
    if row is None:
        return IndexState("", "absent", 0)
    return IndexState(row.name, "ready" if row.filled_at else "building", 0)


def trouble(*, asking: bool = False) -> list[str]:
    """What is wrong with the engine beside Postgres, as sentences; empty where nothing is, or pgvector is chosen.

    Args:
        asking: whether to ask the engine itself, which may take seconds; else what workers found in the last minute
            is told.
    """
    if not is_beside():
        return []
    rows = list(EngineCopy.objects.filter(is_wanted=True, engine=get_settings().engine).order_by("version_id"))
    found = []
    try:
        engine = get_engine()
        engine.check()
        if asking:
            from .copies import copy_of

            for row in rows:
                if not engine.state(copy_of(row)).exists and row.filled_at:
                    found.append(_lost(row.name))
    except EngineDown as error:
        found.append(str(error))
    found += [row.error for row in rows if row.error]
    if found:
        found = [
            _("The search engine can't be used: %(reason)s Pages show what is cached, or the FALLBACK.")
            % {"reason": reason}
            for reason in dict.fromkeys(found)
        ]
    # Not exists(), which forgets the order and reads what VACUUM has left.
    if list(EngineChange.objects.order_by("id").values_list("pk", flat=True)[_BEHIND : _BEHIND + 1]):
        found.append(
            _(
                "More than %(count)d changed photos wait to be told to the search engine: see whether a worker runs, "
                "or run `manage.py sync_engine`."
            )
            % {"count": _BEHIND}
        )
    return found


def _lost(name: str) -> str:
    return _("It has lost its copy %(name)s: a running worker fills it anew, or run `manage.py sync_engine`.") % {
        "name": name
    }
