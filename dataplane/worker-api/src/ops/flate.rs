//! CompressionStream and DecompressionStream (WHATWG Compression): gzip, zlib and raw deflate, on flate2 with zlib-rs. And the
//! content coding br, which is only read.
//!
//! *Bounds:* output comes in pieces of [`PIECE_BYTES`], each when JavaScript asks for it. What a codec has itself is the
//! JavaScript side's to count.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use isolate::{Args, OpError, OpResult, OpTable, Scope};

pub(crate) fn register(ops: &mut OpTable) {
    ops.add("flateNew", flate_new);
    ops.add("flatePush", flate_push);
    ops.add("flatePull", flate_pull);
}

/// Bytes of output at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A window of 32 KiB, as every format has it.
const WINDOW_BITS: u8 = 15;

/// One direction of one stream.
struct Codec {
    work: Work,
    input: Vec<u8>,
    /// How much of the input was read.
    read: usize,
    /// No more input comes.
    last: bool,
    /// The format's end was read or written.
    ended: bool,
}

enum Work {
    Compress(Compress),
    Decompress(Decompress),
    Brotli(Box<Brotli>),
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// A decoder of RFC 7932 as it is: windows up to 16 MiB.
fn brotli() -> Work {
    let alloc = StandardAlloc::default;
    Work::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
}

/// `flateNew(format, compress)`
fn flate_new<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let format = args.string(cx, 0)?;
    let work = if args.flag(1) {
        let level = Compression::default();
        Work::Compress(match &format[..] {
            "gzip" => Compress::new_gzip(level, WINDOW_BITS),
            "deflate" => Compress::new(level, true),
            _ => Compress::new(level, false),
        })
    } else {
        match &format[..] {
            "gzip" => Work::Decompress(Decompress::new_gzip(WINDOW_BITS)),
            "deflate" => Work::Decompress(Decompress::new(true)),
            "br" => brotli(),
            _ => Work::Decompress(Decompress::new(false)),
        }
    };
    cx.handle(Codec::new(work)).ok_or_else(OpError::out_of_memory)
}

/// `flatePush(codec, bytes, last)`: its next input, when `flatePull` has read the one before.
fn flate_push<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let bytes = args.bytes(cx, 1)?;
    let last = args.flag(2);
    let done = cx.with_handle::<Codec, _>(args.get(0), |codec| codec.push(bytes, last));
    done.ok_or_else(no_codec)?;
    Ok(cx.undefined())
}

/// `flatePull(codec)`: output, or `null` when it wants more input. TypeError for input that is not of the format, ends early, or
/// goes on after its end.
fn flate_pull<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let pulled = cx.with_handle::<Codec, _>(args.get(0), Codec::pull).ok_or_else(no_codec)?;
    match pulled.map_err(OpError::type_error)? {
        Some(bytes) => cx.uint8_array(bytes).ok_or_else(OpError::out_of_memory),
        None => Ok(cx.null()),
    }
}

fn no_codec() -> OpError {
    OpError::type_error("argument 1 is not a codec")
}

impl Codec {
    fn new(work: Work) -> Codec {
        Codec { work, input: Vec::new(), read: 0, last: false, ended: false }
    }

    fn push(&mut self, bytes: Vec<u8>, last: bool) {
        self.input = bytes;
        self.read = 0;
        self.last = last;
    }

