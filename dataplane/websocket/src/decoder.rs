//! Frames as they are read: bytes in any pieces, whole messages and control frames out.

use crate::close::is_close_code;
use crate::frame::{FRAME_HEAD_BYTES_MAX, Opcode, Role, apply_mask, turned};
use crate::{Breach, CloseCode};

/// Memory that is set aside for a message before its bytes are here.
const RESERVE_BYTES_MAX: usize = 64 * base::limits::KIB;

/// What a peer has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message of text: UTF-8, checked.
    Text(Vec<u8>),
    /// A message of bytes.
    Binary(Vec<u8>),
    /// To be answered by a pong with the same bytes.
    Ping(Vec<u8>),
    /// The answer to a ping, or unasked for.
    Pong(Vec<u8>),
    /// The end; what follows it is ignored. The code is missing where the peer gave none.
    Close {
        /// Status code.
        code: Option<u16>,
        /// Reason.
        reason: String,
    },
}

/// The frame whose payload is being read.
#[derive(Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    left: u64,
    /// As of the next byte; all zero in what a server sends.
    mask: [u8; 4],
}

/// Reads one direction of a connection.
pub struct Decoder {
    role: Role,
    /// Nothing after a close frame counts.
    closed: bool,
    head_len: u8,
    head: [u8; FRAME_HEAD_BYTES_MAX],
    frame: Option<Frame>,
    /// What the message that has begun is.
    kind: Option<Opcode>,
    message: Vec<u8>,
    /// Bytes of a text that are known to be whole characters.
    valid: usize,
    control: Vec<u8>,
    message_bytes_max: usize,
}

const fn protocol(text: &'static str) -> Breach {
    Breach { code: CloseCode::Protocol, text }
}

const NOT_UTF8: Breach = Breach { code: CloseCode::NotUtf8, text: "text is not UTF-8" };
const TOO_LARGE: Breach = Breach { code: CloseCode::TooLarge, text: "a message is too large" };

impl Decoder {
    /// For what comes to this end of a connection.
    pub fn new(role: Role, message_bytes_max: usize) -> Decoder {
        Decoder {
            role,
            closed: false,
            head_len: 0,
            head: [0; FRAME_HEAD_BYTES_MAX],
            frame: None,
            kind: None,
            message: Vec::new(),
            valid: 0,
            control: Vec::new(),
            message_bytes_max,
        }
    }

    /// Bytes that it holds of a message which is not complete.
    pub fn held(&self) -> usize {
        self.message.capacity()
    }

    /// Takes from the front of `input` up to the end of the next message or control frame; `None` where it takes all, and there is
    /// none yet. After a breach it is not to be called again.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Breach> {
        loop {
            if self.closed {
                *input = &[];
                return Ok(None);
            }
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_head(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            if let Some(incoming) = self.read_payload(frame, input)? {
                return Ok(Some(incoming));
            }
            if self.frame.is_some() {
                return Ok(None);
            }
        }
    }

    /// The head of the next frame, once all of it is here. What is wrong with it is known as soon as its first bytes are.
    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Breach> {
        if !self.take_head(input, 2) {
            return Ok(None);
        }
        let [first, second, ..] = self.head;
        let short = second & 0x7f;
        let opcode = self.check_head(first, second)?;
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = self.role == Role::Server;
        if !self.take_head(input, 2 + extended + if masked { 4 } else { 0 }) {
            return Ok(None);
        }
        let length = match extended {
            0 => u64::from(short),
            2 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            _ => u64::from_be_bytes(std::array::from_fn(|at| self.head[2 + at])),
        };
        match extended {
            2 if length < 126 => return Err(protocol("a length takes more bytes than it needs")),
            8 if length <= 0xffff => return Err(protocol("a length takes more bytes than it needs")),
            8 if length >> 63 != 0 => return Err(protocol("a length has its highest bit set")),
            _ => {}
        }
        let mask = if masked { std::array::from_fn(|at| self.head[2 + extended + at]) } else { [0; 4] };
        self.head_len = 0;
        let frame = Frame { opcode, fin: first & 0x80 != 0, left: length, mask };
        self.begin(frame)?;
        Ok(Some(frame))
    }

