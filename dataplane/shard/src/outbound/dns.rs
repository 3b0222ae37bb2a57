//! Names to addresses: the system's resolver on glommio's blocking threads, with a short memory.
//!
//! Each name is asked for once at a time, in a task of its own: whoever wants it meanwhile waits for the same answer. The system's
//! resolver tells no life of its answers, so all live for [`DNS_TTL_NS`], and a failure for [`DNS_FAILURE_TTL_NS`].
//!
//! *Bounds:* names known, names that are being asked for.

use super::FetchError;
use crate::config::{DNS_FAILURE_TTL_NS, DNS_NAMES_MAX, DNS_PENDING_MAX, DNS_TTL_NS};
use crate::shard::Shard;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, ToSocketAddrs};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use worker_api::event::MonotonicNs;

/// Names of a shard and their addresses.
#[derive(Default)]
pub(crate) struct Names {
    table: RefCell<Table>,
}

#[derive(Default)]
struct Table {
    known: HashMap<String, Known>,
    /// Who waits for the answer.
    pending: HashMap<String, Vec<Waker>>,
}

struct Known {
    /// None: it has none.
    addresses: Rc<[IpAddr]>,
    until_ns: MonotonicNs,
}

/// What is known of a name.
enum Look {
    Known(Rc<[IpAddr]>),
    Wait,
    Ask,
    Full,
}

impl Names {
    pub(crate) fn sweep(&self, now_ns: MonotonicNs) {
        self.table.borrow_mut().known.retain(|_, known| known.until_ns > now_ns);
    }

    fn look(&self, host: &str, now_ns: MonotonicNs, cx: &Context<'_>) -> Look {
        let mut table = self.table.borrow_mut();
        if let Some(known) = table.known.get(host).filter(|known| known.until_ns > now_ns) {
            return Look::Known(known.addresses.clone());
        }
        if let Some(waiting) = table.pending.get_mut(host) {
            waiting.push(cx.waker().clone());
            return Look::Wait;
        }
        if table.pending.len() >= DNS_PENDING_MAX {
            return Look::Full;
        }
        table.pending.insert(host.to_owned(), vec![cx.waker().clone()]);
        Look::Ask
    }

    fn answer(&self, host: &str, addresses: Rc<[IpAddr]>, now_ns: MonotonicNs) {
        let mut table = self.table.borrow_mut();
        if table.known.len() >= DNS_NAMES_MAX {
            table.known.clear();
        }
        let life_ns = if addresses.is_empty() { DNS_FAILURE_TTL_NS } else { DNS_TTL_NS };
        table.known.insert(host.to_owned(), Known { addresses, until_ns: now_ns + life_ns });
        table.pending.remove(host).into_iter().flatten().for_each(Waker::wake);
    }
}

/// The addresses of a name, at least one.
pub(crate) async fn resolve(shard: &Rc<Shard>, host: &str) -> Result<Rc<[IpAddr]>, FetchError> {
    let addresses = poll_fn(|cx| match shard.outbound.names.look(host, shard.clock.now_ns(), cx) {
        Look::Known(addresses) => Poll::Ready(Ok(addresses)),
        Look::Wait => Poll::Pending,
        Look::Ask => {
            ask(shard, host);
            Poll::Pending
        }
        Look::Full => Poll::Ready(Err(FetchError("too many names are being resolved".to_owned()))),
    })
    .await?;
    if addresses.is_empty() {
        return Err(FetchError(format!("the name {host} could not be resolved")));
    }
    Ok(addresses)
}

fn ask(shard: &Rc<Shard>, host: &str) {
    let (shard, host) = (shard.clone(), host.to_owned());
    glommio::spawn_local(async move {
        let name = host.clone();
        let resolved = glommio::executor()
            .spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>()).unwrap_or_default()
            })
            .await;
        shard.outbound.names.answer(&host, resolved.into(), shard.clock.now_ns());
    })
    .detach();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_once_and_remembered_for_a_while() {
        let names = Names::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(names.look("a", 0, &cx), Look::Ask));
        assert!(matches!(names.look("a", 0, &cx), Look::Wait));
        names.answer("a", [IpAddr::from([192, 0, 2, 1])].into(), 5);
        assert!(matches!(names.look("a", 5 + DNS_TTL_NS - 1, &cx), Look::Known(found) if found.len() == 1));
        assert!(matches!(names.look("a", 5 + DNS_TTL_NS, &cx), Look::Ask));
        names.answer("a", Vec::new().into(), 0);
        assert!(matches!(names.look("a", DNS_FAILURE_TTL_NS - 1, &cx), Look::Known(found) if found.is_empty()));
        assert!(matches!(names.look("a", DNS_FAILURE_TTL_NS, &cx), Look::Ask));
    }

    #[test]
    fn names_are_bounded() {
        let names = Names::default();
        let cx = Context::from_waker(Waker::noop());
        for index in 0..DNS_PENDING_MAX {
            assert!(matches!(names.look(&index.to_string(), 0, &cx), Look::Ask));
        }
        assert!(matches!(names.look("one more", 0, &cx), Look::Full));
        for index in 0..2 * DNS_NAMES_MAX {
            names.answer(&index.to_string(), Vec::new().into(), 0);
        }
        assert!(names.table.borrow().known.len() <= DNS_NAMES_MAX && names.table.borrow().pending.is_empty());
    }
}
