//! No keys: everything answers "off" and costs nothing.

use std::{io, ops::Range};

use crate::{Key, Reason, Status};

/// Runs `start_v8`.
pub fn init(start_v8: impl FnOnce()) -> Status {
    start_v8();
    status()
}

/// Always off.
pub fn status() -> Status {
    Status::Off(Reason::Architecture)
}

/// Always false.
#[inline(always)]
pub fn is_on() -> bool {
    false
}

/// None.
pub fn tenant_keys() -> &'static [Key] {
    &[]
}

/// Key 0.
pub fn spare_key() -> Key {
    Key::NONE
}

/// Key 0.
pub fn secrets_key() -> Key {
    Key::NONE
}

/// None.
pub fn jit_key() -> Option<Key> {
    None
}

/// 0.
pub fn rights() -> u32 {
    0
}

#[inline(always)]
pub(crate) fn set_rights(_rights: u32) {}

#[inline(always)]
pub(crate) fn rights_of(_key: Key) -> u32 {
    0
}

#[inline(always)]
pub(crate) fn host_rights() -> u32 {
    0
}

/// Nothing to do.
///
/// # Safety
/// None needed.
pub unsafe fn set_key(_range: Range<usize>, _protection: i32, _key: Key) -> io::Result<()> {
    Ok(())
}
