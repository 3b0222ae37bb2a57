//! The package: a Worker that is more than one module, or that needs to be told apart, as one artifact.
//!
//! A Worker of one module and no features is that module, byte for byte. Any other is a package: [`MAGIC`], which begins no text, the number
//! of parts, a head for each (kind, bytes of its name, bytes), then each part's name and bytes. Numbers are little-endian
//! 32-bit words. The first part is the main module. *Invariant:* bytes from outside give an error, never a panic. *Bounds:*
//! [`PARTS_MAX`], [`NAME_BYTES_MAX`]; the whole is bounded by `limits::MODULE_BYTES_MAX`.

/// First bytes of a package: not UTF-8.
pub const MAGIC: [u8; 8] = *b"\xffselpkg1";
/// Parts of one package, features included.
pub const PARTS_MAX: usize = 512;
/// A part's name, bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// What a part is to whoever imports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartKind {
    /// An ES module, UTF-8.
    Code,
    /// A string.
    Text,
    /// An `ArrayBuffer`.
    Data,
    /// A value, parsed.
    Json,
    /// A `WebAssembly.Module`.
    Wasm,
    /// No module: a behaviour that the Worker asks for, by its name.
    Feature,
}

impl PartKind {
    const ALL: [PartKind; 6] =
        [PartKind::Code, PartKind::Text, PartKind::Data, PartKind::Json, PartKind::Wasm, PartKind::Feature];

    /// What a part of an upload with this content type is; parameters are ignored.
    pub fn of_content_type(content_type: &str) -> Option<PartKind> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        Some(match () {
            () if is("application/javascript+module") => PartKind::Code,
            () if is("application/wasm") => PartKind::Wasm,
            () if is("application/octet-stream") => PartKind::Data,
            () if is("application/json") => PartKind::Json,
            () if is("text/plain") => PartKind::Text,
            () => return None,
        })
    }

    /// The content type of such a part in an upload.
    pub fn content_type(self) -> &'static str {
        match self {
            PartKind::Code => "application/javascript+module",
            PartKind::Wasm => "application/wasm",
            PartKind::Data | PartKind::Feature => "application/octet-stream",
            PartKind::Json => "application/json",
            PartKind::Text => "text/plain",
        }
    }
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it is.
    pub kind: PartKind,
    /// What imports call it, relative to the main module's folder: `lib/x.wasm`.
    pub name: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// An artifact that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package<'a> {
    /// The main module.
    pub main: &'a [u8],
    /// Modules beside it.
    pub parts: Vec<Part<'a>>,
    /// Names of features.
    pub features: Vec<&'a str>,
}

/// Bytes that begin as a package and are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenPackage;

impl<'a> Package<'a> {
    /// Opens an artifact.
    pub fn open(artifact: &'a [u8]) -> Result<Package<'a>, BrokenPackage> {
        match artifact.strip_prefix(&MAGIC) {
            None => Ok(Package { main: artifact, parts: Vec::new(), features: Vec::new() }),
            Some(rest) => parse(rest).ok_or(BrokenPackage),
        }
    }

    /// The artifact: the main module itself where there is nothing else.
    pub fn pack(&self) -> Vec<u8> {
        if self.parts.is_empty() && self.features.is_empty() && !self.main.starts_with(&MAGIC) {
            return self.main.to_vec();
        }
        let main = Part { kind: PartKind::Code, name: "", bytes: self.main };
        let features = self.features.iter().map(|name| Part { kind: PartKind::Feature, name, bytes: b"" });
        let all: Vec<Part<'_>> = [main].into_iter().chain(self.parts.iter().copied()).chain(features).collect();
        let mut out = MAGIC.to_vec();
        let word = |out: &mut Vec<u8>, number: usize| out.extend_from_slice(&(number as u32).to_le_bytes());
        word(&mut out, all.len());
        for part in &all {
            let kind = PartKind::ALL.iter().position(|kind| *kind == part.kind).unwrap_or_default();
            [kind, part.name.len(), part.bytes.len()].into_iter().for_each(|number| word(&mut out, number));
        }
        for part in &all {
            out.extend_from_slice(part.name.as_bytes());
            out.extend_from_slice(part.bytes);
        }
        out
    }
}

fn parse(mut rest: &[u8]) -> Option<Package<'_>> {
    let count = word(&mut rest).filter(|count| (1..=PARTS_MAX).contains(count))?;
    let mut heads = Vec::with_capacity(count);
    for _ in 0..count {
        heads.push((*PartKind::ALL.get(word(&mut rest)?)?, word(&mut rest)?, word(&mut rest)?));
    }
    let mut package = Package { main: b"", parts: Vec::new(), features: Vec::new() };
    for (index, (kind, name_bytes, bytes)) in heads.into_iter().enumerate() {
        let (name, after) = rest.split_at_checked(name_bytes).filter(|_| name_bytes <= NAME_BYTES_MAX)?;
        let (bytes, after) = after.split_at_checked(bytes)?;
        let name = std::str::from_utf8(name).ok()?;
        match (index, kind) {
            (0, PartKind::Code) => package.main = bytes,
            (0, _) => return None,
            (_, PartKind::Feature) => package.features.push(name),
            (_, kind) => package.parts.push(Part { kind, name, bytes }),
        }
        rest = after;
    }
    rest.is_empty().then_some(package)
}

