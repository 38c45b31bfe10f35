# The cache as a whole: its lock and its choice of default image and kernel. Sourced by setup.sh.
# shellcheck shell=bash

# From here to the end of this process, nobody else writes the cache.
lock_cache() {
    mkdir -p "$COVE_CACHE"
    exec 9>"$COVE_CACHE/.lock"
    if ! flock --nonblock 9; then
        step "Waiting for another setup that fills $COVE_CACHE"
        flock 9
    fi
    # Whoever left these has died: the lock is ours.
    rm -rf "$COVE_CACHE"/images/.new-* "$COVE_CACHE"/kernels/.new-*
}

# Written last and in one step: whoever reads it finds everything that it names.
publish_default() {
    local new="$COVE_CACHE/.default.json.new"
    cat >"$new" <<END
{"image": {"name": "$IMAGE_NAME", "digest": "$IMAGE_DIGEST"}, "kernel": {"digest": "$KERNEL_DIGEST"}}
END
    if cmp -s "$new" "$COVE_CACHE/default.json"; then rm "$new"; else mv "$new" "$COVE_CACHE/default.json"; fi
}
