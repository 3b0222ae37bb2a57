//! Native functions behind the Web APIs of `js/`: URLs, encodings, base64, digests, randomness, inspection.
//!
//! *Owns:* nothing between calls but the decoders that JavaScript holds. *Does not:* input or output, clocks, or calls
//! into JavaScript. *Fails:* with an exception for its caller; a value that cannot be parsed is `null`, and the
//! JavaScript side throws what its specification says. *Thread:* the isolate's.

mod base64;
mod digest;
mod encoding;
mod random;
mod url;
mod value;

use isolate::OpTable;

/// Adds every function of this folder.
pub(crate) fn register(ops: &mut OpTable) {
    base64::register(ops);
    digest::register(ops);
    encoding::register(ops);
    random::register(ops);
    url::register(ops);
    value::register(ops);
}