fn word(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

/// The name of the part that an import in the module `referrer` means: `./` and `../` are of the referrer's folder, any other
/// specifier is a name itself. `None`: it leads out of the package.
pub fn resolve(specifier: &str, referrer: &str) -> Option<String> {
    if !specifier.starts_with("./") && !specifier.starts_with("../") {
        return Some(specifier.to_owned());
    }
    let mut segments: Vec<&str> = referrer.split('/').collect();
    segments.pop();
    for segment in specifier.split('/') {
        match segment {
            "." | "" => {}
            ".." => {
                segments.pop()?;
            }
            name => segments.push(name),
        }
    }
    Some(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> Package<'static> {
        let part = |kind, name, bytes| Part { kind, name, bytes };
        let parts = vec![part(PartKind::Text, "a.txt", b"\xc3\xbc" as &[u8]), part(PartKind::Wasm, "b/c.wasm", b"")];
        Package { main: b"export default {}", parts, features: vec!["nodejs_compat"] }
    }

    #[test]
    fn what_is_packed_opens_and_a_module_alone_is_itself() {
        let packed = package().pack();
        assert_eq!(Package::open(&packed), Ok(package()));
        let alone = Package { main: b"x", parts: vec![], features: vec![] };
        assert_eq!(alone.pack(), b"x");
        assert_eq!(Package::open(b"x"), Ok(alone));
        let odd = Package { main: &MAGIC, parts: vec![], features: vec![] };
        assert_eq!(Package::open(&odd.pack()), Ok(odd), "a module that looks like a package is wrapped");
    }

    #[test]
    fn no_cut_and_no_changed_byte_of_the_heads_panics() {
        let packed = package().pack();
        for end in MAGIC.len()..packed.len() {
            assert_eq!(Package::open(&packed[..end]), Err(BrokenPackage), "cut at {end}");
        }
        for at in MAGIC.len()..packed.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = packed.clone();
                changed[at] = value;
                let _ = Package::open(&changed);
            }
        }
        let mut longer = packed;
        longer.push(0);
        assert_eq!(Package::open(&longer), Err(BrokenPackage));
    }

    #[test]
    fn specifiers_are_resolved_within_the_package() {
        let check = |specifier, referrer, name: Option<&str>| assert_eq!(resolve(specifier, referrer).as_deref(), name);
        check("./a.wasm", "worker.js", Some("a.wasm"));
        check("../b.txt", "lib/x.js", Some("b.txt"));
        check("./y.js", "lib/x.js", Some("lib/y.js"));
        check("../../b.txt", "lib/x.js", None);
        check("pkg/z.js", "lib/x.js", Some("pkg/z.js"));
    }

    #[test]
    fn kinds_come_from_content_types() {
        for kind in PartKind::ALL.into_iter().filter(|kind| *kind != PartKind::Feature) {
            assert_eq!(PartKind::of_content_type(kind.content_type()), Some(kind));
        }
        assert_eq!(PartKind::of_content_type("Text/Plain; charset=utf-8"), Some(PartKind::Text));
        assert_eq!(PartKind::of_content_type("image/png"), None);
    }
}
