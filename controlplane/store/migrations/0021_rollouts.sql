-- The last rollout of a deployment: a version that gets a share of its requests beside the active one.
CREATE TABLE rollouts (
    deployment_id   TEXT PRIMARY KEY REFERENCES deployments(id) ON DELETE CASCADE,
    version_id      TEXT NOT NULL,
    version_number  BIGINT NOT NULL,
    -- Hundredths of a percent.
    share           INTEGER NOT NULL CHECK (share BETWEEN 1 AND 9999),
    error_limit     INTEGER NOT NULL CHECK (error_limit BETWEEN 0 AND 10000),
    status          TEXT NOT NULL CHECK (status IN ('running', 'completed', 'stopped', 'rolled_back')),
    reason          TEXT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);
CREATE INDEX idx_rollout_running ON rollouts (status) WHERE status = 'running';
