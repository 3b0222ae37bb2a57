-- What the compiler must know of routes that it has compiled before: patterns that were changed, with the generation of
-- their last change. Complete for generations above the floor.
CREATE TABLE route_changes (
    pattern     TEXT PRIMARY KEY,
    generation  BIGINT NOT NULL
);
CREATE INDEX idx_route_change ON route_changes (generation);
-- The base of routes that was made last, of all routes in force at a generation. One row.
CREATE TABLE route_base (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    floor           BIGINT NOT NULL,
    -- Checksum and size, which name its file; empty for none.
    name            TEXT NOT NULL,
    generation      BIGINT NOT NULL,
    -- What its patterns were checked against.
    platform_domain TEXT NOT NULL
);
INSERT INTO route_base (id, floor, name, generation, platform_domain) VALUES (1, 0, '', 0, '');
