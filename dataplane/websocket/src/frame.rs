//! Frames as they are written, and masks (RFC 6455 §5.2, §5.3).

use crate::close::CLOSE_REASON_BYTES_MAX;

/// Payload of a control frame, bytes (RFC 6455 §5.5).
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads masked frames, and masks none.
    Server,
    /// Masks its frames, and reads none that are.
    Client,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of a message.
    Continuation = 0,
    /// Text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Are you there?
    Ping = 9,
    /// I am.
    Pong = 10,
}

impl Opcode {
    pub(crate) fn of(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    pub(crate) fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }
}

/// The head of a frame, at most: two bytes, eight of length, four of mask.
pub const FRAME_HEAD_BYTES_MAX: usize = 14;

/// The head of a whole message in one frame.
pub struct FrameHead {
    bytes: [u8; FRAME_HEAD_BYTES_MAX],
    len: usize,
}

impl FrameHead {
    /// Of so many bytes of payload; with the mask of a client's.
    pub fn new(opcode: Opcode, payload: usize, mask: Option<[u8; 4]>) -> FrameHead {
        let mut bytes = [0; FRAME_HEAD_BYTES_MAX];
        bytes[0] = 0x80 | opcode as u8;
        let mut len = match payload {
            0..=125 => {
                bytes[1] = payload as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
                10
            }
        };
        if let Some(mask) = mask {
            bytes[1] |= 0x80;
            bytes[len..len + 4].copy_from_slice(&mask);
            len += 4;
        }
        FrameHead { bytes, len }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Appends a whole message, or a control frame, as one frame.
pub fn push_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    debug_assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX);
    let head = FrameHead::new(opcode, payload.len(), mask);
    out.reserve(head.len + payload.len());
    out.extend_from_slice(head.as_bytes());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

/// Appends a close frame; without a code it is empty, and the reason is dropped. A reason that is too long is cut between two
/// characters.
pub fn push_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str, mask: Option<[u8; 4]>) {
    let Some(code) = code else { return push_frame(out, Opcode::Close, &[], mask) };
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    push_frame(out, Opcode::Close, &payload[..2 + reason.len()], mask);
}

/// Puts a mask on, or takes it off.
pub(crate) fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u128::from_ne_bytes(std::array::from_fn(|at| mask[at % 4]));
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        *chunk = (u128::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (at, byte) in rest.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
}

/// The mask as it is after so many bytes.
pub(crate) fn turned(mask: [u8; 4], by: usize) -> [u8; 4] {
    std::array::from_fn(|at| mask[(at + by) % 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_few_bytes_as_they_need() {
        let check = |payload: usize, head: &[u8]| {
            assert_eq!(FrameHead::new(Opcode::Binary, payload, None).as_bytes(), head, "{payload}");
        };
        check(0, &[0x82, 0]);
        check(125, &[0x82, 125]);
        check(126, &[0x82, 126, 0, 126]);
        check(65_535, &[0x82, 126, 255, 255]);
        check(65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        let masked = FrameHead::new(Opcode::Text, 1, Some([1, 2, 3, 4]));
        assert_eq!(masked.as_bytes(), [0x81, 0x81, 1, 2, 3, 4]);
    }

    #[test]
    fn masks_go_on_and_come_off_from_any_place() {
        let plain: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for len in [0, 1, 3, 4, 15, 16, 17, 31, 100, 1000] {
            let mut bytes = plain[..len].to_vec();
            apply_mask(&mut bytes, [9, 8, 7, 6]);
            assert!(bytes.iter().zip(&plain).enumerate().all(|(at, (a, b))| a ^ b == [9, 8, 7, 6][at % 4]));
            let cut = len / 3;
            let (left, right) = bytes.split_at_mut(cut);
            apply_mask(left, [9, 8, 7, 6]);
            apply_mask(right, turned([9, 8, 7, 6], cut));
            assert_eq!(bytes, plain[..len]);
        }
    }

    #[test]
    fn a_close_frame_fits_whatever_its_reason() {
        let mut out = Vec::new();
        push_close(&mut out, Some(1000), &"é".repeat(100), None);
        assert_eq!((out.len(), &out[..4]), (2 + 124, &[0x88, 124, 3, 232][..]));
        assert!(std::str::from_utf8(&out[4..]).is_ok());
        out.clear();
        push_close(&mut out, None, "lost", None);
        assert_eq!(out, [0x88, 0]);
    }
}
