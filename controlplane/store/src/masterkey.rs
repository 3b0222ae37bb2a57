//! The key that seals variables at rest: a file of its own, so that a copy of the database alone opens nothing.

use std::path::Path;

use plane_abi::seal::{self, Key};

use crate::{Result, StoreError, io};

/// The master key. Never printed.
#[derive(Clone)]
pub(crate) struct MasterKey(Key);

impl MasterKey {
    /// Reads the key, or makes it (mode 0600).
    pub(crate) fn load_or_create(path: &Path) -> Result<MasterKey> {
        Key::load_or_create(path).map(MasterKey).map_err(io("the master key"))
    }

    /// Seals a value to its place.
    pub(crate) fn seal(&self, aad: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        seal::seal(&self.0, aad, value).map_err(|error| StoreError::Precondition(error.to_string()))
    }

    /// The value, if it was sealed by this key for this place.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        seal::open(&self.0, aad, sealed).ok()
    }
}
