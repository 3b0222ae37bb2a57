//! Whatever comes: no panic, and the same outcome however the bytes are split.

use proptest::prelude::*;
use websocket::{Breach, Decoder, Incoming, Opcode, Role, push_frame};

fn read(role: Role, bytes: &[u8], cuts: &[usize]) -> (Vec<Incoming>, Option<Breach>) {
    let mut decoder = Decoder::new(role, 10_000);
    let mut got = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().chain([&usize::MAX]) {
        let (mut piece, after) = rest.split_at((*cut).min(rest.len()));
        rest = after;
        while !piece.is_empty() {
            match decoder.next(&mut piece) {
                Ok(incoming) => got.extend(incoming),
                Err(breach) => return (got, Some(breach)),
            }
        }
    }
    (got, None)
}

/// Bytes that are frames more often than not.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = (any::<u8>(), 0usize..300, any::<[u8; 4]>(), any::<bool>()).prop_map(|(first, len, mask, text)| {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Binary, &vec![if text { b'a' } else { 0xe9 }; len], Some(mask));
        // Mostly valid opcodes and no reserved bits.
        bytes[0] = if first % 16 == 0 { first } else { first & 0x80 | [0, 1, 2, 9, 10, 8][usize::from(first % 6)] };
        bytes
    });
    proptest::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn splits_change_nothing(bytes in frames(), cuts in proptest::collection::vec(0usize..50, 0..40)) {
        prop_assert_eq!(read(Role::Server, &bytes, &cuts), read(Role::Server, &bytes, &[]));
    }

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400), cuts in proptest::collection::vec(0usize..9, 0..40)) {
        for role in [Role::Server, Role::Client] {
            prop_assert_eq!(read(role, &bytes, &cuts), read(role, &bytes, &[]));
        }
    }

    #[test]
    fn what_is_written_is_read(payload in proptest::collection::vec(any::<u8>(), 0..9_000), mask in any::<[u8; 4]>()) {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Binary, &payload, Some(mask));
        let (got, breach) = read(Role::Server, &bytes, &[3, 100]);
        prop_assert_eq!((got, breach), (vec![Incoming::Binary(payload)], None));
    }
}
