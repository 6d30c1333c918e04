#!/usr/bin/env bash
# Makes the data directory when it is empty (password, user, data base, and what is in /docker-entrypoint-initdb.d), then becomes
# the server. Runs anything else as it is.
set -Eeo pipefail

# secret NAME [DEFAULT]: sets NAME from NAME_FILE, if that is given: a password should not stand in the environment.
secret() {
    local name=$1 file=$1_FILE
    if [ -n "${!name}" ] && [ -n "${!file}" ]; then
        printf >&2 'error: both %s and %s are set (but are exclusive)\n' "$name" "$file"
        exit 1
    fi
    local value=${!name:-$2}
    [ -z "${!file}" ] || value=$(< "${!file}")
    export "$name=$value"
    unset "$file"
}

refuse_without_password() {
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        cat >&2 <<- 'EOE'
			Error: Database is uninitialized and superuser password is not specified.
			       You must specify POSTGRES_PASSWORD to a non-empty value for the
			       superuser. For example, "-e POSTGRES_PASSWORD=password" on "docker run".

			       You may also use "POSTGRES_HOST_AUTH_METHOD=trust" to allow all
			       connections without a password. This is *not* recommended.

			       See PostgreSQL documentation about "trust":
			       https://www.postgresql.org/docs/current/auth-trust.html
		EOE
        exit 1
    fi
}

make_data() {
    eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") $POSTGRES_INITDB_ARGS"
    local method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption)}
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

run_sql() {
    local query=(psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --no-psqlrc)
    [ -z "$POSTGRES_DB" ] || query+=(--dbname "$POSTGRES_DB")
    PGHOST='' PGHOSTADDR='' "${query[@]}" "$@"
}

make_database() {
    [ "$POSTGRES_DB" != postgres ] || return 0
    local there
    there=$(POSTGRES_DB='' run_sql --dbname postgres --set db="$POSTGRES_DB" --tuples-only <<< "SELECT 1 FROM pg_database WHERE datname = :'db';")
    [ -n "$there" ] || POSTGRES_DB='' run_sql --dbname postgres --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db";'
}

run_scripts() {
    local file
    printf '\n'
    for file; do
        case "$file" in
            *.sh)
                if [ -x "$file" ]; then
                    printf '%s: running %s\n' "$0" "$file"
                    "$file"
                else
                    printf '%s: sourcing %s\n' "$0" "$file"
                    . "$file"
                fi
                ;;
            *.sql) printf '%s: running %s\n' "$0" "$file"; run_sql -f "$file"; printf '\n' ;;
            *.sql.gz) printf '%s: running %s\n' "$0" "$file"; gunzip -c "$file" | run_sql; printf '\n' ;;
            *.sql.xz) printf '%s: running %s\n' "$0" "$file"; xzcat "$file" | run_sql; printf '\n' ;;
            *.sql.zst) printf '%s: running %s\n' "$0" "$file"; zstd -dc "$file" | run_sql; printf '\n' ;;
            *) printf '%s: ignoring %s\n' "$0" "$file" ;;
        esac
    done
}

main() {
    # Only options: they are for the server.
    if [ "${1:0:1}" = - ]; then
        set -- postgres "$@"
    fi
    if [ "$1" = postgres ] && [[ " $* " != *" --help "* && " $* " != *" --version "* && " $* " != *" -V "* ]]; then
        mkdir -p "$PGDATA" /var/run/postgresql
        chmod 00700 "$PGDATA" 2> /dev/null || :
        if [ "$(id -u)" = 0 ]; then
            find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres '{}' +
            exec setpriv --reuid postgres --regid postgres --init-groups env HOME=/var/lib/postgresql "${BASH_SOURCE[0]}" "$@"
        fi
        if [ -s "$PGDATA/PG_VERSION" ]; then
            printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
        else
            secret POSTGRES_PASSWORD
            secret POSTGRES_USER postgres
            secret POSTGRES_DB "$POSTGRES_USER"
            secret POSTGRES_INITDB_ARGS
            refuse_without_password
            make_data
            export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
            # Nobody from outside gets in before the scripts are done.
            PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p ${PGPORT:-5432}" -w start
            make_database
            run_scripts /docker-entrypoint-initdb.d/*
            PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl -D "$PGDATA" -m fast -w stop
            unset PGPASSWORD
            printf '\nPostgreSQL init process complete; ready for start up.\n\n'
        fi
    fi
    exec "$@"
}

main "$@"
