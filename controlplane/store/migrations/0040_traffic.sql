-- Requests of deployments by day (days since the Unix epoch), as nodes say.
CREATE TABLE traffic (
    deployment_id   TEXT NOT NULL REFERENCES deployments(id) ON DELETE CASCADE,
    day             BIGINT NOT NULL,
    requests        BIGINT NOT NULL,
    PRIMARY KEY (deployment_id, day)
);
-- The deployments whose modules nodes have ahead; those of all others they fetch with the first request. Empty: all.
CREATE TABLE pushed (
    deployment_id   TEXT PRIMARY KEY REFERENCES deployments(id) ON DELETE CASCADE
);
