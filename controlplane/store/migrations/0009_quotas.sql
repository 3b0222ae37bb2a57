-- Deployments that an account of the tier may have; null for any number.
ALTER TABLE plans ADD COLUMN deployments_max BIGINT CHECK (deployments_max >= 0);
-- They are counted.
CREATE INDEX idx_deploy_account ON deployments (account_id) WHERE status <> 'deleted';
