//! What a process's resident memory is made of, by kind of mapping: `/proc/PID/smaps` (proc(5)), read once at each rest.
//!
//! Two rests that differ differ in some kind: that says where to look. Kinds are told from the map alone. A cage of V8 is 4 GiB,
//! aligned to its size and mapped from end to end, most of it without access. A stack follows a small mapping without access, its
//! guard. What malloc has beside `[heap]` is areas of up to 64 MiB, and a mapping of its own for each large block.
//! *Bounds:* one pass over the map. *Fails:* with what cannot be read; a line that says nothing known counts for nothing.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::Context;
use serde::Serialize;

use crate::report::round;

/// Size and alignment of a cage.
const CAGE_BYTES: u64 = 4 << 30;
/// What of a cage may be unmapped.
const CAGE_HOLES_MAX: u64 = 64 << 20;
/// Larger ones without access are no guards, and larger ones with access no stacks.
const GUARD_BYTES_MAX: u64 = 64 << 10;
const STACK_BYTES_MAX: u64 = 8 << 20;

/// What a mapping is, as far as the map tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Cages,
    Heap,
    Stacks,
    /// Anonymous, up to 256 KiB.
    Small,
    /// Anonymous, up to 2 MiB.
    Medium,
    /// Anonymous, up to 64 MiB: malloc's arenas among them.
    Arenas,
    /// Anonymous and larger.
    Large,
    Memfd,
    Files,
    /// The kernel's own and devices.
    Other,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Cages,
        Kind::Heap,
        Kind::Stacks,
        Kind::Small,
        Kind::Medium,
        Kind::Arenas,
        Kind::Large,
        Kind::Memfd,
        Kind::Files,
        Kind::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Cages => "cages",
            Kind::Heap => "heap",
            Kind::Stacks => "stacks",
            Kind::Small => "anonymous to 256 KiB",
            Kind::Medium => "to 2 MiB",
            Kind::Arenas => "to 64 MiB",
            Kind::Large => "larger",
            Kind::Memfd => "memfd",
            Kind::Files => "files",
            Kind::Other => "other",
        }
    }
}

/// All mappings of a kind that may be accessed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) mappings: u64,
    pub(super) resident_mb: f64,
}

/// A process's resident memory by kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Breakdown {
    /// Areas that look like cages.
    pub(super) cages: u64,
    pub(super) parts: Vec<Part>,
}

struct Mapping<'a> {
    area: Range<u64>,
    access: bool,
    path: &'a str,
    resident_bytes: u64,
}

impl Mapping<'_> {
    fn bytes(&self) -> u64 {
        self.area.end - self.area.start
    }
}

impl Breakdown {
    pub(super) fn of(pid: u32) -> anyhow::Result<Breakdown> {
        let path = format!("/proc/{pid}/smaps");
        Ok(Breakdown::from_smaps(&std::fs::read_to_string(&path).context(path)?))
    }

    fn from_smaps(smaps: &str) -> Breakdown {
        let mappings = parse(smaps);
        let cages = cages(&mappings);
        let mut sums: HashMap<Kind, (u64, u64)> = HashMap::new();
        for (index, mapping) in mappings.iter().enumerate().filter(|(_, mapping)| mapping.access) {
            let before = index.checked_sub(1).map(|before| &mappings[before]);
            let sum = sums.entry(kind(mapping, before, &cages)).or_default();
            *sum = (sum.0 + 1, sum.1 + mapping.resident_bytes);
        }
        let part = |kind: Kind| {
            let (mappings, bytes) = sums.get(&kind).copied().unwrap_or_default();
            Part { kind, mappings, resident_mb: round(bytes as f64 / 1e6) }
        };
        Breakdown { cages: cages.len() as u64, parts: Kind::ALL.into_iter().map(part).collect() }
    }

    /// For people, on one line; kinds without any are left out.
    pub(super) fn line(&self) -> String {
        let some = self.parts.iter().filter(|part| part.mappings > 0);
        let parts: Vec<String> =
            some.map(|part| format!("{} {:.1} ({})", part.kind.name(), part.resident_mb, part.mappings)).collect();
        format!("{} cages; {}", self.cages, parts.join(", "))
    }
}

/// The map's lines, in the order of addresses.
fn parse(smaps: &str) -> Vec<Mapping<'_>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some(mapping) = head(line) {
            mappings.push(mapping);
        } else if let (Some(rest), Some(last)) = (line.strip_prefix("Rss:"), mappings.last_mut()) {
            let kib: u64 = rest.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            last.resident_bytes = kib * 1024;
        }
    }
    mappings
}

/// `start-end access offset device inode path`, the path being the rest of the line.
fn head(line: &str) -> Option<Mapping<'_>> {
    let (area, rest) = line.split_once(' ')?;
    let (start, end) = area.split_once('-')?;
    let address = |text: &str| u64::from_str_radix(text, 16).ok();
    let area = address(start)?..address(end)?;
    let (access, mut rest) = rest.split_once(' ')?;
    for _ in 0..2 {
        rest = rest.split_once(' ')?.1;
    }
    let path = rest.split_once(' ').map_or("", |(_, path)| path.trim());
    (area.start < area.end).then_some(Mapping { area, access: !access.starts_with("---"), path, resident_bytes: 0 })
}

