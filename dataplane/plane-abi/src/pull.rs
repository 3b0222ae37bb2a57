//! Artifacts that requests wait for: shards ask for them, the agent fetches them (seed 000, code distribution, PULL).
//!
//! An artifact is fetched once, however many ask ([`Pulls::want`]), and all are told how it ended. Who stops waiting stops
//! nothing: the artifact comes, and the next finds it. What is asked for while the control plane is away stays open, and is
//! fetched when it is back.
//!
//! *Bounds:* [`PULLS_MAX`] artifacts at a time. *Threads:* any; a lock is held for a few instructions.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use base::id::ArtifactHash;

/// Artifacts that are fetched for requests at a time.
pub const PULLS_MAX: usize = 1024;

/// What is being fetched for requests. One for a node.
#[derive(Debug, Default)]
pub struct Pulls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<ArtifactHash, Arc<Mutex<Fate>>>,
    /// Those of them that the agent has not heard of.
    new: Vec<ArtifactHash>,
    agent: Option<Waker>,
}

/// How a fetch ended, and who waits for that.
#[derive(Debug, Default)]
struct Fate {
    came: Option<bool>,
    waiting: Vec<Waker>,
}

/// The end of a fetch: whether the artifact is here.
#[derive(Debug)]
pub struct Pull(Arc<Mutex<Fate>>);

/// Every change under a lock is complete before anything in it can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pulls {
    /// Asks for an artifact. `None`: too many others are asked for.
    pub fn want(&self, hash: ArtifactHash) -> Option<Pull> {
        let mut state = lock(&self.0);
        if let Some(fate) = state.open.get(&hash) {
            return Some(Pull(Arc::clone(fate)));
        }
        if state.open.len() >= PULLS_MAX {
            return None;
        }
        let fate = Arc::new(Mutex::new(Fate::default()));
        state.open.insert(hash, Arc::clone(&fate));
        state.new.push(hash);
        let agent = state.agent.take();
        drop(state);
        if let Some(agent) = agent {
            agent.wake();
        }
        Some(Pull(fate))
    }

    /// Waits for artifacts that the caller has not been told of. For one caller, the agent; cancelled, it loses nothing.
    pub async fn wanted(&self) -> Vec<ArtifactHash> {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if state.new.is_empty() {
                state.agent = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut state.new))
        })
        .await
    }

    /// All that is asked for and has not ended: for a connection that begins.
    pub fn open(&self) -> Vec<ArtifactHash> {
        let mut state = lock(&self.0);
        state.new.clear();
        state.open.keys().copied().collect()
    }

    /// A fetch has ended: `came` says whether the artifact is here. Of one that nobody asked for, nothing.
    pub fn end(&self, hash: ArtifactHash, came: bool) {
        let mut state = lock(&self.0);
        let Some(fate) = state.open.remove(&hash) else { return };
        state.new.retain(|new| *new != hash);
        drop(state);
        let mut fate = lock(&fate);
        fate.came = Some(came);
        let waiting = std::mem::take(&mut fate.waiting);
        drop(fate);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Future for Pull {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let mut fate = lock(&self.0);
        match fate.came {
            Some(came) => Poll::Ready(came),
            None => {
                if !fate.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    fate.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn hash(number: u16) -> ArtifactHash {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        ArtifactHash(bytes)
    }

    #[test]
    fn one_fetch_for_all_who_ask_and_all_are_told() {
        let pulls = Pulls::default();
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut cx = Context::from_waker(&waker);
        {
            let mut wanted = pin!(pulls.wanted());
            assert!(wanted.as_mut().poll(&mut cx).is_pending());
        }
        let (mut one, mut two) = (pulls.want(hash(1)).expect("room"), pulls.want(hash(1)).expect("room"));
        assert_eq!(counter.0.load(Relaxed), 1, "the agent is woken once");
        assert_eq!(pin!(pulls.wanted()).poll(&mut cx), Poll::Ready(vec![hash(1)]));
        assert!(pin!(pulls.wanted()).poll(&mut cx).is_pending(), "told once");
        assert!(Pin::new(&mut one).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut one).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut two).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        pulls.end(hash(2), true);
        assert!(Pin::new(&mut one).poll(&mut cx).is_pending(), "another's end");
        pulls.end(hash(1), true);
        assert_eq!(counter.0.load(Relaxed), 2, "who waits is woken once");
        assert_eq!(Pin::new(&mut one).poll(&mut cx), Poll::Ready(true));
        assert_eq!(Pin::new(&mut two).poll(&mut cx), Poll::Ready(true));
        // Asked for again, it is fetched again: it may have been removed since.
        let mut again = pulls.want(hash(1)).expect("room");
        assert!(Pin::new(&mut again).poll(&mut cx).is_pending());
        pulls.end(hash(1), false);
        assert_eq!(Pin::new(&mut again).poll(&mut cx), Poll::Ready(false));
    }

    #[test]
    fn what_nobody_waits_for_any_more_stays_open_and_there_is_an_end_to_asking() {
        let pulls = Pulls::default();
        drop(pulls.want(hash(0)));
        assert_eq!(pulls.open(), [hash(0)]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(pulls.wanted()).poll(&mut cx).is_pending(), "told with all that is open");
        for number in 1..PULLS_MAX {
            assert!(pulls.want(hash(number as u16)).is_some());
        }
        assert!(pulls.want(hash(PULLS_MAX as u16)).is_none());
        assert!(pulls.want(hash(7)).is_some(), "which is being fetched already");
        pulls.end(hash(7), false);
        assert!(pulls.want(hash(PULLS_MAX as u16)).is_some());
    }
}
