-- Of the processes that share a store, one acts: it writes, publishes, and finishes what was left behind. It has the term.
ALTER TABLE configuration ADD COLUMN term BIGINT NOT NULL DEFAULT 0;

-- Who leads, as the others watch it. One row, apart from the configuration's, which a long transaction may hold.
CREATE TABLE leadership (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    -- Goes up with each change of leader, with that of the configuration.
    term        BIGINT NOT NULL,
    -- Goes up while the leader is well.
    beat        BIGINT NOT NULL,
    -- Where the leader's API answers; null if it gave up by itself.
    address     TEXT
);
INSERT INTO leadership (id, term, beat) VALUES (1, 0, 0);

-- A known text, sealed by the master key: a data directory with another key is told at its start.
ALTER TABLE configuration ADD COLUMN key_check BLOB;
