# The toolchains of the example plugins, and of the contract's reference. Sourced; needs common.sh, host.sh
# and programs.sh.
#
# Each function leaves its toolchain ready and sets a variable that says where, or fails with a last line
# that says why it cannot be had.
# shellcheck shell=bash

# What `wit-bindgen` of plugins/sdk is, so that all languages see one contract.
WIT_BINDGEN_VERSION=0.61.1
COMPONENTIZE_PY_VERSION=0.25.1
# The version of JavaScript's is in plugins/examples/javascript/package.json, the versions of everything
# below it in the file beside.

lacking() {
    echo "$1"
    return 1
}

prepare_rust_target() {
    have cargo || lacking 'there is no cargo' || return
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    RUST_LINKERS=$(rustc --print sysroot)/lib/rustlib/$host/bin
    [ -x "$RUST_LINKERS/wasm-component-ld" ] || lacking 'this Rust has no wasm-component-ld'
}

prepare_wit_bindgen() {
    local folder=wit-bindgen-cli-$WIT_BINDGEN_VERSION
    WIT_BINDGEN=$COVE_CACHE/tools/$folder/bin/wit-bindgen
    [ -x "$WIT_BINDGEN" ] || (cargo_tool "$folder" wit-bindgen wit-bindgen-cli "$WIT_BINDGEN_VERSION" \
        --debug --version "=$WIT_BINDGEN_VERSION" --no-default-features --features c,markdown \
        wit-bindgen-cli) || lacking 'wit-bindgen cannot be built'
}

prepare_python() {
    local folder=$COVE_CACHE/tools/componentize-py-$COMPONENTIZE_PY_VERSION
    COMPONENTIZE_PY=$folder/bin/componentize-py
    if [ -x "$COMPONENTIZE_PY" ]; then return; fi
    python3 -c 'import ensurepip, venv' || lacking 'python3 with venv is missing' || return
    # A virtual environment knows where it is, so it is made in its place and marked last.
    rm -rf "$folder"
    python3 -m venv "$folder" || lacking 'python3 makes no virtual environment' || return
    "$folder/bin/pip" install --quiet "componentize-py==$COMPONENTIZE_PY_VERSION" || {
        rm -rf "$folder"
        lacking "pip cannot install componentize-py $COMPONENTIZE_PY_VERSION"
    }
}

prepare_javascript() {
    local source=$ROOT/plugins/examples/javascript key made
    have npm || lacking 'node and npm are missing' || return
    key=$(cat "$source/package.json" "$source/package-lock.json" | digest_of | cut -c 1-12)
    COMPONENTIZE_JS=$COVE_CACHE/tools/componentize-js-$key
    if [ ! -d "$COMPONENTIZE_JS" ]; then
        made=$(mktemp -d "$COVE_CACHE/tools/.componentize-js.XXXXXX")
        cp "$source/package.json" "$source/package-lock.json" "$made"
        # Nothing of what is installed is run before it is used.
        if ! (cd "$made" && npm ci --ignore-scripts --no-audit --no-fund); then
            rm -rf "$made"
            lacking 'npm cannot install componentize-js'
            return
        fi
        publish "$made" "$COMPONENTIZE_JS"
    fi
    put "$source/componentize.mjs" "$COMPONENTIZE_JS/componentize.mjs"
}

prepare_c() {
    prepare_rust_target || return
    prepare_wit_bindgen || return
    if have clang && [ -f /usr/lib/wasm32-wasi/libc.a ]; then return; fi
    if [ "$(id -u)" -ne 0 ]; then
        lacking 'clang and wasi-libc are missing: apt-get install clang wasi-libc'
        return
    fi
    apt_get install -y -qq --no-install-recommends clang wasi-libc ||
        lacking 'apt-get cannot install clang and wasi-libc'
}
