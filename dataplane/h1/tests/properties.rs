//! What holds for every stream of bytes: its split does not matter, and nothing panics.

use h1::body::{BodyError, Decoded, Decoder};
use h1::request::{self, RequestHead};
use h1::scan::HeadScan;
use h1::{Reject, client};
use proptest::prelude::*;

/// What a server sees on a connection.
#[derive(Debug, PartialEq)]
enum Seen {
    Head(Box<RequestHead>),
    Body(Vec<u8>),
    Refused(Reject),
    BadBody(BodyError),
}

/// Reads a connection that delivers `stream` in portions that end at `cuts`, then ends.
fn read(stream: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut used = 0;
    let mut scan = HeadScan::new();
    let mut body: Option<(Decoder, Vec<u8>)> = None;
    for end in ends {
        loop {
            let input = &stream[used..end];
            if let Some((decoder, data)) = &mut body {
                match decoder.decode(input) {
                    Ok(Decoded::More) => {
                        used = end;
                        break;
                    }
                    Ok(Decoded::Data { skip, len }) => {
                        assert!(len > 0 && skip + len <= input.len());
                        data.extend_from_slice(&input[skip..skip + len]);
                        used += skip + len;
                    }
                    Ok(Decoded::End { used: more }) => {
                        used += more;
                        seen.push(Seen::Body(std::mem::take(data)));
                        body = None;
                    }
                    Err(error) => {
                        seen.push(Seen::BadBody(error));
                        return seen;
                    }
                }
                continue;
            }
            match scan.find(input) {
                Ok(None) => break,
                Ok(Some(range)) => {
                    let parsed = request::parse(&input[range.clone()]);
                    used += range.end;
                    scan = HeadScan::new();
                    match parsed {
                        Ok(head) => {
                            body = Some((Decoder::new(head.framing, 1_000), Vec::new()));
                            seen.push(Seen::Head(Box::new(head)));
                        }
                        Err(reject) => {
                            seen.push(Seen::Refused(reject));
                            return seen;
                        }
                    }
                }
                Err(reject) => {
                    seen.push(Seen::Refused(reject));
                    return seen;
                }
            }
        }
    }
    seen
}

/// Pieces of requests, right and wrong: strung together they make streams that get far into the parser.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        Just(b"POST /x?y HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
        Just(
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n1\r\nd\r\n0\r\nT: v\r\n\r\n"
                .to_vec()
        ),
        Just(b"GET http://b/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        Just(b"5\r\nhello\r\n".to_vec()),
        Just(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        Just(b"GET / HTTP/1.1\nHost: a\n\n".to_vec()),
        Just(b"X-A: b\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
        proptest::collection::vec(proptest::sample::select(&b"GET /:HTP1.0\r\n \t;,aZ9\x7f\x00"[..]), 0..40),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(piece(), 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_split_does_not_matter(stream in stream(), cuts in proptest::collection::vec(any::<usize>(), 0..12)) {
        let whole = read(&stream, &[]);
        prop_assert_eq!(&read(&stream, &cuts), &whole);
        let every: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(&read(&stream, &every), &whole);
    }

    #[test]
    fn what_is_read_is_what_two_readers_agree_on(stream in stream()) {
        for seen in read(&stream, &[]) {
            let Seen::Head(head) = seen else { continue };
            let lengths = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length")).count();
            let codings = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"transfer-encoding")).count();
            prop_assert!(lengths + codings <= 1, "ambiguous framing was accepted");
            for (name, value) in head.headers.iter() {
                prop_assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
                prop_assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
            prop_assert!(head.url.is_ascii() && !head.url.contains(['\r', '\n', ' ']));
        }
    }

    #[test]
    fn response_heads_never_panic(bytes in stream()) {
        let mut scan = HeadScan::new();
        if let Ok(Some(range)) = scan.find(&bytes) {
            let _ = client::parse(&bytes[range], "GET");
        }
        let _ = client::parse(&bytes, "HEAD");
        let _ = request::parse(&bytes);
    }
}
