//! `import-routes`: many routes from standard input, straight into the store.

use std::io::{self, BufRead as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use model::DeploymentId;
use store::{Database, NewRoute, Store};

/// Lines that are read before they are stored; some hundreds of megabytes.
const LINES_AT_ONCE: usize = 2_000_000;

pub(crate) async fn routes(data: &Path, database: &Database, platform_domain: &str) -> Result<()> {
    let store = Store::open_in(data, database).await;
    let store = store.with_context(|| format!("opening {} ({database:?})", data.display()))?;
    let (mut added, mut lines) = (0, Vec::new());
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = line.context("standard input")?;
        if !line.trim().is_empty() {
            lines.push(read(&line, platform_domain).with_context(|| format!("line {}: {line:?}", number + 1))?);
        }
        if lines.len() >= LINES_AT_ONCE {
            added += store.import_routes(std::mem::take(&mut lines)).await?;
        }
    }
    added += store.import_routes(lines).await?;
    store.close().await;
    writeln!(io::stdout(), "{}", serde_json::json!({ "added": added })).context("writing to standard output")
}

fn read(line: &str, platform_domain: &str) -> Result<(DeploymentId, NewRoute)> {
    let (deployment, pattern) = line.trim().split_once(' ').context("not `DEPLOYMENT PATTERN`")?;
    let pattern = plan::check_pattern(pattern.trim(), platform_domain)?.to_string();
    Ok((deployment.parse()?, NewRoute { pattern, zone_id: None, enabled: true }))
}
