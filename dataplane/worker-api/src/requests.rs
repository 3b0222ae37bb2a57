//! The requests of a Worker that are not finished: those that wait for something, and sessions.
//!
//! A *session* is a request whose reply is complete and which lives on because of its WebSockets. Nothing is done for it but for
//! its own events: what looks at all requests looks at the others only, however many sessions there are.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::{
    event::RequestId,
    state::{IdHasher, Request},
};

type Table = HashMap<RequestId, Request, BuildHasherDefault<IdHasher>>;

/// Requests by id.
#[derive(Default)]
pub(crate) struct Requests {
    open: Table,
    sessions: Table,
}

impl Requests {
    #[inline]
    pub(crate) fn get(&self, id: &RequestId) -> Option<&Request> {
        self.open.get(id).or_else(|| self.sessions.get(id))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: &RequestId) -> Option<&mut Request> {
        match self.open.get_mut(id) {
            None if !self.sessions.is_empty() => self.sessions.get_mut(id),
            found => found,
        }
    }

    pub(crate) fn contains_key(&self, id: &RequestId) -> bool {
        self.get(id).is_some()
    }

    #[inline]
    pub(crate) fn insert(&mut self, id: RequestId, request: Request) {
        self.open.insert(id, request);
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: &RequestId) -> Option<Request> {
        self.open.remove(id).or_else(|| self.sessions.remove(id))
    }

    /// From here on it is a session.
    pub(crate) fn begin_session(&mut self, id: RequestId) {
        if let Some(request) = self.open.remove(&id) {
            self.sessions.insert(id, request);
        }
    }

    /// It is none any more.
    pub(crate) fn end_session(&mut self, id: RequestId) {
        if let Some(request) = self.sessions.remove(&id) {
            self.open.insert(id, request);
        }
    }

    /// Those that are no sessions.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&RequestId, &Request)> {
        self.open.iter()
    }

    /// How many are no sessions.
    #[inline]
    pub(crate) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// All of them, sessions included.
    pub(crate) fn ids(&self) -> impl Iterator<Item = RequestId> {
        self.open.keys().chain(self.sessions.keys()).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.sessions.len()
    }
}
