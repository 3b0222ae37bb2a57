//! The two HTTP/1.1 servers of the `h1` bench, on bytes in memory: the same request in, an equal response out.
//!
//! Each side does what its place in a node would make it do for one request on a kept-alive connection: take the
//! bytes that a read gave, find and read the head, take in the body, build a response with the same fields, write it
//! into the buffer that a write would send. No sockets, no other task, no timers. Both keep a cached `Date`.

pub(crate) mod hyper_side;
pub(crate) mod our_side;

/// The response's body.
pub(crate) const BODY: &[u8] = b"Hello, World!\n";
/// The response's own fields; framing and `Date` come from the server.
pub(crate) const FIELDS: [(&str, &str); 3] =
    [("content-type", "text/plain;charset=UTF-8"), ("x-deployment-version", "v42"), ("cache-control", "no-store")];

/// A request of the bench.
pub(crate) struct Case {
    /// For the report.
    pub(crate) name: &'static str,
    /// The bytes of one request.
    pub(crate) request: Vec<u8>,
    /// Bytes of its body after decoding.
    pub(crate) body_bytes: usize,
}

/// A server of one connection.
pub(crate) trait Side {
    /// Serves one request and returns the bytes of the response, valid until the next call.
    fn serve(&mut self, request: &[u8]) -> anyhow::Result<&[u8]>;
    /// Body bytes of all requests so far: shows that bodies were read.
    fn body_bytes(&self) -> u64;
}

/// The requests: a bare client's, a browser's, and two with bodies.
pub(crate) fn cases() -> Vec<Case> {
    let case = |name, request: String, body_bytes| Case { name, request: request.into_bytes(), body_bytes };
    let plain = "GET / HTTP/1.1\r\nHost: hello.workers.localhost\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";
    let browser = "GET /articles/2026/11/a-page?utm_source=feed&page=2 HTTP/1.1\r\n\
        Host: hello.workers.localhost\r\nConnection: keep-alive\r\n\
        sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
        Upgrade-Insecure-Requests: 1\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
        Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
        Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=a1b2c3\r\n\r\n";
    let post = |framing: &str, body: &str| {
        format!(
            "POST /api/items HTTP/1.1\r\nHost: hello.workers.localhost\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\
             Content-Type: application/json\r\n{framing}\r\n\r\n{body}"
        )
    };
    let json = format!("{{\"text\":\"{}\"}}", "x".repeat(245));
    let (first, second) = json.split_at(100);
    let chunked = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
    vec![
        case("GET, 3 fields", plain.to_owned(), 0),
        case("GET, browser's 16 fields", browser.to_owned(), 0),
        case("POST, 256 bytes", post(&format!("Content-Length: {}", json.len()), &json), json.len()),
        case("POST, 256 bytes chunked", post("Transfer-Encoding: chunked", &chunked), json.len()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::response::{ResponseReader, Sink};

    #[derive(Default)]
    struct Seen(Vec<(String, String)>, Vec<u8>);
    impl Sink for Seen {
        fn head(&mut self, _: u16, fields: &[httparse::Header<'_>]) {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            self.0 = fields.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
            self.0.retain(|(name, _)| name != "date");
            self.0.sort();
        }
        fn body(&mut self, bytes: &[u8]) {
            self.1.extend_from_slice(bytes);
        }
    }

    fn answer(side: &mut dyn Side, case: &Case) -> (u16, Vec<(String, String)>, Vec<u8>, bool) {
        let bytes = side.serve(&case.request).expect("a response").to_vec();
        let mut seen = Seen::default();
        let (used, response) = ResponseReader::default().feed(&bytes, false, &mut seen).expect("HTTP/1.1");
        let response = response.expect("a whole response");
        assert_eq!(used, bytes.len(), "{}: one response", case.name);
        (response.status, seen.0, seen.1, response.keep_alive)
    }

    #[test]
    fn both_sides_do_the_same_work() {
        for case in cases() {
            let (mut ours, mut hypers) = (our_side::OurSide::new(), hyper_side::HyperSide::new());
            for turn in 1..=3 {
                let (one, other) = (answer(&mut ours, &case), answer(&mut hypers, &case));
                assert_eq!(one, other, "{}", case.name);
                assert_eq!((one.0, one.2.as_slice(), one.3), (200, BODY, true), "{}", case.name);
                let read = (case.body_bytes * turn) as u64;
                assert_eq!((ours.body_bytes(), hypers.body_bytes()), (read, read), "{}: bodies are read", case.name);
            }
        }
    }
}
