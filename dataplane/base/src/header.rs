//! `HeaderBlock`: the fields of one HTTP message in one allocation for the bytes and one for their places, so that a
//! request's fields travel from the parser to JavaScript, and a response's back, without an allocation per field.

/// A list of header fields in wire order; names keep the case they came with.
///
/// Holds bytes, not text: a value may carry obs-text (RFC 9110 §5.5). Its size is bounded by whoever fills it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// A field's place: `name` bytes from `start`, and right after them `value` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    name: u32,
    value: u32,
}

impl HeaderBlock {
    /// An empty block.
    pub fn new() -> HeaderBlock {
        HeaderBlock::default()
    }

    /// An empty block with room for `fields` fields of `bytes` bytes together.
    pub fn with_capacity(fields: usize, bytes: usize) -> HeaderBlock {
        HeaderBlock { bytes: Vec::with_capacity(bytes), spans: Vec::with_capacity(fields) }
    }

    /// Appends a field. Panics past 4 GiB, which every caller's limit is far below.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = u32::try_from(self.bytes.len()).expect("header block below 4 GiB");
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { start, name: name.len() as u32, value: value.len() as u32 });
    }

    /// Fields in order, as (name, value).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| {
            let name_end = span.start as usize + span.name as usize;
            (&self.bytes[span.start as usize..name_end], &self.bytes[name_end..name_end + span.value as usize])
        })
    }

    /// The first field of that name (ASCII case-insensitive).
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all fields and keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for HeaderBlock {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(fields: I) -> HeaderBlock {
        let mut block = HeaderBlock::new();
        for (name, value) in fields {
            block.push(name, value);
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_case_and_repeats() {
        let mut block = HeaderBlock::new();
        block.push(b"Set-Cookie", b"a=1");
        block.push(b"X-Empty", b"");
        block.push(b"set-cookie", b"b=2");
        let fields: Vec<_> = block.iter().collect();
        assert_eq!(fields, [(&b"Set-Cookie"[..], &b"a=1"[..]), (b"X-Empty", b""), (b"set-cookie", b"b=2")]);
        assert_eq!(block.get(b"SET-COOKIE"), Some(&b"a=1"[..]));
        assert_eq!(block.get(b"x-none"), None);
        block.clear();
        assert!(block.is_empty() && block.bytes_len() == 0);
    }
}
