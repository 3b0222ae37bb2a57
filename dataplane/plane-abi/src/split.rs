//! Which of two versions a request goes to, where they share a deployment's requests. Pure.
//!
//! Whoever names a version that serves gets it. Otherwise the client decides: by a key of its own, or by its address. The same
//! client is always on the same side, on every node; as the share grows, more clients come to the candidate and none goes back.
//! Another candidate starts with other clients.

use base::id::DeploymentId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::limits::SHARE_WHOLE;

/// Names the version of a request (`v5`), and of a response.
pub const VERSION_FIELD: &[u8] = b"x-deployment-version";
/// Names the client, in place of its address.
pub const KEY_FIELD: &[u8] = b"x-deployment-key";

/// The version that a field's value names.
pub fn version(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    text.strip_prefix('v').unwrap_or(text).parse().ok()
}

/// Whether a client's requests go to the candidate `version`, which gets `share` hundredths of a percent.
pub fn goes_to_candidate(client: &[u8], deployment: DeploymentId, version: u32, share: u32) -> bool {
    let seed = (deployment.0 as u64) ^ ((deployment.0 >> 64) as u64) ^ u64::from(version) << 40;
    let point = u128::from(xxh3_64_with_seed(client, seed)) * u128::from(SHARE_WHOLE);
    ((point >> 64) as u32) < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_with_its_letter_or_without() {
        let all = [&b"v5"[..], b"5", b"v", b"", b"vv5", b"-1", b"v5 ", b"\xff", b"99999999999"];
        assert_eq!(all.map(version), [Some(5), Some(5), None, None, None, None, None, None, None]);
    }

    #[test]
    fn clients_come_as_the_share_grows_and_none_goes_back() {
        let side = |client: u32, version, share| {
            goes_to_candidate(&client.to_be_bytes(), DeploymentId(7 << 64 | 9), version, share)
        };
        for (share, expected) in [(1, 0..20), (100, 60..140), (1_000, 850..1_150), (5_000, 4_800..5_200)] {
            let count = (0..10_000).filter(|client| side(*client, 2, share)).count();
            assert!(expected.contains(&count), "{count} of 10,000 at {share}");
        }
        assert!((0..10_000).all(|client| !side(client, 2, 500) || side(client, 2, 501)));
        let same = (0..10_000).filter(|client| side(*client, 2, 1_000) && side(*client, 3, 1_000)).count();
        assert!(same < 200, "another version starts with others: {same} are the same");
    }
}
