# Runs on the build machine before any package is installed; $1 is the new root. Adds the suite of the clients beside the
# base suite, with a lower priority, so that only packages that ask for it come from there.
set -eu
sources="$1/etc/apt/sources.list"
if [ ! -s "$sources" ]; then
    echo "drydock: mmdebstrap wrote no sources.list" >&2
    exit 1
fi
# A line is `deb [options] URL SUITE COMPONENTS` with or without options. Mirrors that were frozen at some day have an
# old date on the testing suite, which is checked by its signature all the same.
grep " $DRYDOCK_SUITE " "$sources" |
    sed -e "s/ $DRYDOCK_SUITE / $DRYDOCK_CLIENTS /" \
        -e 's/^deb \[/deb [check-valid-until=no /' -e 's/^deb \([^[]\)/deb [check-valid-until=no] \1/' \
        > "$1/etc/apt/sources.list.d/$DRYDOCK_CLIENTS.list"
printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$DRYDOCK_CLIENTS" > "$1/etc/apt/preferences.d/$DRYDOCK_CLIENTS"
