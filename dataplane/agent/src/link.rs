//! Keeps a connection to the control plane: connects, runs it to its end, waits, connects again. For ever.
//!
//! Of several processes of a control plane one takes nodes and the others close the connection: the next address is tried after
//! each end, at once until all were tried. Then the wait doubles from 100 ms to 10 s (1 s with several addresses, as
//! another process may lead by then) and is shortened at random by up to a half, so that nodes that lost their
//! control plane together do not come back together. A connection that lasted resets it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::Hooks;
use crate::identity::{Identity, control_name};
use crate::logs::LogReceiver;
use crate::node::Node;
use crate::session::{self, SessionError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);
const WAIT_MAX_OF_SEVERAL: Duration = Duration::from_secs(1);
/// A connection that lasted as long was a good one.
const LASTED: Duration = Duration::from_secs(5);

/// Never returns; cancelled at shutdown.
pub(crate) async fn keep(node: &mut Node, logs: &mut LogReceiver, address: &str, identity: &Identity, hooks: &Hooks) {
    scrub(node).await;
    let addresses: Vec<&str> = address.split(',').map(str::trim).collect();
    let wait_max = if addresses.len() > 1 { WAIT_MAX_OF_SEVERAL } else { WAIT_MAX };
    let mut wait = WAIT_MIN;
    let mut failed = 0;
    for address in addresses.iter().cycle() {
        let start = Instant::now();
        // What is durable is said in the Hello: it must be known.
        node.settle().await;
        let error = match connect_and_run(node, logs, address, identity, hooks).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if node.status.connected() {
            node.status.set_connected(false);
        }
        tracing::warn!(address, %error, "no connection to the control plane");
        if start.elapsed() >= LASTED {
            (wait, failed) = (WAIT_MIN, 0);
        }
        failed += 1;
        if usize::is_multiple_of(failed, addresses.len()) {
            tokio::time::sleep(jittered(wait)).await;
            wait = (wait * 2).min(wait_max);
        }
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

/// Reads the modules of what serves, once, so that damaged ones are fetched again with the first connection.
async fn scrub(node: &mut Node) {
    let Some(published) = node.plane.current() else { return };
    let disk = Arc::clone(&node.disk);
    let code = node.code.clone();
    let lacking = tokio::task::spawn_blocking(move || {
        disk.scrub(published.snapshot());
        if let Some(code) = code {
            disk.scrub_code(published.snapshot(), &code);
        }
        disk.missing_artifacts(published.snapshot())
    });
    match lacking.await {
        Ok(lacking) => node.lacking = lacking,
        Err(error) => tracing::error!(%error, "cannot check the modules on disk"),
    }
}

async fn connect_and_run(
    node: &mut Node,
    logs: &mut LogReceiver,
    address: &str,
    identity: &Identity,
    hooks: &Hooks,
) -> Result<std::convert::Infallible, SessionError> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(&identity.tls)).connect(control_name(), stream).await
    };
    let stream = timeout(CONNECT_TIMEOUT, connect).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    session::run(stream, &identity.name, node, logs, hooks).await
}
