//! One lock a key, made when it is wanted and gone when nobody wants it: so that the operations of one deployment happen
//! one after the other, and those of two never wait for each other.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Table<K> = Mutex<HashMap<K, Arc<AsyncMutex<()>>>>;

/// The locks of all keys. Clones are the same locks.
pub(crate) struct KeyedLocks<K: Eq + Hash + Clone>(Arc<Table<K>>);

impl<K: Eq + Hash + Clone> Clone for KeyedLocks<K> {
    fn clone(&self) -> KeyedLocks<K> {
        KeyedLocks(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash + Clone> Default for KeyedLocks<K> {
    fn default() -> KeyedLocks<K> {
        KeyedLocks(Arc::default())
    }
}

/// Holds, or waits for, the lock of one key.
pub(crate) struct KeyGuard<K: Eq + Hash + Clone> {
    table: Arc<Table<K>>,
    key: K,
    lock: Option<Arc<AsyncMutex<()>>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K: Eq + Hash + Clone> KeyedLocks<K> {
    /// Waits for the lock of `key`, first come first served. May be dropped while it waits.
    pub(crate) async fn lock(&self, key: K) -> KeyGuard<K> {
        let lock = {
            let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(table.entry(key.clone()).or_default())
        };
        let table = Arc::clone(&self.0);
        let mut guard = KeyGuard { table, key, lock: Some(Arc::clone(&lock)), guard: None };
        guard.guard = Some(lock.lock_owned().await);
        guard
    }

    /// The lock of `key` if nobody has it or waits for it.
    pub(crate) fn try_lock(&self, key: K) -> Option<KeyGuard<K>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.contains_key(&key) {
            return None;
        }
        let lock = Arc::clone(table.entry(key.clone()).or_default());
        let guard = Arc::clone(&lock).try_lock_owned().ok();
        Some(KeyGuard { table: Arc::clone(&self.0), key, lock: Some(lock), guard })
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl<K: Eq + Hash + Clone> Drop for KeyGuard<K> {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        self.lock = None;
        // Whoever else holds or waits has a clone; clones are made under the table's lock only.
        if table.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn one_at_a_time_for_a_key_and_nothing_stays() {
        let locks = KeyedLocks::<u32>::default();
        let first = locks.lock(1).await;
        let other = locks.lock(2).await;
        let waiting = tokio::time::timeout(Duration::from_millis(20), locks.lock(1)).await;
        assert!(waiting.is_err(), "two hold the lock of one key");
        assert!(locks.try_lock(1).is_none());
        drop(locks.try_lock(3).expect("nobody has it"));
        drop(first);
        let second = locks.lock(1).await;
        assert_eq!(locks.len(), 2);
        drop((second, other));
        assert_eq!(locks.len(), 0);
    }
}
