-- Routes of all of an account's deployments, and bytes of the modules that it has stored; null for any number.
ALTER TABLE plans ADD COLUMN routes_max BIGINT CHECK (routes_max >= 0);
ALTER TABLE plans ADD COLUMN artifact_bytes_max BIGINT CHECK (artifact_bytes_max >= 0);
