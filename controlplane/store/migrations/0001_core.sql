-- The tables and indexes of seed 000, "Core Tables Schema" and "Index Strategy", and what the life of a deployment
-- needs beside them. Ids are the API's text, times are milliseconds since the epoch, JSON is text, so that the
-- queries read the same on PostgreSQL.

CREATE TABLE configuration (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    -- Distinguishes this store from any other that a node may have listened to.
    lineage     TEXT NOT NULL,
    -- Goes up by one in the transaction of every change that nodes must see. Never goes back.
    generation  BIGINT NOT NULL CHECK (generation >= 0)
);

CREATE TABLE accounts (
    id          TEXT PRIMARY KEY,
    email       TEXT NOT NULL UNIQUE,
    plan_tier   TEXT NOT NULL DEFAULT 'free',
    created_at  BIGINT NOT NULL,
    settings    TEXT NOT NULL DEFAULT '{}'
);

CREATE TABLE tokens (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL REFERENCES accounts(id),
    name        TEXT NOT NULL,
    scope       TEXT NOT NULL CHECK (scope IN ('account', 'admin')),
    -- SHA-256 of the secret, hex. The secret has 256 bits of entropy, so no salt and no slow hash are needed.
    hash        TEXT NOT NULL UNIQUE,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT,
    revoked_at  BIGINT
);
CREATE INDEX idx_token_account ON tokens (account_id, id);

CREATE TABLE projects (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL REFERENCES accounts(id),
    name        TEXT NOT NULL,
    slug        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (account_id, slug)
);
CREATE INDEX idx_project_account ON projects (account_id, id);

CREATE TABLE deployments (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    account_id          TEXT NOT NULL REFERENCES accounts(id),
    name                TEXT NOT NULL,
    subdomain           TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'validating', 'invalid', 'deploying',
                            'active', 'failed', 'rolling_back', 'paused', 'deleting', 'deleted')),
    -- What nodes are to serve. While deploying or rolling back: the version on its way.
    active_version_id   TEXT,
    -- What to go back to if a node refuses the version on its way. Null otherwise.
    restore_version_id  TEXT,
    bindings            TEXT NOT NULL DEFAULT '{}',
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL
);
-- A deleted deployment's row stays, so that its id answers 404 to its owner; its subdomain is free again.
CREATE UNIQUE INDEX idx_deploy_subdomain ON deployments (subdomain) WHERE status <> 'deleted';
CREATE INDEX idx_deploy_project ON deployments (project_id, id);
-- What a start has to finish.
CREATE INDEX idx_deploy_unfinished ON deployments (status)
    WHERE status IN ('validating', 'deploying', 'rolling_back', 'deleting');

CREATE TABLE deployment_versions (
    id                  TEXT PRIMARY KEY,
    deployment_id       TEXT NOT NULL REFERENCES deployments(id) ON DELETE CASCADE,
    artifact_hash       TEXT NOT NULL,
    -- Where the artifact store has it; empty for a module that was refused unstored.
    artifact_url        TEXT NOT NULL,
    size_bytes          BIGINT NOT NULL,
    version_number      BIGINT NOT NULL CHECK (version_number > 0),
    status              TEXT NOT NULL CHECK (status IN ('validating', 'valid', 'invalid')),
    error               TEXT,
    metadata            TEXT NOT NULL DEFAULT '{}',
    -- The version that was active when this one was last activated: where a rollback goes.
    previous_version_id TEXT,
    created_at          BIGINT NOT NULL,
    UNIQUE (deployment_id, version_number)
);
CREATE INDEX idx_version_deploy ON deployment_versions (deployment_id, version_number);
CREATE INDEX idx_version_artifact ON deployment_versions (artifact_hash);
CREATE INDEX idx_version_unfinished ON deployment_versions (status) WHERE status = 'validating';

CREATE TABLE routes (
    id              TEXT PRIMARY KEY,
    deployment_id   TEXT NOT NULL REFERENCES deployments(id) ON DELETE CASCADE,
    -- In its normal form. Unique by itself, which is more than the seed's (pattern, zone_id): a node matches by host
    -- and path, so the same pattern in two zones would have two answers.
    pattern         TEXT NOT NULL,
    zone_id         TEXT,
    enabled         BOOLEAN NOT NULL DEFAULT TRUE
);
CREATE UNIQUE INDEX idx_route_pattern ON routes (pattern);
CREATE INDEX idx_route_deploy ON routes (deployment_id, id);

CREATE TABLE env_variables (
    id              TEXT PRIMARY KEY,
    deployment_id   TEXT NOT NULL REFERENCES deployments(id) ON DELETE CASCADE,
    key             TEXT NOT NULL,
    -- Sealed by the master key, bound to the deployment and the key's name.
    encrypted_value BLOB NOT NULL,
    type            TEXT NOT NULL DEFAULT 'plain' CHECK (type IN ('plain', 'secret')),
    UNIQUE (deployment_id, key)
);
CREATE INDEX idx_env_deploy ON env_variables (deployment_id);

CREATE TABLE kv_namespaces (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES accounts(id),
    name            TEXT NOT NULL,
    storage_bytes   BIGINT NOT NULL DEFAULT 0,
    created_at      BIGINT NOT NULL,
    UNIQUE (account_id, name)
);
CREATE INDEX idx_kv_account ON kv_namespaces (account_id);

CREATE TABLE do_namespaces (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES accounts(id),
    name            TEXT NOT NULL,
    class_name      TEXT NOT NULL,
    deployment_id   TEXT REFERENCES deployments(id) ON DELETE CASCADE,
    created_at      BIGINT NOT NULL,
    UNIQUE (account_id, name)
);

-- The answers to POSTs that came with an Idempotency-Key.
CREATE TABLE idempotency_keys (
    token_id        TEXT NOT NULL REFERENCES tokens(id) ON DELETE CASCADE,
    key             TEXT NOT NULL,
    -- SHA-256 of method, path and body, hex.
    request_hash    TEXT NOT NULL,
    status          INTEGER NOT NULL,
    body            TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (token_id, key)
);
CREATE INDEX idx_idempotency_age ON idempotency_keys (created_at);
