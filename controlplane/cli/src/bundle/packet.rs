//! The packets that esbuild's service speaks over stdin and stdout: length, id, and one value of a small binary JSON.
//!
//! Pure codec. All integers are 32 bits, little endian. *Invariant:* bytes that are no packet give `None`, never a panic; nesting is at
//! most [`DEPTH_MAX`] and a claimed count allocates nothing before its items are there.

use std::collections::BTreeMap;

/// Nesting of a value; esbuild's own are five deep.
const DEPTH_MAX: u32 = 32;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(u32),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

/// One packet. An answer has the id of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) id: u32,
    pub(super) is_request: bool,
    pub(super) value: Value,
}

impl Value {
    /// A map of these entries.
    pub(super) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The entry of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The entry of a map as text; empty if it is none.
    pub(super) fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The entry of a map as a number.
    pub(super) fn int(&self, key: &str) -> Option<u32> {
        match self.get(key) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The entry of a map as a list; empty if it is none.
    pub(super) fn list(&self, key: &str) -> &[Value] {
        match self.get(key) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

/// A packet with its length before it.
pub(super) fn encode(packet: &Packet) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_u32(&mut out, packet.id << 1 | u32::from(!packet.is_request));
    put(&mut out, &packet.value);
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

/// A packet without its length.
pub(super) fn decode(bytes: &[u8]) -> Option<Packet> {
    let mut reader = Reader(bytes);
    let id = reader.u32()?;
    let value = reader.value(0)?;
    reader.0.is_empty().then_some(Packet { id: id >> 1, is_request: id & 1 == 0, value })
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(yes) => out.extend_from_slice(&[1, u8::from(*yes)]),
        Value::Int(number) => {
            out.push(2);
            put_u32(out, *number);
        }
        Value::Text(text) => {
            out.push(3);
            put_bytes(out, text.as_bytes());
        }
        Value::Bytes(bytes) => {
            out.push(4);
            put_bytes(out, bytes);
        }
        Value::List(items) => {
            out.push(5);
            put_u32(out, items.len() as u32);
            items.iter().for_each(|item| put(out, item));
        }
        Value::Map(entries) => {
            out.push(6);
            put_u32(out, entries.len() as u32);
            for (key, value) in entries {
                put_bytes(out, key.as_bytes());
                put(out, value);
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn value(&mut self, depth: u32) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match self.take(1)?[0] {
            0 => Value::Null,
            1 => Value::Bool(self.take(1)?[0] != 0),
            2 => Value::Int(self.u32()?),
            3 => Value::Text(self.text()?),
            4 => Value::Bytes(self.bytes()?.to_vec()),
            5 => {
                let mut items = Vec::new();
                for _ in 0..self.u32()? {
                    items.push(self.value(depth + 1)?);
                }
                Value::List(items)
            }
            6 => {
                let mut entries = BTreeMap::new();
                for _ in 0..self.u32()? {
                    let key = self.text()?;
                    entries.insert(key, self.value(depth + 1)?);
                }
                Value::Map(entries)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Packet {
        let list = Value::List(vec![Value::Null, Value::Bool(true), Value::Int(u32::MAX), Value::Bytes(vec![0, 255])]);
        Packet { id: 7, is_request: true, value: Value::map([("list", list), ("text", "ü".into())]) }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for is_request in [true, false] {
            let packet = Packet { is_request, ..sample() };
            let bytes = encode(&packet);
            assert_eq!(bytes[..4], ((bytes.len() - 4) as u32).to_le_bytes());
            assert_eq!(decode(&bytes[4..]), Some(packet));
        }
    }

    #[test]
    fn the_bytes_are_esbuilds() {
        // As esbuild's own library writes { id: 1, isRequest: false, value: { a: 2 } }.
        let expect = [19, 0, 0, 0, 3, 0, 0, 0, 6, 1, 0, 0, 0, 1, 0, 0, 0, b'a', 2, 2, 0, 0, 0];
        let packet = Packet { id: 1, is_request: false, value: Value::map([("a", Value::Int(2))]) };
        assert_eq!(encode(&packet), expect);
    }

    #[test]
    fn cut_and_changed_bytes_are_no_packets() {
        let bytes = &encode(&sample())[4..];
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(decode(&[bytes, &[0]].concat()), None);
        assert_eq!(decode(&[0, 0, 0, 0, 9]), None, "no such kind");
        let mut deep = vec![0; 4];
        for _ in 0..10_000 {
            deep.extend_from_slice(&[5, 1, 0, 0, 0]);
        }
        assert_eq!(decode(&deep), None);
        assert_eq!(decode(&[0, 0, 0, 0, 5, 255, 255, 255, 255]), None, "a count without items");
    }
}
