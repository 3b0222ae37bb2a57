//! Our machine: the `h1` crate, driven the way a shard's connection drives it.

use anyhow::{anyhow, ensure};
use base::header::HeaderBlock;
use base::limits::BODY_BYTES_MAX;
use h1::Framing;
use h1::body::{Decoded, Decoder};
use h1::request;
use h1::response::{self, Body, Context, SendFraming};
use h1::scan::HeadScan;

use super::{BODY, FIELDS, Side};

pub(crate) struct OurSide {
    input: Vec<u8>,
    output: Vec<u8>,
    date: [u8; h1::date::HTTP_DATE_BYTES],
    body_bytes: u64,
}

impl OurSide {
    pub(crate) fn new() -> OurSide {
        let date = h1::date::http_date(1_795_000_000);
        OurSide { input: Vec::with_capacity(8192), output: Vec::with_capacity(8192), date, body_bytes: 0 }
    }

    fn take_body(&mut self, framing: Framing, mut at: usize) -> anyhow::Result<()> {
        if framing == Framing::None {
            return Ok(());
        }
        let mut decoder = Decoder::new(framing, BODY_BYTES_MAX);
        let mut body = Vec::new();
        loop {
            match decoder.decode(&self.input[at..])? {
                Decoded::Data { skip, len } => {
                    body.extend_from_slice(&self.input[at + skip..at + skip + len]);
                    at += skip + len;
                }
                Decoded::End { .. } => break,
                Decoded::More => return Err(anyhow!("the body is not whole")),
            }
        }
        self.body_bytes += body.len() as u64;
        Ok(())
    }
}

impl Side for OurSide {
    fn serve(&mut self, bytes: &[u8]) -> anyhow::Result<&[u8]> {
        self.input.clear();
        self.input.extend_from_slice(bytes);
        let range = HeadScan::new().find(&self.input).map_err(|reject| anyhow!("{reject}"))?;
        let range = range.ok_or_else(|| anyhow!("the head is not whole"))?;
        let end = range.end;
        let head = request::parse(&self.input[range]).map_err(|reject| anyhow!("{reject}"))?;
        self.take_body(head.framing, end)?;

        let mut fields = HeaderBlock::with_capacity(FIELDS.len(), 128);
        for (name, value) in FIELDS {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        self.output.clear();
        let context = Context::of(&head, true, self.date);
        let sent = response::encode(&mut self.output, 200, &fields, &[], Body::Known(BODY.len() as u64), &context)?;
        ensure!(sent.framing == SendFraming::Length(BODY.len() as u64), "a counted body");
        self.output.extend_from_slice(BODY);
        Ok(&self.output)
    }

    fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}
