-- The address of a bridged VM, from its creation until it is deleted: a slot of the configured ranges.
CREATE TABLE lease (
    vm   TEXT PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    slot INTEGER NOT NULL UNIQUE
) STRICT;
