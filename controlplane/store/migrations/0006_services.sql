-- The Workers that a version's service bindings name, found when it was uploaded.
CREATE TABLE version_services (
    version_id      TEXT NOT NULL REFERENCES deployment_versions(id) ON DELETE CASCADE,
    -- Its name in `env`.
    binding         TEXT NOT NULL,
    -- A deleted deployment's row stays, so that this names it.
    target_id       TEXT NOT NULL REFERENCES deployments(id),
    -- Name of an export; empty for the default one.
    entrypoint      TEXT NOT NULL,
    PRIMARY KEY (version_id, binding)
);
-- Who would miss a deployment that is deleted.
CREATE INDEX idx_service_target ON version_services (target_id);
