# The choice of default image and kernel in the cache. Sourced by setup.sh.
# shellcheck shell=bash

# Written last and in one step: whoever reads it finds everything that it names.
publish_default() {
    local new="$COVE_CACHE/.default-$$.json"
    cat >"$new" <<END
{"image": {"name": "$IMAGE_NAME", "digest": "$IMAGE_DIGEST"}, "kernel": {"digest": "$KERNEL_DIGEST"}}
END
    mv "$new" "$COVE_CACHE/default.json"
}
