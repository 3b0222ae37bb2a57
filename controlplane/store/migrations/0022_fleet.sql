-- Where nodes stand, and what they are to do with requests. A node without a row serves and stands nowhere.
CREATE TABLE regions (
    name        TEXT PRIMARY KEY,
    created_at  BIGINT NOT NULL
);
CREATE TABLE pops (
    name        TEXT PRIMARY KEY,
    region      TEXT NOT NULL REFERENCES regions(name),
    created_at  BIGINT NOT NULL
);
CREATE TABLE nodes (
    name        TEXT PRIMARY KEY,
    pop         TEXT REFERENCES pops(name),
    state       TEXT NOT NULL CHECK (state IN ('serving', 'cordoned', 'draining')),
    updated_at  BIGINT NOT NULL
);
