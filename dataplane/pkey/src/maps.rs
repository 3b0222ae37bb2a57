//! What is mapped where: areas with their protection, and, for checks, the key that each really carries.
//!
//! Areas come from `PROCMAP_QUERY` (Linux 6.11), one system call each, or from the text of `/proc/self/maps`. The file is opened
//! once, at the first use or by [`open`], because the fence around the process closes `/proc` (see [`fence`](crate::fence)).

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _},
    ops::Range,
    os::fd::AsRawFd as _,
    sync::{Mutex, OnceLock, PoisonError},
};

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Its addresses.
    pub range: Range<usize>,
    /// `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`.
    pub protection: i32,
}

/// A mapping as `/proc/self/smaps` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedArea {
    /// Where, and how protected.
    pub area: Area,
    /// Its protection key; 0 where the kernel shows none.
    pub key: u8,
    /// Bytes of it in memory.
    pub resident: usize,
}

/// `struct procmap_query` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name_address: u64,
    build_id_address: u64,
}

const _: () = assert!(size_of::<Query>() == 104);

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: u64 = 3 << 30 | 104 << 16 | 0x66 << 8 | 17;
/// The area that holds the address, or else the next one.
const COVERING_OR_NEXT: u64 = 0x10;

fn file() -> io::Result<&'static Mutex<File>> {
    static FILE: OnceLock<Mutex<File>> = OnceLock::new();
    if let Some(file) = FILE.get() {
        return Ok(file);
    }
    let file = File::open("/proc/self/maps")?;
    Ok(FILE.get_or_init(|| Mutex::new(file)))
}

/// Opens the file, to have it when `/proc` is closed.
pub fn open() -> io::Result<()> {
    file().map(|_| ())
}

/// All areas that overlap `range`, in order of address.
pub fn areas(range: Range<usize>) -> io::Result<Vec<Area>> {
    let file = file()?.lock().unwrap_or_else(PoisonError::into_inner);
    match queried(&file, range.clone()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => parsed(&file, range),
        done => done,
    }
}

fn queried(file: &File, range: Range<usize>) -> io::Result<Vec<Area>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let mut query =
            Query { size: size_of::<Query>() as u64, flags: COVERING_OR_NEXT, address: at as u64, ..Query::default() };
        // SAFETY: `query` is the structure that this request takes, whole and writable.
        if unsafe { libc::ioctl(file.as_raw_fd(), PROCMAP_QUERY as _, &raw mut query) } != 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT) => break,
                _ => return Err(error),
            }
        }
        if query.start as usize >= range.end {
            break;
        }
        // VMA_READABLE, _WRITABLE and _EXECUTABLE have the values of PROT_READ, _WRITE and _EXEC.
        found.push(Area { range: query.start as usize..query.end as usize, protection: (query.vma_flags & 7) as i32 });
        at = query.end as usize;
    }
    Ok(found)
}

fn parsed(mut file: &File, range: Range<usize>) -> io::Result<Vec<Area>> {
    file.rewind()?;
    let mut found = Vec::new();
    for line in BufReader::new(file).lines() {
        let Some(area) = head(&line?) else { continue };
        if area.range.start >= range.end {
            break;
        }
        if area.range.end > range.start {
            found.push(area);
        }
    }
    Ok(found)
}

/// `7f0a-7f0b rw-p …`
fn head(line: &str) -> Option<Area> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    let letters = words.next()?.as_bytes();
    let bit = |at: usize, letter: u8, bit: i32| if letters.get(at) == Some(&letter) { bit } else { 0 };
    let protection = bit(0, b'r', libc::PROT_READ) | bit(1, b'w', libc::PROT_WRITE) | bit(2, b'x', libc::PROT_EXEC);
    Some(Area { range, protection })
}

/// All areas of the process with their keys, from `/proc/self/smaps`: milliseconds, for checks.
pub fn keyed_areas() -> io::Result<Vec<KeyedArea>> {
    let mut found: Vec<KeyedArea> = Vec::new();
    for line in BufReader::new(File::open("/proc/self/smaps")?).lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("ProtectionKey:") {
            if let Some(last) = found.last_mut() {
                last.key = rest.trim().parse().unwrap_or(0);
            }
        } else if let Some(rest) = line.strip_prefix("Rss:") {
            if let Some(last) = found.last_mut() {
                last.resident = rest.trim().trim_end_matches(" kB").parse().unwrap_or(0) << 10;
            }
        } else if let Some(area) = head(&line) {
            found.push(KeyedArea { area, key: 0, resident: 0 });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pages of different protection.
    fn pages() -> Range<usize> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, and a part of it.
        let start = unsafe {
            let start = libc::mmap(std::ptr::null_mut(), 3 * 4096, libc::PROT_READ, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(start.byte_add(4096), 4096, libc::PROT_NONE), 0);
            start as usize
        };
        start..start + 3 * 4096
    }

    fn check(found: &[Area], pages: &Range<usize>) {
        let at = |page: usize| {
            let address = pages.start + page * 4096;
            found.iter().find(|area| area.range.contains(&address)).map(|area| area.protection)
        };
        assert_eq!([at(0), at(1), at(2)], [Some(libc::PROT_READ), Some(0), Some(libc::PROT_READ)]);
        assert!(found.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "in order");
    }

    #[test]
    fn the_query_and_the_text_say_the_same() {
        let pages = pages();
        let file = File::open("/proc/self/maps").expect("maps");
        check(&parsed(&file, pages.clone()).expect("text"), &pages);
        match queried(&file, pages.clone()) {
            Ok(found) => check(&found, &pages),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOTTY), "{error}"),
        }
        check(&areas(pages.clone()).expect("either"), &pages);
    }

    #[test]
    fn smaps_shows_residence() {
        let pages = pages();
        // SAFETY: a readable page of ours.
        assert_eq!(unsafe { std::ptr::read_volatile(pages.start as *const u8) }, 0);
        let found = keyed_areas().expect("smaps");
        let first = found.iter().find(|keyed| keyed.area.range.contains(&pages.start)).expect("there");
        assert_eq!((first.area.protection, first.key), (libc::PROT_READ, 0));
    }

    #[test]
    fn heads_of_other_shapes_are_no_areas() {
        assert_eq!(head("Rss:                   4 kB"), None);
        assert_eq!(head("VmFlags: rd mr mw me sd"), None);
        let area = head("7f00-8f00 rw-p 00000000 00:00 0   [heap]").expect("an area");
        assert_eq!(area, Area { range: 0x7f00..0x8f00, protection: libc::PROT_READ | libc::PROT_WRITE });
    }
}
