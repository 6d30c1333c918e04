#!/bin/sh
# Makes /etc/nginx/conf.d/NAME of every /etc/nginx/templates/NAME.template, with the variables of the environment filled in.
set -e

from=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
to=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
[ -d "$from" ] || exit 0

# Only variables that exist: $uri and the like are nginx's own.
names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | grep -E "${NGINX_ENVSUBST_FILTER:-.}" || true)
find "$from" -follow -type f -name "*$suffix" | while read -r template; do
    name=${template#"$from"/}
    file=$to/${name%"$suffix"}
    mkdir -p "$(dirname "$file")"
    echo "$0: Running envsubst on $template to $file"
    envsubst "$names" < "$template" > "$file"
done
