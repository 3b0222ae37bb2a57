//! Folders with right, damaged, unlisted and packed archives; each must end as its name says.

use super::*;

/// A folder of its own that goes away with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("selvage-xtask-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("cache")).unwrap();
        fs::create_dir_all(path.join("folder")).unwrap();
        Self(path)
    }

    fn folder(&self) -> PathBuf {
        self.0.join("folder")
    }

    fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// A file that passes for an archive: the magic, one mark, zeros up to the least size.
    fn archive(&self, name: &str, mark: u8) -> String {
        let path = self.folder().join(name);
        let mut bytes = MAGIC.to_vec();
        bytes.push(mark);
        fs::write(&path, &bytes).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(ARCHIVE_BYTES_MIN).unwrap();
        sum_of(&path, &self.cache()).unwrap()
    }

    fn sums(&self, lines: &[(&str, &str)]) {
        let text: String = lines.iter().map(|(sum, name)| format!("{sum}  {name}\n")).collect();
        fs::write(self.folder().join(SUMS), text).unwrap();
    }

    fn pack(&self, name: &str) -> String {
        let (plain, packed) = (self.folder().join(name), self.folder().join(format!("{name}.zst")));
        let status = Command::new("zstd").args(["-q", "--rm", "-o"]).arg(&packed).arg(&plain).status().unwrap();
        assert!(status.success());
        sum_of(&packed, &self.cache()).unwrap()
    }

    /// What the folder turns out to be: "empty", "ok", or the error's text.
    fn look(&self) -> String {
        match look_into(&self.folder(), MULTICAGE, &self.cache()) {
            Ok(Folder::Empty) => "empty".to_owned(),
            Ok(Folder::Holds(checked)) => {
                assert_eq!(sum_of(&checked.path, &self.cache()).unwrap(), checked.sha256);
                "ok".to_owned()
            }
            Err(error) => format!("{error:#}"),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn plain_archives_count_only_with_their_checksum() {
    let scratch = Scratch::new("plain");
    let name = name(MULTICAGE);
    assert_eq!(scratch.look(), "empty");
    let sum = scratch.archive(&name, 1);
    assert!(scratch.look().contains("SHA256SUMS"), "no sums: {}", scratch.look());
    scratch.sums(&[(&sum, "another")]);
    assert!(scratch.look().contains("does not list"), "{}", scratch.look());
    scratch.sums(&[(OTHER, &name)]);
    assert!(scratch.look().contains("is damaged"), "{}", scratch.look());
    scratch.sums(&[(&sum, &name)]);
    assert_eq!(scratch.look(), "ok");
    // The note about the old bytes must not cover the new ones.
    let changed = scratch.archive(&name, 2);
    assert_ne!(changed, sum);
    assert!(scratch.look().contains("is damaged"), "{}", scratch.look());
}

#[test]
fn a_short_or_foreign_file_is_no_archive_even_with_its_checksum() {
    let scratch = Scratch::new("foreign");
    let name = name(MULTICAGE);
    for bytes in [&b"!<arch>\n and nothing more"[..], b"\x7fELF", b""] {
        let path = scratch.folder().join(&name);
        fs::write(&path, bytes).unwrap();
        let sum = sum_of(&path, &scratch.cache()).unwrap();
        scratch.sums(&[(&sum, &name)]);
        let look = scratch.look();
        assert!(look.contains("not a static library") || look.contains("too few"), "{look}");
    }
}

#[test]
fn packed_archives_are_checked_before_and_after_unpacking() {
    let scratch = Scratch::new("packed");
    let name = name(MULTICAGE);
    let packed_name = format!("{name}.zst");
    let sum = scratch.archive(&name, 1);
    let packed = scratch.pack(&name);

    scratch.sums(&[(&packed, &packed_name), (OTHER, &name)]);
    assert!(scratch.look().contains("unpacks to something else"), "{}", scratch.look());
    assert!(matches!(look_into(&scratch.cache().join(UNPACKED), MULTICAGE, &scratch.cache()), Ok(Folder::Empty)));

    scratch.sums(&[(OTHER, &packed_name), (&sum, &name)]);
    assert!(scratch.look().contains("is damaged"), "{}", scratch.look());

    scratch.sums(&[(&packed, &packed_name), (&sum, &name)]);
    assert_eq!(scratch.look(), "ok");
    let leftovers = fs::read_dir(scratch.cache().join(UNPACKED)).unwrap();
    assert_eq!(leftovers.count(), 2, "only the archive and its checksum stay");

    // Cut the packed file short but list the checksum of what is left: zstd has to notice.
    let path = scratch.folder().join(&packed_name);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let cut = sum_of(&path, &scratch.cache()).unwrap();
    scratch.sums(&[(&cut, &packed_name)]);
    assert!(scratch.look().contains("cannot be unpacked"), "{}", scratch.look());
}

#[test]
fn an_interrupted_install_is_refused() {
    let scratch = Scratch::new("install");
    let name = name(MULTICAGE);
    scratch.archive(&name, 1);
    let part = scratch.folder().join(&name);
    let built = scratch.cache().join("built");
    let checked = install(&part, &built, MULTICAGE, &scratch.cache()).unwrap();
    assert!(
        matches!(look_into(&built, MULTICAGE, &scratch.cache()), Ok(Folder::Holds(it)) if it.sha256 == checked.sha256)
    );
    fs::remove_file(built.join(SUMS)).unwrap();
    assert!(look_into(&built, MULTICAGE, &scratch.cache()).is_err());
}
