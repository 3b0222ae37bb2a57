//! Names to addresses: the system's resolver on glommio's blocking threads, with a short memory.

use super::FetchError;
use crate::config::{DNS_NAMES_MAX, DNS_TTL_NS};
use crate::shard::Shard;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::rc::Rc;
use worker_api::event::MonotonicNs;

/// Names of a shard and their addresses.
pub(crate) struct Names {
    known: RefCell<HashMap<String, Known>>,
}

struct Known {
    addresses: Rc<[IpAddr]>,
    until_ns: MonotonicNs,
}

impl Names {
    pub(crate) fn new() -> Names {
        Names { known: RefCell::new(HashMap::new()) }
    }

    pub(crate) fn sweep(&self, now_ns: MonotonicNs) {
        self.known.borrow_mut().retain(|_, known| known.until_ns > now_ns);
    }

    fn get(&self, host: &str, now_ns: MonotonicNs) -> Option<Rc<[IpAddr]>> {
        let known = self.known.borrow();
        known.get(host).filter(|known| known.until_ns > now_ns).map(|known| known.addresses.clone())
    }

    fn put(&self, host: &str, addresses: Rc<[IpAddr]>, now_ns: MonotonicNs) {
        let mut known = self.known.borrow_mut();
        if known.len() >= DNS_NAMES_MAX {
            known.clear();
        }
        known.insert(host.to_owned(), Known { addresses, until_ns: now_ns + DNS_TTL_NS });
    }
}

/// The addresses of a name, at least one.
pub(crate) async fn resolve(shard: &Shard, host: &str) -> Result<Rc<[IpAddr]>, FetchError> {
    if let Some(known) = shard.outbound.names.get(host, shard.clock.now_ns()) {
        return Ok(known);
    }
    let name = host.to_owned();
    let resolved = glommio::executor()
        .spawn_blocking(move || {
            (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
        })
        .await;
    match resolved {
        Ok(addresses) if !addresses.is_empty() => {
            let addresses: Rc<[IpAddr]> = addresses.into();
            shard.outbound.names.put(host, addresses.clone(), shard.clock.now_ns());
            Ok(addresses)
        }
        _ => Err(FetchError(format!("the name {host} could not be resolved"))),
    }
}
