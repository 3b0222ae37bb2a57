//! Close codes (RFC 6455 §7.4 and the IANA registry that it founds).

/// What a close frame says at most besides its code, bytes: a control frame's 125 less two.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Codes that this end says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The purpose is fulfilled.
    Normal = 1000,
    /// The node drains.
    GoingAway = 1001,
    /// A breach of the framing.
    Protocol = 1002,
    /// Text that is no UTF-8.
    NotUtf8 = 1007,
    /// A message over the limit.
    TooLarge = 1009,
    /// The Worker cannot go on.
    Internal = 1011,
    /// The Worker is to be started again elsewhere.
    Restart = 1012,
    /// The peer does not read as fast as it is sent to.
    Overloaded = 1013,
}

/// Whether a close frame may bear this code: those of the protocol that are registered and not reserved for what is never sent
/// (1004, 1005, 1006, 1015), those of libraries and of applications.
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_on_the_wire() {
        let check = |code| is_close_code(code);
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(check(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!check(code), "{code}");
        }
    }
}
