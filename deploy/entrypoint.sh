#!/bin/sh
# Starts one role of the image: web (the default), worker, worker-gpu, migrate, health, manage. Arguments go to the
# program of the role. Each program takes the place of this script, so that signals reach it.
set -eu
cd "$(dirname "$0")/.."

role=${1:-web}
if [ $# -gt 0 ]; then shift; fi

# Counters of several processes lie in files, which must not outlive them.
prepare_metrics() {
    if [ "${SHOP_METRICS:-0}" = 1 ]; then
        PROMETHEUS_MULTIPROC_DIR=${PROMETHEUS_MULTIPROC_DIR:-${TMPDIR:-/tmp}/prometheus}
        export PROMETHEUS_MULTIPROC_DIR
        mkdir -p "$PROMETHEUS_MULTIPROC_DIR"
        rm -f "$PROMETHEUS_MULTIPROC_DIR"/*.db
    fi
}

case $role in
web)
    prepare_metrics
    exec gunicorn "${WSGI_APPLICATION:-catalog.wsgi:application}" --bind "${BIND:-0.0.0.0:8000}" \
        --worker-class gthread --workers "${WEB_WORKERS:-2}" --threads "${WEB_THREADS:-4}" \
        --worker-tmp-dir /dev/shm --graceful-timeout 20 --no-control-socket --max-requests 20000 --max-requests-jitter 2000 "$@"
    ;;
worker)
    exec celery -A shop_similarity.workers worker --loglevel "${LOG_LEVEL:-info}" "$@"
    ;;
worker-gpu)
    # shellcheck disable=SC2086
    if ! ls ${GPU_DEVICES:-/dev/nvidia[0-9]*} >/dev/null 2>&1; then
        echo "worker-gpu: this container has no GPU. Give it one (--gpus all, or nvidia.com/gpu: 1), or start the" \
            "role worker." >&2
        exit 78
    fi
    exec celery -A shop_similarity.workers worker --loglevel "${LOG_LEVEL:-info}" "$@"
    ;;
migrate)
    python manage.py migrate --noinput
    python manage.py collectstatic --noinput
    exec python manage.py check --database default "$@"
    ;;
health)
    exec python manage.py similarity_health "$@"
    ;;
manage)
    exec python manage.py "$@"
    ;;
*)
    echo "There is no role '$role'. Roles: web, worker, worker-gpu, migrate, health, manage." >&2
    exit 64
    ;;
esac
