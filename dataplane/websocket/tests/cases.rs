//! Cases in the manner of the Autobahn test suite (its numbers in the names), each at every split of its bytes: what a server makes of
//! a client's frames.

use websocket::{Breach, CloseCode, Decoder, Incoming, Opcode, Role, push_close, push_frame};

const MAX: usize = 1 << 20;

/// A frame of a client, with what is wrong with it.
#[derive(Clone)]
struct Sent {
    first: u8,
    masked: bool,
    /// Takes the place of the length's encoding.
    length: Option<Vec<u8>>,
    payload: Vec<u8>,
}

fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Sent {
    Sent { first: u8::from(fin) << 7 | opcode, masked: true, length: None, payload: payload.to_vec() }
}

fn text(payload: &str) -> Sent {
    frame(true, 1, payload.as_bytes())
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let length = self.length.clone().unwrap_or_else(|| match self.payload.len() {
            len @ 0..=125 => vec![len as u8],
            len @ 126..=65_535 => [&[126][..], &(len as u16).to_be_bytes()].concat(),
            len => [&[127][..], &(len as u64).to_be_bytes()].concat(),
        });
        let mut bytes = vec![self.first];
        bytes.extend(length);
        if self.masked {
            bytes[1] |= 0x80;
            bytes.extend(mask);
            bytes.extend(self.payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

/// What comes of bytes that arrive in pieces of `step`.
fn read(bytes: &[u8], step: usize, max: usize) -> (Vec<Incoming>, Option<Breach>) {
    let mut decoder = Decoder::new(Role::Server, max);
    let mut got = Vec::new();
    for mut piece in bytes.chunks(step) {
        while !piece.is_empty() {
            match decoder.next(&mut piece) {
                Ok(incoming) => got.extend(incoming),
                Err(breach) => return (got, Some(breach)),
            }
        }
    }
    (got, None)
}

/// The messages, in short, then the code of the breach if there is one.
fn told((got, breach): &(Vec<Incoming>, Option<Breach>)) -> String {
    let mut told: Vec<String> = got
        .iter()
        .map(|incoming| match incoming {
            Incoming::Text(text) if text.len() > 20 => format!("text {} bytes", text.len()),
            Incoming::Text(text) => format!("text {}", std::str::from_utf8(text).expect("checked")),
            Incoming::Binary(bytes) => format!("binary {} bytes", bytes.len()),
            Incoming::Ping(bytes) => format!("ping {}", bytes.len()),
            Incoming::Pong(bytes) => format!("pong {}", bytes.len()),
            Incoming::Close { code, reason } => format!("close {code:?} {reason}"),
        })
        .collect();
    told.extend(breach.map(|breach| format!("breach {}", breach.code as u16)));
    told.join("; ")
}

fn check(name: &str, frames: &[Sent], expect: &str) {
    let bytes: Vec<u8> = frames.iter().flat_map(Sent::bytes).collect();
    let whole = read(&bytes, bytes.len().max(1), MAX);
    assert_eq!(told(&whole), expect, "{name}");
    let steps = if bytes.len() > 4_000 { vec![1_000, 3_001] } else { vec![1, 2, 3, 5, 7, 64] };
    for step in steps {
        assert_eq!(read(&bytes, step, MAX), whole, "{name}, in pieces of {step}");
    }
}

#[test]
fn framing_1() {
    for (number, len) in [0, 125, 126, 127, 128, 65_535, 65_536].into_iter().enumerate() {
        let payload = "*".repeat(len);
        let told = if len == 0 { "text ".to_owned() } else { format!("text {len} bytes") };
        check(&format!("1.1.{}", number + 1), &[text(&payload)], &told);
        check(&format!("1.2.{}", number + 1), &[frame(true, 2, payload.as_bytes())], &format!("binary {len} bytes"));
    }
}

#[test]
fn pings_and_pongs_2() {
    check("2.1", &[frame(true, 9, b"")], "ping 0");
    check("2.2", &[frame(true, 9, b"Hello")], "ping 5");
    check("2.4", &[frame(true, 9, &[0xfe; 125])], "ping 125");
    check("2.5", &[frame(true, 9, &[0xfe; 126])], "breach 1002");
    check("2.7", &[frame(true, 10, b"")], "pong 0");
    check("2.8", &[frame(true, 10, b"unasked")], "pong 7");
    check("2.9", &[frame(true, 10, b"unasked"), frame(true, 9, b"x")], "pong 7; ping 1");
    let many: Vec<Sent> = (0..10).map(|_| frame(true, 9, b"p")).collect();
    check("2.10", &many, &["ping 1"; 10].join("; "));
}

#[test]
fn reserved_bits_3() {
    for bits in 1..8u8 {
        let bad = |opcode: u8| Sent { first: 0x80 | bits << 4 | opcode, ..text("Hello") };
        check(&format!("3.{bits}"), &[text("before"), bad(1), text("after")], "text before; breach 1002");
        for opcode in [2, 8, 9, 10] {
            check(&format!("3.{bits} opcode {opcode}"), &[bad(opcode)], "breach 1002");
        }
    }
}

#[test]
fn opcodes_4() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"x"] {
            check(
                &format!("4 opcode {opcode}"),
                &[text("a"), frame(true, opcode, payload), text("b")],
                "text a; breach 1002",
            );
        }
    }
}

