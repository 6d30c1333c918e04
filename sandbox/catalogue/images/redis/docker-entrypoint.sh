#!/bin/sh
# Starts the server as the user redis; runs anything else as it is.
set -e

# Only options, or a configuration: they are for the server.
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- redis-server "$@"
fi

if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . ! -user redis -exec chown redis '{}' +
        exec setpriv --reuid redis --regid redis --init-groups "$0" "$@"
    fi
    # Debian's server takes no connections from other machines unless it has a password or is told to. In a container that would be all
    # connections; the container's network is the protection here. A configuration that says something of its own wins.
    said=no
    for argument; do
        case "$argument" in
            *protected-mode*) said=yes ;;
            *.conf) if grep -qs '^[[:space:]]*protected-mode' "$argument"; then said=yes; fi ;;
        esac
    done
    if [ "$said" = no ]; then
        set -- "$@" --protected-mode no
    fi
    if [ "$(umask)" = 0022 ]; then
        umask 0077
    fi
fi

exec "$@"
