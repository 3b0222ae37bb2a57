//! Keeps a connection to the control plane: connects, runs it to its end, waits, connects again. For ever.
//!
//! The wait doubles from 100 ms to 10 s and is then shortened at random by up to a half, so that nodes that lost their
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
/// A connection that lasted as long was a good one.
const LASTED: Duration = Duration::from_secs(5);

/// Never returns; cancelled at shutdown.
pub(crate) async fn keep(node: &mut Node, logs: &mut LogReceiver, address: &str, identity: &Identity, hooks: &Hooks) {
    scrub(node).await;
    let mut wait = WAIT_MIN;
    loop {
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
        wait = if start.elapsed() >= LASTED { WAIT_MIN } else { wait };
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(WAIT_MAX);
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