#[test]
fn fragments_5() {
    let (first, last) = (frame(false, 1, b"frag"), frame(true, 0, b"ment"));
    check("5.1", &[frame(false, 9, b"ping"), frame(true, 0, b"")], "breach 1002");
    check("5.2", &[frame(false, 10, b"pong"), frame(true, 0, b"")], "breach 1002");
    check("5.3", &[first.clone(), last.clone()], "text fragment");
    check("5.6", &[first.clone(), frame(true, 9, b"in"), last.clone()], "ping 2; text fragment");
    check("5.9", &[frame(true, 0, b"nothing"), text("x")], "breach 1002");
    check("5.10", &[frame(false, 0, b"nothing"), text("x")], "breach 1002");
    check("5.12", &[frame(false, 0, b""), frame(true, 0, b"")], "breach 1002");
    check("5.15", &[first.clone(), last.clone(), frame(false, 0, b"x")], "text fragment; breach 1002");
    check("5.18", &[first.clone(), frame(true, 1, b"again")], "breach 1002");
    let five = [
        first.clone(),
        frame(false, 0, b"1"),
        frame(true, 9, b"a"),
        frame(false, 0, b"2"),
        frame(true, 9, b"b"),
        frame(true, 10, b"c"),
        frame(true, 0, b"3"),
    ];
    check("5.19", &five, "ping 1; ping 1; pong 1; text frag123");
    check("5, bytes", &[frame(false, 2, &[0xff; 3]), frame(false, 0, b""), frame(true, 0, &[0xff])], "binary 4 bytes");
    check("5, closed within", &[first, frame(true, 8, b""), last], "close None ");
}

#[test]
fn utf_8_6() {
    let valid = [
        "Hello-µ@ßöäüàá",
        "κόσμε",
        "\u{10ffff}",
        "\u{0}",
        "\u{7ff}\u{800}\u{ffff}\u{10000}",
        "\u{d7ff}\u{e000}",
        "\u{fffd}",
    ];
    for (number, payload) in valid.into_iter().enumerate() {
        let told = if payload.len() > 20 { format!("text {} bytes", payload.len()) } else { format!("text {payload}") };
        check(&format!("6 valid {number}"), &[text(payload)], &told);
        // Each byte in a frame of its own: characters are cut by frames.
        let count = payload.len();
        let bytes = payload.as_bytes().iter().enumerate();
        let cut: Vec<Sent> = bytes.map(|(at, byte)| frame(at + 1 == count, u8::from(at == 0), &[*byte])).collect();
        check(&format!("6 valid {number}, cut"), &cut, &told);
    }
    let invalid: [&[u8]; 24] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\x80",
        b"\xbf",
        b"\x80\xbf\x80",
        b"\xc0 ",
        b"\xe0 ",
        b"\xf0 ",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xfe",
        b"\xff",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xf4\x90\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xad\xbf\xed\xb0\x80",
        b"a\xf0\x9f\x98",
    ];
    for (number, payload) in invalid.into_iter().enumerate() {
        check(&format!("6 invalid {number}"), &[frame(true, 1, payload)], "breach 1007");
        let cut = payload.len() / 2;
        let frames = [frame(false, 1, &payload[..cut]), frame(true, 9, b"x"), frame(true, 0, &payload[cut..])];
        let bytes: Vec<u8> = frames.iter().flat_map(Sent::bytes).collect();
        let whole = read(&bytes, bytes.len(), MAX);
        assert_eq!(whole.1.map(|breach| breach.code), Some(CloseCode::NotUtf8), "6 invalid {number}, cut");
    }
}

/// 6.4: bytes that no character begins with are told of before the message is complete.
#[test]
fn bad_text_fails_at_once() {
    let first = frame(false, 1, "κόσμε".as_bytes()).bytes();
    let second = frame(false, 0, b"\xf4\x90").bytes();
    let mut decoder = Decoder::new(Role::Server, MAX);
    assert_eq!(decoder.next(&mut &first[..]), Ok(None));
    let breach = decoder.next(&mut &second[..]).expect_err("the second frame is no text");
    assert_eq!(breach.code, CloseCode::NotUtf8);
}

