//! Reading whole files into memory that was used before: a fresh buffer of 100 KB costs more in page faults than the read itself,
//! on the way of a Worker's first request.
//!
//! *Owns:* a few buffers a thread. *Bounds:* [`KEPT_MAX`] buffers of at most [`KEPT_BYTES_MAX`] bytes a thread; larger ones are
//! freed. *Invariant:* a buffer is emptied before it is read into again.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;

/// A module and its compiled code are read one after the other and live together.
const KEPT_MAX: usize = 2;
const KEPT_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Gives its memory to the thread that drops it.
struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        if buffer.capacity() > KEPT_BYTES_MAX {
            return;
        }
        // A thread that ends has no place left for it.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < KEPT_MAX
            {
                kept.push(buffer);
            }
        });
    }
}

/// Reads a file whole. The memory is this module's again when the last clone is dropped.
pub(crate) fn read(path: &Path) -> io::Result<Bytes> {
    let mut file = open(path)?;
    let mut buffer = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.clear();
    file.read_to_end(&mut buffer)?;
    Ok(Bytes::from_owner(Lent(buffer)))
}

/// Opens a file without having it noted when it was read. That note is a write, for which a reader waits where the file system's
/// journal is busy: the shard, and all of its tenants, for as long as somebody else's build fills the disk.
fn open(path: &Path) -> io::Result<File> {
    match File::options().read(true).custom_flags(libc::O_NOATIME).open(path) {
        // Somebody else's file.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd as _;

    fn kept() -> Vec<usize> {
        KEPT.with_borrow(|kept| kept.iter().map(Vec::capacity).collect())
    }

    #[test]
    fn reading_a_file_writes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        fs::write(&path, b"text").expect("written");
        // Older than its content: even `relatime` would note the next look.
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let times = fs::FileTimes::new().set_accessed(long_ago);
        File::options().write(true).open(&path).and_then(|file| file.set_times(times)).expect("set");
        assert_eq!(&read(&path).expect("read")[..], b"text");
        assert_eq!(fs::metadata(&path).and_then(|it| it.accessed()).expect("a time"), long_ago);
        // Where a file system is mounted so that it notes no reads, this alone would tell.
        let file = open(&path).expect("open");
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).expect("proc");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
        let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
        assert_eq!(flags & libc::O_NOATIME, libc::O_NOATIME);
    }

    #[test]
    fn a_buffer_is_used_again_and_never_shows_what_it_held() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        fs::write(&path, [1; 5000]).expect("written");
        let long = read(&path).expect("read");
        let at = long.as_ptr();
        fs::write(&path, b"short").expect("written");
        let beside = read(&path).expect("read");
        assert_eq!((&long[..], &beside[..]), (&[1u8; 5000][..], &b"short"[..]), "both are alive");
        let part = long.slice(10..20);
        drop(long);
        assert!(kept().is_empty(), "a part of it is alive");
        drop(part);
        let again = read(&path).expect("read");
        assert_eq!((again.as_ptr(), &again[..]), (at, &b"short"[..]));
    }

    #[test]
    fn few_and_small_buffers_are_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        fs::write(&path, vec![2; KEPT_BYTES_MAX + 1]).expect("written");
        drop(read(&path).expect("read"));
        assert!(kept().is_empty());
        fs::write(&path, b"small").expect("written");
        let three = [read(&path), read(&path), read(&path)];
        drop(three);
        assert_eq!(kept().len(), KEPT_MAX);
        assert_eq!(read(&folder.path().join("none")).expect_err("none").kind(), io::ErrorKind::NotFound);
        assert_eq!(kept().len(), KEPT_MAX, "nothing was taken for a file that is not there");
    }
}
