//! Content codings of responses, from origins and to clients, as Workers have them.

mod driver;
mod support;

use std::io::{Read, Write};

use driver::{Answer, Origin, Sent, run};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use support::handler;

const TEXT: &[u8] = b"some text, some text, some more text";
/// TEXT by the reference encoder.
const BROTLI: &[u8] = &[
    27, 35, 0, 248, 29, 7, 110, 44, 109, 219, 189, 196, 80, 249, 86, 54, 215, 44, 101, 109, 116, 26, 164, 77, 14, 79,
    113, 34, 84, 5, 240, 193, 156, 114, 15, 164,
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
    out
}

/// Asks a Worker of this body in front of an origin that answers so.
fn ask(program: &str, coding: &str, bytes: &[u8], chunks: usize) -> Answer {
    let mut worker = handler(program);
    run(&mut worker, ("GET", "http://w.test/"), &[], Sent::None, |_| {
        let chunks = bytes.chunks(bytes.len().div_ceil(chunks)).map(<[u8]>::to_vec).collect();
        let length = bytes.len().to_string();
        Origin::Reply(200, vec![("content-encoding", coding.to_owned()), ("content-length", length)], chunks)
    })
}

#[test]
fn what_the_program_reads_is_decoded() {
    for (coding, bytes) in [("gzip", gzip(TEXT)), ("GZip", gzip(TEXT)), ("br", BROTLI.to_vec())] {
        for chunks in [1, 2, bytes.len()] {
            for program in [
                "const r = await fetch('http://o.test/'); return new Response(r.headers.get('content-encoding') + '|' + await r.text());",
                "const r = await fetch('http://o.test/'); const c = r.clone(); await r.text();
                 return new Response(c.headers.get('content-encoding') + '|' + new TextDecoder().decode(await c.arrayBuffer()));",
                "const r = await fetch('http://o.test/'); let text = ''; for await (const part of r.body) text += new TextDecoder().decode(part);
                 return new Response(r.headers.get('content-encoding') + '|' + text);",
            ] {
                let answer = ask(program, coding, &bytes, chunks);
                let expected = format!("{coding}|{}", String::from_utf8_lossy(TEXT));
                assert_eq!((answer.text(), answer.passed), (&expected[..], false), "{program}: {answer:?}");
            }
        }
    }
}

#[test]
fn what_it_passes_on_is_not() {
    for (coding, bytes) in [("gzip", gzip(TEXT)), ("br", BROTLI.to_vec())] {
        for chunks in [1, 3] {
            for program in [
                "return fetch('http://o.test/');",
                "const r = await fetch('http://o.test/'); return new Response(r.body, r);",
                "const r = await fetch('http://o.test/'); return new Response(r.body, { headers: { 'content-encoding': r.headers.get('content-encoding') } });",
            ] {
                let answer = ask(program, coding, &bytes, chunks);
                assert_eq!((&answer.body[..], answer.passed), (&bytes[..], chunks > 1), "{program}: {answer:?}");
                assert_eq!(answer.header("content-encoding"), [coding], "{program}");
            }
            // Under fields that do not say so it is sent as what it is.
            let answer =
                ask("const r = await fetch('http://o.test/'); return new Response(r.body);", coding, &bytes, chunks);
            assert_eq!((&answer.body[..], answer.passed), (TEXT, false), "{answer:?}");
        }
    }
    // A coding that nobody knows is the program's own affair.
    let answer =
        ask("const r = await fetch('http://o.test/'); return new Response(await r.text());", "zstd", b"zzz", 1);
    assert_eq!(answer.text(), "zzz");
}

#[test]
fn what_was_decoded_and_says_gzip_is_encoded_again() {
    for program in [
        "const r = await fetch('http://o.test/');
         return new Response(r.body.pipeThrough(new TransformStream({ transform(c, t) { t.enqueue(c); } })), r);",
        "const r = await fetch('http://o.test/'); return new Response(await r.text(), r);",
        "const r = await fetch('http://o.test/'); return new Response(await r.arrayBuffer(), r);",
        "const r = await fetch('http://o.test/'); return r.clone();",
    ] {
        let answer = ask(program, "gzip", &gzip(TEXT), 3);
        assert_eq!((gunzip(&answer.body), answer.length), (TEXT.to_vec(), None), "{program}: {answer:?}");
        assert_eq!(answer.header("content-encoding"), ["gzip"], "{program}");
        let answer = ask(program, "br", BROTLI, 3);
        assert_eq!(&answer.body[..], TEXT, "{program}: {answer:?}");
        assert!(answer.header("content-encoding").is_empty(), "{program}");
    }
    let manual = "return new Response('as it is', { headers: { 'content-encoding': 'gzip' }, encodeBody: 'manual' });";
    assert_eq!(ask(manual, "", b"", 1).text(), "as it is");
    let wrong = "try { new Response('', { encodeBody: 'odd' }); } catch (error) { return new Response(error.name); }";
    assert_eq!(ask(wrong, "", b"", 1).text(), "TypeError");
}

#[test]
fn what_is_not_of_its_coding_rejects_and_bombs_are_bounded() {
    let program = "const r = await fetch('http://o.test/'); try { return new Response(await r.text()); } catch (error) { return new Response(error.name); }";
    let whole = gzip(TEXT);
    for chunks in [1, 2] {
        assert_eq!(ask(program, "gzip", b"this is no gzip at all", chunks).text(), "TypeError");
        assert_eq!(ask(program, "br", &[0xff; 30], chunks).text(), "TypeError");
        assert_eq!(ask(program, "gzip", &whole[..whole.len() - 3], chunks).text(), "TypeError");
        assert_eq!(ask(program, "gzip", &[&whole[..], b"more"].concat(), chunks).text(), "TypeError");
    }
    // 1 GB of zeros in 1 MB: as much is made as is read.
    let bomb = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..1024).for_each(|_| encoder.write_all(&zeros).expect("written"));
        encoder.finish().expect("finished")
    };
    let peek = "const r = await fetch('http://o.test/'); const reader = r.body.getReader(); let n = 0;
                for (let i = 0; i < 10; i++) n += (await reader.read()).value.length;
                await reader.cancel(); return new Response(String(n));";
    assert_eq!(ask(peek, "gzip", &bomb, 4).text(), (10 * 65536).to_string());
    let answer = ask(program, "gzip", &bomb, 4);
    assert!(answer.failure.is_some() || answer.text() != "", "a gigabyte does not fit: {:?}", answer.failure);
}
