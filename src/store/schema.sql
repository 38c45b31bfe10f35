-- What all migrations together make; a test compares the two.
-- VMs and their host resources. Structured values are JSON texts, read and written by the daemon only.
CREATE TABLE vm (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    spec            TEXT NOT NULL,
    state           TEXT NOT NULL,
    workspace       TEXT,
    leased          INTEGER NOT NULL,
    created_at      TEXT NOT NULL,
    started_at      TEXT,
    last_touched_at TEXT NOT NULL
) STRICT;

-- A row exists before its resource does, and goes after it has gone.
CREATE TABLE resource (
    vm          TEXT NOT NULL REFERENCES vm (id) ON DELETE RESTRICT,
    kind        TEXT NOT NULL,
    pid         INTEGER,
    start_ticks INTEGER,
    PRIMARY KEY (vm, kind)
) STRICT;

-- The address of a bridged VM, from its creation until it is deleted: a slot of the configured ranges.
CREATE TABLE lease (
    vm   TEXT PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    slot INTEGER NOT NULL UNIQUE
) STRICT;

-- Networks made ahead, which no VM has yet. A row exists before its resource does, and goes after it has gone, or when it
-- becomes a VM's.
CREATE TABLE spare_resource (
    spare       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    pid         INTEGER,
    start_ticks INTEGER,
    PRIMARY KEY (spare, kind)
) STRICT;
