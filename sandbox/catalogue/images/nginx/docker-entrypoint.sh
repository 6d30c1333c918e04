#!/bin/sh
# Runs what is in /docker-entrypoint.d before nginx starts: programs as they are, *.envsh in this shell.
set -e

case "$1" in
    nginx | nginx-debug)
        for script in /docker-entrypoint.d/*; do
            [ -x "$script" ] || continue
            [ -n "$NGINX_ENTRYPOINT_QUIET_LOGS" ] || echo "$0: Launching $script"
            case "$script" in
                *.envsh) . "$script" ;;
                *.sh) "$script" ;;
            esac
        done
        [ -n "$NGINX_ENTRYPOINT_QUIET_LOGS" ] || echo "$0: Configuration complete; ready for start up"
        ;;
esac

exec "$@"