    /// Whether the first `want` bytes of the head are here.
    fn take_head(&mut self, input: &mut &[u8], want: usize) -> bool {
        let have = usize::from(self.head_len);
        if have >= want {
            return true;
        }
        let take = (want - have).min(input.len());
        let (now, rest) = input.split_at(take);
        self.head[have..have + take].copy_from_slice(now);
        *input = rest;
        self.head_len = (have + take) as u8;
        have + take == want
    }

    fn check_head(&self, first: u8, second: u8) -> Result<Opcode, Breach> {
        if first & 0x70 != 0 {
            return Err(protocol("a reserved bit is set"));
        }
        let opcode = Opcode::of(first & 0x0f).ok_or(protocol("an unknown opcode"))?;
        if opcode.is_control() && (first & 0x80 == 0 || second & 0x7f > 125) {
            return Err(protocol("a control frame is fragmented or too long"));
        }
        match (self.role, second & 0x80 != 0) {
            (Role::Server, false) => return Err(protocol("a client's frame is not masked")),
            (Role::Client, true) => return Err(protocol("a server's frame is masked")),
            _ => {}
        }
        match (opcode, self.kind) {
            (Opcode::Continuation, None) => Err(protocol("a continuation of nothing")),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(protocol("a message begins within another")),
            _ => Ok(opcode),
        }
    }

    fn begin(&mut self, frame: Frame) -> Result<(), Breach> {
        if frame.opcode.is_control() {
            return Ok(());
        }
        if frame.opcode != Opcode::Continuation {
            self.kind = Some(frame.opcode);
            self.valid = 0;
        }
        let room = self.message_bytes_max - self.message.len();
        let length = usize::try_from(frame.left).ok().filter(|length| *length <= room).ok_or(TOO_LARGE)?;
        if self.message.is_empty() {
            self.message.reserve_exact(length.min(RESERVE_BYTES_MAX));
        }
        Ok(())
    }

    /// Takes what is here of a frame's payload. The message, if this was its end.
    fn read_payload(&mut self, mut frame: Frame, input: &mut &[u8]) -> Result<Option<Incoming>, Breach> {
        let take = frame.left.min(input.len() as u64) as usize;
        let (now, rest) = input.split_at(take);
        *input = rest;
        let into = if frame.opcode.is_control() { &mut self.control } else { &mut self.message };
        let start = into.len();
        into.extend_from_slice(now);
        if self.role == Role::Server {
            apply_mask(&mut into[start..], frame.mask);
            frame.mask = turned(frame.mask, take);
        }
        frame.left -= take as u64;
        let ended = frame.left == 0;
        self.frame = (!ended).then_some(frame);
        if frame.opcode.is_control() {
            return if ended { self.end_control(frame.opcode).map(Some) } else { Ok(None) };
        }
        let complete = ended && frame.fin;
        if self.kind == Some(Opcode::Text) {
            self.check_text(complete)?;
        }
        if !complete {
            return Ok(None);
        }
        let message = std::mem::take(&mut self.message);
        Ok(Some(match self.kind.take() {
            Some(Opcode::Text) => Incoming::Text(message),
            _ => Incoming::Binary(message),
        }))
    }

    /// A character may be cut by a frame's end, or by what has come so far, but not by the message's end.
    fn check_text(&mut self, complete: bool) -> Result<(), Breach> {
        match std::str::from_utf8(&self.message[self.valid..]) {
            Ok(_) => self.valid = self.message.len(),
            Err(error) if error.error_len().is_none() && !complete => self.valid += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }

    fn end_control(&mut self, opcode: Opcode) -> Result<Incoming, Breach> {
        let payload = std::mem::take(&mut self.control);
        match opcode {
            Opcode::Ping => Ok(Incoming::Ping(payload)),
            Opcode::Pong => Ok(Incoming::Pong(payload)),
            _ => {
                self.closed = true;
                read_close(&payload)
            }
        }
    }
}

fn read_close(payload: &[u8]) -> Result<Incoming, Breach> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Incoming::Close { code: None, reason: String::new() }),
            _ => Err(protocol("half of a close code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(protocol("an invalid close code"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| NOT_UTF8)?;
    Ok(Incoming::Close { code: Some(code), reason: reason.to_owned() })
}
