-- SHA-256 of the code cache that the validator made of the version's module, as the artifact store has it; null for none.
ALTER TABLE deployment_versions ADD COLUMN code_hash TEXT;