#[test]
fn closing_7() {
    let close = |payload: &[u8]| frame(true, 8, payload);
    check("7.1.1", &[text("a"), close(b"\x03\xe8")], "text a; close Some(1000) ");
    check("7.1.2", &[close(b"\x03\xe8"), close(b"\x03\xe8")], "close Some(1000) ");
    check("7.1.3", &[close(b"\x03\xe8"), frame(true, 9, b"")], "close Some(1000) ");
    check("7.1.4", &[close(b"\x03\xe8"), text("late")], "close Some(1000) ");
    check("7.3.1", &[close(b"")], "close None ");
    check("7.3.2", &[close(b"a")], "breach 1002");
    check("7.3.4", &[close(b"\x03\xe8Hello")], "close Some(1000) Hello");
    check(
        "7.3.5",
        &[close(&[b"\x03\xe8", &[b'*'; 123][..]].concat())],
        &format!("close Some(1000) {}", "*".repeat(123)),
    );
    check("7.3.6", &[close(&[b"\x03\xe8", &[b'*'; 124][..]].concat())], "breach 1002");
    check("7.5.1", &[close(b"\x03\xe8\xce\xba\xe1\xbd\xb9\xed\xa0\x80")], "breach 1007");
    for code in [1000u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        check(&format!("7.7 {code}"), &[close(&code.to_be_bytes())], &format!("close Some({code}) "));
    }
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check(&format!("7.9 {code}"), &[close(&code.to_be_bytes())], "breach 1002");
    }
}

#[test]
fn masks_and_lengths() {
    check("not masked", &[Sent { masked: false, ..text("Hello") }], "breach 1002");
    check("an empty frame, not masked", &[Sent { masked: false, ..text("") }], "breach 1002");
    for (name, length) in [
        ("two bytes for one", vec![126, 0, 5]),
        ("eight bytes for one", vec![127, 0, 0, 0, 0, 0, 0, 0, 5]),
        ("eight bytes for two", vec![127, 0, 0, 0, 0, 0, 0, 255, 255]),
        ("the highest bit", vec![127, 0x80, 0, 0, 0, 0, 0, 0, 5]),
    ] {
        check(name, &[Sent { length: Some(length), ..text("Hello") }], "breach 1002");
    }
}

#[test]
fn large_messages_9() {
    check("9, as much as may be", &[frame(true, 2, &vec![7; MAX])], &format!("binary {MAX} bytes"));
    check("9, one too many", &[frame(true, 2, &vec![7; MAX + 1])], "breach 1009");
    let halves = [frame(false, 2, &vec![7; MAX / 2]), frame(true, 0, &vec![7; MAX / 2])];
    check("9, in two", &halves, &format!("binary {MAX} bytes"));
    let over = [frame(false, 2, &vec![7; MAX / 2]), frame(true, 0, &vec![7; MAX / 2 + 1])];
    check("9, in two, one too many", &over, "breach 1009");
}

/// A claim alone costs the claimant, not us.
#[test]
fn a_claimed_length_takes_no_memory() {
    let mut decoder = Decoder::new(Role::Server, 32 << 20);
    let head = [0x82, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(decoder.next(&mut &head[..]), Ok(None));
    assert!(decoder.held() <= 64 << 10, "{}", decoder.held());
    let mut decoder = Decoder::new(Role::Server, 32 << 20);
    let head = [0x82, 0xff, 0, 0, 0, 0, 2, 0, 0, 1, 1, 2, 3, 4];
    assert_eq!(decoder.next(&mut &head[..]).map_err(|breach| breach.code), Err(CloseCode::TooLarge));
}

#[test]
fn a_client_reads_what_is_not_masked() {
    let read = |bytes: &[u8]| Decoder::new(Role::Client, MAX).next(&mut &bytes[..]);
    assert_eq!(read(b"\x81\x05Hello"), Ok(Some(Incoming::Text(b"Hello".to_vec()))));
    assert_eq!(read(&text("Hello").bytes()).map_err(|breach| breach.code), Err(CloseCode::Protocol));
}

/// What is written here is read by another implementation, and the other way round.
#[test]
fn another_implementation_agrees() {
    use tungstenite::Message;
    use tungstenite::protocol::{Role as TheirRole, WebSocket};
    let mut ours = Vec::new();
    push_frame(&mut ours, Opcode::Text, "κόσμε".as_bytes(), None);
    push_frame(&mut ours, Opcode::Ping, b"p", None);
    push_frame(&mut ours, Opcode::Binary, &vec![1; 70_000], None);
    push_close(&mut ours, Some(4000), "bye", None);
    let mut theirs = WebSocket::from_raw_socket(std::io::Cursor::new(ours), TheirRole::Client, None);
    assert_eq!(theirs.read().expect("text"), Message::text("κόσμε"));
    assert_eq!(theirs.read().expect("ping"), Message::Ping(b"p".as_slice().into()));
    assert_eq!(theirs.read().expect("binary").len(), 70_000);
    let Message::Close(Some(close)) = theirs.read().expect("close") else { panic!("no close frame") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4000, "bye"));

    let mut theirs = WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), TheirRole::Client, None);
    for message in [Message::text("κόσμε"), Message::binary(vec![5; 70_000]), Message::Ping(b"p".as_slice().into())]
    {
        theirs.send(message).expect("sent");
    }
    theirs.close(None).expect("closed");
    let bytes = theirs.get_ref().get_ref().clone();
    let got = told(&read(&bytes, 4_096, MAX));
    assert_eq!(got, "text κόσμε; binary 70000 bytes; ping 1; close None ");
}
