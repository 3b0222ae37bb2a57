-- What an account's tier gives it. A tier without a row is as `free`.
CREATE TABLE plans (
    tier        TEXT PRIMARY KEY,
    -- CPU time of one request, milliseconds.
    cpu_ms      INTEGER NOT NULL CHECK (cpu_ms BETWEEN 1 AND 30000),
    -- Share of a saturated core in relation to other tenants'.
    weight      INTEGER NOT NULL CHECK (weight BETWEEN 1 AND 1000)
);
INSERT INTO plans (tier, cpu_ms, weight) VALUES ('free', 50, 100);
