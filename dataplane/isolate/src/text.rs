//! Reading strings and bytes out of the heap.

use crate::{scope::Scope, value::Value};

impl<'s> Scope<'s, '_> {
    /// The text of a string; lone surrogates become U+FFFD. `None` for anything but a string primitive.
    pub fn text(&mut self, value: Value<'s>) -> Option<String> {
        let string = v8::Local::<v8::String>::try_from(value.0).ok()?;
        let mut text = String::new();
        string.write_utf8_into(&mut self.0, &mut text);
        Some(text)
    }

    /// Appends the UTF-8 of a string; whether it was one. What it appends at most is three times the string's length.
    pub fn append_utf8(&mut self, value: Value<'s>, out: &mut Vec<u8>) -> bool {
        let Ok(string) = v8::Local::<v8::String>::try_from(value.0) else { return false };
        let view = v8::ValueView::new(&mut self.0, string);
        match view.data() {
            v8::ValueViewData::OneByte(bytes) if bytes.is_ascii() => out.extend_from_slice(bytes),
            v8::ValueViewData::OneByte(bytes) => {
                out.reserve(bytes.len() + bytes.len() / 2);
                for &byte in bytes {
                    push_char(out, char::from(byte));
                }
            }
            v8::ValueViewData::TwoByte(units) => {
                out.reserve(units.len() * 2);
                for unit in char::decode_utf16(units.iter().copied()) {
                    push_char(out, unit.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
            }
        }
        true
    }

    /// Appends the low bytes of a string's units: a byte string (Web IDL `ByteString`). Whether it was a string whose
    /// units all fit a byte.
    pub fn append_latin1(&mut self, value: Value<'s>, out: &mut Vec<u8>) -> bool {
        let Ok(string) = v8::Local::<v8::String>::try_from(value.0) else { return false };
        let view = v8::ValueView::new(&mut self.0, string);
        match view.data() {
            v8::ValueViewData::OneByte(bytes) => {
                out.extend_from_slice(bytes);
                true
            }
            v8::ValueViewData::TwoByte(units) => {
                let fits = units.iter().all(|&unit| unit < 256);
                if fits {
                    out.extend(units.iter().map(|&unit| unit as u8));
                }
                fits
            }
        }
    }

    /// The units of a string. `None` for anything but a string primitive.
    pub fn units(&mut self, value: Value<'s>) -> Option<Vec<u16>> {
        let string = v8::Local::<v8::String>::try_from(value.0).ok()?;
        let view = v8::ValueView::new(&mut self.0, string);
        Some(match view.data() {
            v8::ValueViewData::OneByte(bytes) => bytes.iter().map(|&byte| u16::from(byte)).collect(),
            v8::ValueViewData::TwoByte(units) => units.to_vec(),
        })
    }

    /// Length of a string in units; 0 for anything else.
    pub fn string_len(&self, value: Value<'s>) -> usize {
        v8::Local::<v8::String>::try_from(value.0).map_or(0, |string| string.length())
    }

    /// A copy of the bytes of a buffer or a view. `None` for anything else.
    pub fn bytes(&mut self, value: Value<'s>) -> Option<Vec<u8>> {
        self.with_bytes(value, <[u8]>::to_vec)
    }

    /// Looks at the bytes of a buffer or a view, in place where they are not on the heap. `read` cannot reach
    /// JavaScript, so nothing moves or detaches them meanwhile. `None` for anything else.
    pub fn with_bytes<R>(&mut self, value: Value<'s>, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if let Ok(view) = v8::Local::<v8::ArrayBufferView>::try_from(value.0) {
            let mut on_heap = [0u8; v8::TYPED_ARRAY_MAX_SIZE_IN_HEAP];
            return Some(read(view.get_contents(&mut on_heap)));
        }
        let (data, len) = if let Ok(buffer) = v8::Local::<v8::ArrayBuffer>::try_from(value.0) {
            (buffer.data(), buffer.byte_length())
        } else if let Ok(buffer) = v8::Local::<v8::SharedArrayBuffer>::try_from(value.0) {
            let store = buffer.get_backing_store();
            (store.data(), store.byte_length())
        } else {
            return None;
        };
        Some(match data {
            // SAFETY: a live buffer's memory; see the method's promise. Shared buffers are shared with nobody: an isolate
            // has one thread and no other has its buffers.
            Some(data) => read(unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), len) }),
            None => read(&[]),
        })
    }

    /// Writes into the bytes of a buffer or a view. `None` for anything else.
    pub fn with_bytes_mut<R>(&mut self, value: Value<'s>, write: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let (data, len) = if let Ok(view) = v8::Local::<v8::ArrayBufferView>::try_from(value.0) {
            // The buffer of a small array is on the heap until asked for; then it stays in place.
            view.buffer(&self.0)?;
            (view.data().cast::<u8>(), view.byte_length())
        } else {
            let buffer = v8::Local::<v8::ArrayBuffer>::try_from(value.0).ok()?;
            (buffer.data().map_or(std::ptr::null_mut(), |data| data.as_ptr().cast::<u8>()), buffer.byte_length())
        };
        if len == 0 || data.is_null() {
            return Some(write(&mut []));
        }
        // SAFETY: a live buffer's memory, off the heap; `write` cannot reach JavaScript, so nobody else touches it.
        Some(write(unsafe { std::slice::from_raw_parts_mut(data, len) }))
    }

    /// A `Uint8Array` that owns these bytes. `None` if they do not fit the isolate's memory.
    pub fn uint8_array(&mut self, bytes: Vec<u8>) -> Option<Value<'s>> {
        let len = bytes.len();
        let buffer = self.array_buffer_of(bytes)?;
        v8::Uint8Array::new(&self.0, buffer, 0, len).map(|array| Value(array.into()))
    }

    /// An `ArrayBuffer` that owns these bytes. `None` if they do not fit the isolate's memory.
    pub fn array_buffer(&mut self, bytes: Vec<u8>) -> Option<Value<'s>> {
        self.array_buffer_of(bytes).map(|buffer| Value(buffer.into()))
    }

    /// Bytes until the isolate's limit, as of the last collection.
    pub fn room(&self) -> usize {
        self.inner().memory.room()
    }

    /// Makes bytes that leave the heap count as the isolate's until they are dropped. `None` if they do not fit.
    pub fn counted(&self, bytes: Vec<u8>) -> Option<crate::CountedBytes> {
        crate::CountedBytes::new(&self.inner().memory, bytes)
    }

    fn array_buffer_of(&mut self, bytes: Vec<u8>) -> Option<v8::Local<'s, v8::ArrayBuffer>> {
        let store = crate::memory::adopt(&self.inner().memory, bytes)?.make_shared();
        Some(v8::ArrayBuffer::with_backing_store(&self.0, &store))
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
