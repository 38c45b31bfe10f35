-- Networks made ahead, which no VM has yet. A row exists before its resource does, and goes after it has gone, or when it
-- becomes a VM's.
CREATE TABLE spare_resource (
    spare       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    pid         INTEGER,
    start_ticks INTEGER,
    PRIMARY KEY (spare, kind)
) STRICT;