/// Numbers of the pieces of the address space, 4 GiB each, that are mapped from end to end.
fn cages(mappings: &[Mapping<'_>]) -> HashMap<u64, u64> {
    let mut mapped: HashMap<u64, u64> = HashMap::new();
    for mapping in mappings {
        let last = (mapping.area.end - 1) / CAGE_BYTES;
        for piece in mapping.area.start / CAGE_BYTES..=last {
            let from = mapping.area.start.max(piece * CAGE_BYTES);
            *mapped.entry(piece).or_default() += mapping.area.end.min((piece + 1) * CAGE_BYTES) - from;
        }
    }
    mapped.retain(|_, bytes| *bytes >= CAGE_BYTES - CAGE_HOLES_MAX);
    mapped
}

fn kind(mapping: &Mapping<'_>, before: Option<&Mapping<'_>>, cages: &HashMap<u64, u64>) -> Kind {
    let guard =
        |before: &Mapping| !before.access && before.area.end == mapping.area.start && before.bytes() <= GUARD_BYTES_MAX;
    match mapping.path {
        "[heap]" => Kind::Heap,
        path if path.starts_with("[stack") => Kind::Stacks,
        path if path.starts_with("/memfd:") && !cages.contains_key(&(mapping.area.start / CAGE_BYTES)) => Kind::Memfd,
        path if path.is_empty() || path.starts_with("[anon") || path.starts_with("/memfd:") => match mapping.bytes() {
            _ if cages.contains_key(&(mapping.area.start / CAGE_BYTES)) => Kind::Cages,
            bytes if bytes <= STACK_BYTES_MAX && before.is_some_and(guard) => Kind::Stacks,
            bytes if bytes <= 256 << 10 => Kind::Small,
            bytes if bytes <= 2 << 20 => Kind::Medium,
            bytes if bytes <= 64 << 20 => Kind::Arenas,
            _ => Kind::Large,
        },
        path if path.starts_with("/dev/") => Kind::Other,
        path if path.starts_with('/') => Kind::Files,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a map: where, access, path, KiB that are resident.
    fn check(lines: &[(u64, u64, &str, &str, u64)], cages: u64, expect: &[(Kind, u64, f64)]) {
        let text: String = lines
            .iter()
            .map(|(start, bytes, access, path, kib)| {
                let end = start + bytes;
                format!("{start:08x}-{end:08x} {access} 00000000 00:00 0    {path}\nSize: 9 kB\nRss:   {kib} kB\nVmFlags: rd\n")
            })
            .collect();
        let got = Breakdown::from_smaps(&text);
        let parts: Vec<(Kind, u64, f64)> = got
            .parts
            .iter()
            .filter(|part| part.mappings > 0)
            .map(|it| (it.kind, it.mappings, it.resident_mb))
            .collect();
        assert_eq!((got.cages, parts.as_slice()), (cages, expect), "{text}");
    }

    #[test]
    fn kinds_are_told_from_the_map() {
        const MIB: u64 = 1 << 20;
        check(
            &[
                (0x10_0000, 4096, "r-xp", "/usr/bin/a node", 1000),
                (0x20_0000, MIB, "rw-p", "[heap]", 2000),
                // A cage: two areas with access, and the rest of 4 GiB without.
                (CAGE_BYTES, MIB, "rw-p", "", 500),
                (CAGE_BYTES + MIB, 2 * MIB, "r--p", "/memfd:v8-read-only (deleted)", 250),
                (CAGE_BYTES + 3 * MIB, CAGE_BYTES - 3 * MIB, "---p", "", 0),
                // As large a gap as a cage has none: what is there is not in one.
                (3 * CAGE_BYTES, CAGE_BYTES / 2, "---p", "", 0),
                (3 * CAGE_BYTES + CAGE_BYTES / 2, 65 * MIB, "rw-p", "", 3000),
                // A thread's stack behind its guard, and a mapping as large behind nothing.
                (5 * CAGE_BYTES, 4096, "---p", "", 0),
                (5 * CAGE_BYTES + 4096, 2 * MIB, "rw-p", "", 125),
                (5 * CAGE_BYTES + 4 * MIB, 2 * MIB, "rw-p", "[anon: x]", 1000),
                (5 * CAGE_BYTES + 8 * MIB, 64 * MIB, "rw-p", "", 4000),
                (5 * CAGE_BYTES + 80 * MIB, 4096, "rw-p", "", 4),
                (5 * CAGE_BYTES + 81 * MIB, 4096, "rw-s", "/memfd:ring (deleted)", 1000),
                (5 * CAGE_BYTES + 82 * MIB, 4096, "rw-s", "anon_inode:[io_uring]", 1000),
                (0x7ffc_0000_0000, 132 << 10, "rw-p", "[stack]", 125),
            ],
            1,
            &[
                (Kind::Cages, 2, 0.768),
                (Kind::Heap, 1, 2.048),
                (Kind::Stacks, 2, 0.256),
                (Kind::Small, 1, 0.004),
                (Kind::Medium, 1, 1.024),
                (Kind::Arenas, 1, 4.096),
                (Kind::Large, 1, 3.072),
                (Kind::Memfd, 1, 1.024),
                (Kind::Files, 1, 1.024),
                (Kind::Other, 1, 1.024),
            ],
        );
        check(&[], 0, &[]);
        assert!(parse("Rss: 5 kB\nnot a map\n-\n1-0 rw-p 0 0 0\n").is_empty());
    }

    #[test]
    fn a_process_is_the_sum_of_its_kinds() -> anyhow::Result<()> {
        let block = std::hint::black_box(vec![1u8; 100 << 20]);
        let breakdown = Breakdown::of(std::process::id())?;
        let large = breakdown.parts.iter().find(|part| part.kind == Kind::Large).context("a part")?;
        assert!(large.resident_mb > 100.0, "{}", breakdown.line());
        drop(block);
        Ok(())
    }
}