    fn pull(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        let mut out = Vec::with_capacity(PIECE_BYTES);
        while out.len() < PIECE_BYTES {
            if self.ended {
                if self.read < self.input.len() {
                    return Err("There is data after the end of the compressed data");
                }
                break;
            }
            let before = (self.read, out.len());
            self.step(&mut out)?;
            if before == (self.read, out.len()) && !self.ended {
                // It waits for input.
                if self.last && self.read == self.input.len() {
                    return Err("The compressed data ends early");
                }
                break;
            }
        }
        out.shrink_to_fit();
        Ok(Some(out).filter(|out| !out.is_empty()))
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let input = &self.input[self.read..];
        let status = match &mut self.work {
            Work::Compress(work) => {
                let flush = if self.last { FlushCompress::Finish } else { FlushCompress::None };
                let before = work.total_in();
                let status = work.compress_vec(input, out, flush).map_err(|_| "The data does not compress")?;
                self.read += (work.total_in() - before) as usize;
                status
            }
            Work::Decompress(work) => {
                let before = work.total_in();
                let status = work.decompress_vec(input, out, FlushDecompress::None);
                let status = status.map_err(|_| "The compressed data is not valid")?;
                self.read += (work.total_in() - before) as usize;
                status
            }
            Work::Brotli(state) => {
                let (mut left, mut used, mut written) = (input.len(), 0, out.len());
                out.resize(PIECE_BYTES, 0);
                let mut room = PIECE_BYTES - written;
                let result =
                    BrotliDecompressStream(&mut left, &mut used, input, &mut room, &mut written, out, &mut 0, state);
                out.truncate(written);
                self.read += used;
                match result {
                    BrotliResult::ResultSuccess => Status::StreamEnd,
                    BrotliResult::ResultFailure => return Err("The compressed data is not valid"),
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Status::Ok,
                }
            }
        };
        self.ended |= status == Status::StreamEnd;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(work: Work, chunks: &[&[u8]]) -> Result<Vec<u8>, &'static str> {
        let mut codec = Codec::new(work);
        let mut out = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            codec.push(chunk.to_vec(), at + 1 == chunks.len());
            while let Some(piece) = codec.pull()? {
                assert!(piece.len() <= PIECE_BYTES);
                out.extend_from_slice(&piece);
            }
        }
        Ok(out)
    }

    fn gzip(chunks: &[&[u8]]) -> Vec<u8> {
        run(Work::Compress(Compress::new_gzip(Compression::default(), WINDOW_BITS)), chunks).expect("compresses")
    }

    fn gunzip(chunks: &[&[u8]]) -> Result<Vec<u8>, &'static str> {
        run(Work::Decompress(Decompress::new_gzip(WINDOW_BITS)), chunks)
    }

    #[test]
    fn any_split_gives_the_same() {
        let data = b"some data, some data, some more data".repeat(10);
        let small = gzip(&[&data]);
        for cut in 0..=small.len() {
            assert_eq!(gunzip(&[&small[..cut], &small[cut..]]).as_deref(), Ok(&data[..]), "cut at {cut}");
        }
        assert_eq!(gunzip(&[&gzip(&[&data[..7], &data[7..], b""])]).as_deref(), Ok(&data[..]));
        assert_eq!(gunzip(&[&gzip(&[b""])]).as_deref(), Ok(&b""[..]));
        let zeros = vec![0; 10 << 20];
        assert_eq!(gunzip(&[&gzip(&[&zeros])]).map(|out| out == zeros), Ok(true));
    }

    /// "selvage " 1,000 times, by the reference encoder.
    const BROTLI: &[u8] = &[
        27, 63, 31, 248, 141, 148, 110, 222, 180, 14, 43, 155, 179, 147, 32, 103, 108, 241, 91, 56, 64, 222, 2, 32,
        159, 4,
    ];

    #[test]
    fn brotli_is_read_in_any_split_and_refused_where_it_is_wrong() {
        let text = b"selvage ".repeat(1_000);
        for cut in 0..=BROTLI.len() {
            assert_eq!(run(brotli(), &[&BROTLI[..cut], &BROTLI[cut..]]).as_deref(), Ok(&text[..]), "cut at {cut}");
        }
        for cut in 0..BROTLI.len() {
            assert!(run(brotli(), &[&BROTLI[..cut]]).is_err(), "cut at {cut}");
        }
        assert!(run(brotli(), &[BROTLI, b"more"]).is_err());
        assert!(run(brotli(), &[&[0xff; 100]]).is_err());
    }

    #[test]
    fn what_is_cut_short_or_goes_on_or_is_changed_is_refused() {
        let small = gzip(&[b"some data"]);
        for cut in 0..small.len() {
            assert!(gunzip(&[&small[..cut]]).is_err(), "cut at {cut}");
        }
        for more in [&b"\0"[..], &small] {
            assert!(gunzip(&[&[&small, more].concat()]).is_err());
            assert!(gunzip(&[&small, more]).is_err());
        }
        for at in [0, 1, 2, 12, small.len() - 8, small.len() - 1] {
            let mut wrong = small.clone();
            wrong[at] ^= 0x55;
            assert!(gunzip(&[&wrong]).is_err(), "byte {at}");
        }
    }
}
