//! Native functions behind the Web APIs of `js/`: URLs, encodings, base64, cryptography, randomness, inspection.
//!
//! *Owns:* nothing between calls but the decoders that JavaScript holds. *Does not:* input or output, clocks, or calls
//! into JavaScript. *Fails:* with an exception for its caller; a value that cannot be parsed is `null`, and the
//! JavaScript side throws what its specification says. *Thread:* the isolate's.

mod base64;
mod encoding;
mod file_url;
mod flate;
mod html;
mod random;
mod subtle;
mod url;
mod url_pattern;
mod value;

use isolate::OpTable;

pub(crate) use self::{
    flate::register as register_compression, html::register as register_html,
    url_pattern::register as register_url_pattern,
};

/// Adds the functions that every isolate has.
pub(crate) fn register(ops: &mut OpTable) {
    base64::register(ops);
    encoding::register(ops);
    random::register(ops);
    url::register(ops);
    value::register(ops);
}

/// Adds what `js/subtle.js` and the files that it loads need.
pub(crate) fn register_subtle(ops: &mut OpTable) {
    subtle::register(ops);
    base64::register_url(ops);
}
