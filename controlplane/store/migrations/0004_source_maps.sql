-- SHA-256 of the source map that came with the version, as the artifact store has it; null for none.
ALTER TABLE deployment_versions ADD COLUMN map_hash TEXT;
