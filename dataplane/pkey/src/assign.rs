//! Which key a tenant has on a thread.

use std::hash::{BuildHasher as _, RandomState};

use crate::{Key, tenant_keys};

thread_local! {
    static SEED: RandomState = RandomState::new();
}

/// The key of this tenant on the calling thread: the same each time, spread at random over tenants and threads. Key 0 while keys
/// are off. Two tenants of a thread share a key with a chance of one in the number of keys.
pub fn tenant_key(account: u128) -> Key {
    let keys = tenant_keys();
    if keys.is_empty() {
        return Key::NONE;
    }
    let hash = SEED.with(|seed| seed.hash_one(account));
    keys[(hash % keys.len() as u64) as usize]
}
