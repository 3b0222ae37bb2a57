//! Archives of V8 on disk: which files are one, whether their bytes are right, unpacking.
//!
//! Owns: checksums, `SHA256SUMS`, the notes about files that were checked before (by size and time of change, so that
//! 140 MB are not read again at every call). Does not decide which archive is used.
//! Bounds: a packed archive is unpacked to at most [`UNPACKED_BYTES_MAX`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};

use super::VERSION;
use crate::progress::say;

/// The folder of the cache that archives are unpacked into.
pub(super) const UNPACKED: &str = "unpacked";

/// Names and checksums of what lies beside, in the format of `sha256sum`.
pub(super) const SUMS: &str = "SHA256SUMS";

/// An archive of another kind or a damaged download is smaller than this; the multi-cage build has 142 MB.
const ARCHIVE_BYTES_MIN: u64 = 32 << 20;

/// Seven times what the archive has: a file that unpacks to more is not ours.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// The build that Selvage wants.
pub(super) const MULTICAGE: &str = "multicage";

/// What every `ar` archive starts with.
const MAGIC: &[u8] = b"!<arch>\n";

/// An archive of which the bytes were checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) path: PathBuf,
    pub(super) sha256: String,
}

/// What a folder turned out to be.
#[derive(Debug)]
pub(super) enum Folder {
    Holds(Checked),
    Empty,
}

/// The name of an archive of the given build of V8.
pub(super) fn name(build: &str) -> String {
    format!("librusty_v8-{VERSION}-{build}.a")
}

/// Looks for an archive, packed or not, and gives it checked and unpacked. An error means that something is there and
/// must not be used.
pub(super) fn look_into(folder: &Path, build: &str, cache: &Path) -> Result<Folder> {
    let plain = folder.join(name(build));
    let packed = folder.join(format!("{}.zst", name(build)));
    let has_plain = plain.is_file();
    if !has_plain && !packed.is_file() {
        return Ok(Folder::Empty);
    }
    let sums = Sums::read(&folder.join(SUMS))?;
    let file = if has_plain { &plain } else { &packed };
    let listed =
        sums.of(file).with_context(|| format!("{} does not list {}", folder.join(SUMS).display(), file.display()))?;
    let found = sum_of(file, cache)?;
    ensure!(found == listed, "{} is damaged: its SHA-256 is {found}, {SUMS} says {listed}", file.display());
    if has_plain {
        ensure_archive(&plain)?;
        return Ok(Folder::Holds(Checked { path: plain, sha256: found }));
    }
    unpack(&packed, build, sums.of(&plain), cache).map(Folder::Holds)
}

/// Checks one file named by the caller: an archive, and the one of the `SHA256SUMS` beside it where that lists it.
pub(super) fn check_file(path: &Path, cache: &Path) -> Result<Checked> {
    ensure!(path.is_file(), "{} is not a file", path.display());
    ensure_archive(path)?;
    let found = sum_of(path, cache)?;
    let sums = path.with_file_name(SUMS);
    if sums.is_file()
        && let Some(listed) = Sums::read(&sums)?.of(path)
    {
        ensure!(found == listed, "{} is damaged: its SHA-256 is {found}, {SUMS} says {listed}", path.display());
    }
    Ok(Checked { path: path.to_owned(), sha256: found })
}

/// Puts a finished archive under its final name into `folder` of the cache, with its checksum beside it.
pub(super) fn install(part: &Path, folder: &Path, build: &str, cache: &Path) -> Result<Checked> {
    ensure_archive(part)?;
    let sha256 = sum_of(part, cache)?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(name(build));
    File::open(part).and_then(|it| it.sync_all()).context("writing the archive to disk")?;
    // The checksum goes last: until then the folder is refused, and made again.
    remove(&folder.join(SUMS))?;
    fs::rename(part, &path).with_context(|| format!("moving {} to {}", part.display(), path.display()))?;
    let sums = folder.join(format!("{SUMS}.part"));
    fs::write(&sums, format!("{sha256}  {}\n", name(build))).with_context(|| format!("writing {}", sums.display()))?;
    fs::rename(&sums, folder.join(SUMS)).context("naming the checksum")?;
    Ok(Checked { path, sha256 })
}

