-- What was asked of the API that may change something: who, what, when, and what came of it.
CREATE TABLE audit_log (
    -- Later ids sort after earlier ones.
    id          TEXT PRIMARY KEY,
    at          BIGINT NOT NULL,
    -- Of the token that asked.
    account_id  TEXT NOT NULL REFERENCES accounts(id),
    token_id    TEXT NOT NULL,
    method      TEXT NOT NULL,
    path        TEXT NOT NULL,
    -- Of the answer; null while there is none, and for ever if the process ended before it.
    status      INTEGER
);
CREATE INDEX idx_audit_account ON audit_log (account_id, id);
CREATE INDEX idx_audit_age ON audit_log (at);

-- What of its scope a token may do.
ALTER TABLE tokens ADD COLUMN access TEXT NOT NULL DEFAULT 'full' CHECK (access IN ('full', 'deploy', 'read'));