/// Unpacks into the cache, unless the cache has it already.
fn unpack(packed: &Path, build: &str, listed: Option<&str>, cache: &Path) -> Result<Checked> {
    let folder = cache.join(UNPACKED);
    if let Some(listed) = listed
        && let Ok(Folder::Holds(there)) = look_into(&folder, build, cache)
        && there.sha256 == listed
    {
        return Ok(there);
    }
    say("v8", format!("unpacking {} into {}", packed.display(), folder.display()));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let part = folder.join(format!("{}.{}.part", name(build), std::process::id()));
    let result = unpack_to(packed, &part).and_then(|()| {
        let found = sum_of(&part, cache)?;
        if let Some(listed) = listed {
            ensure!(
                found == listed,
                "{} unpacks to something else: its SHA-256 is {found}, {SUMS} says {listed}",
                packed.display()
            );
        }
        install(&part, &folder, build, cache)
    });
    remove(&part)?;
    result
}

fn unpack_to(packed: &Path, part: &Path) -> Result<()> {
    let mut zstd = Command::new("zstd")
        .args(["--decompress", "--stdout", "--quiet", "--"])
        .arg(packed)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null()) // its exit code says it; the error names the file
        .spawn()
        .context("starting `zstd`")?;
    let mut file = File::create(part).with_context(|| format!("making {}", part.display()))?;
    let stdout = zstd.stdout.take().context("zstd has no standard output")?;
    let copied = io::copy(&mut stdout.take(UNPACKED_BYTES_MAX + 1), &mut file);
    if !matches!(copied, Ok(bytes) if bytes <= UNPACKED_BYTES_MAX) {
        let _ = zstd.kill();
    }
    let status = zstd.wait().context("waiting for `zstd`")?;
    let bytes = copied.with_context(|| format!("writing {}", part.display()))?;
    ensure!(bytes <= UNPACKED_BYTES_MAX, "{} unpacks to more than {UNPACKED_BYTES_MAX} bytes", packed.display());
    ensure!(status.success(), "{} cannot be unpacked: zstd ended with {status}", packed.display());
    Ok(())
}

fn ensure_archive(path: &Path) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let bytes = file.metadata().with_context(|| format!("looking at {}", path.display()))?.len();
    let mut magic = [0; MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != MAGIC {
        bail!("{} is not a static library", path.display());
    }
    ensure!(bytes >= ARCHIVE_BYTES_MIN, "{} has {bytes} bytes, too few for V8", path.display());
    Ok(())
}

/// The SHA-256 of a file in hexadecimal, read once per state of the file.
pub(super) fn sum_of(path: &Path, cache: &Path) -> Result<String> {
    let notes = cache.join("checked");
    let meta = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let changed = meta.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let place = fs::canonicalize(path).with_context(|| format!("resolving {}", path.display()))?;
    let state = format!("{} {}.{:09} {}", meta.len(), changed.as_secs(), changed.subsec_nanos(), place.display());
    let noted = fs::read_to_string(&notes).unwrap_or_default();
    if let Some(sum) = noted.lines().find_map(|line| line.split_once(' ').filter(|(_, it)| *it == state)) {
        return Ok(sum.0.to_owned());
    }
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let output = Command::new("sha256sum").stdin(file).output().context("starting `sha256sum`")?;
    let sum = String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or_default().to_owned();
    ensure!(output.status.success() && is_sum(&sum), "`sha256sum` failed on {}", path.display());
    // A note about the same file in an older state is dropped; one about a file that is gone does no harm.
    let suffix = format!(" {}", place.display());
    let mut fresh: String = noted.lines().filter(|it| !it.ends_with(&suffix)).flat_map(|it| [it, "\n"]).collect();
    fresh.push_str(&format!("{sum} {state}\n"));
    let part = cache.join(format!("checked.{}.part", std::process::id()));
    fs::write(&part, fresh).and_then(|()| fs::rename(&part, &notes)).context("noting a checksum in the cache")?;
    Ok(sum)
}

fn is_sum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What a `SHA256SUMS` file lists.
struct Sums(Vec<(String, String)>);

impl Sums {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut entries = Vec::new();
        for line in text.lines().filter(|it| !it.trim().is_empty()) {
            let (sum, name) =
                line.split_once(' ').with_context(|| format!("{}: no name in {line:?}", path.display()))?;
            ensure!(is_sum(sum), "{}: {sum:?} is not a SHA-256", path.display());
            let name = name.strip_prefix([' ', '*']).unwrap_or(name);
            entries.push((name.to_owned(), sum.to_owned()));
        }
        Ok(Self(entries))
    }

    fn of(&self, file: &Path) -> Option<&str> {
        let name = file.file_name()?.to_str()?;
        self.0.iter().find(|(it, _)| it == name).map(|(_, sum)| sum.as_str())
    }
}

#[cfg(test)]
mod tests;
