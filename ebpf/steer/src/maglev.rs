//! Maglev hashing (Eisenbud et al., NSDI 2016, §3.4): each node takes buckets in an order of its own, in turns, so that all
//! get equally many and a node that comes or goes moves little beside its own share. Pure; every node computes the same.

use crate::abi::BUCKETS;

/// For each bucket the index into `members` of its node. `members` in any order: the table depends on who is in it only. Empty
/// for no members.
pub fn table(members: &[[u8; 6]]) -> Vec<u16> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by_key(|index| members[*index]);
    let walks: Vec<(usize, usize)> = order.iter().map(|index| walk(&members[*index])).collect();
    let mut next: Vec<usize> = walks.iter().map(|(offset, _)| *offset).collect();
    let mut table = vec![u16::MAX; BUCKETS];
    let mut filled = 0;
    loop {
        for (turn, (_, skip)) in walks.iter().enumerate() {
            while table[next[turn]] != u16::MAX {
                next[turn] = (next[turn] + skip) % BUCKETS;
            }
            table[next[turn]] = order[turn] as u16;
            filled += 1;
            if filled == BUCKETS {
                return table;
            }
        }
    }
}

/// Where a node begins and how far it steps. `BUCKETS` is prime: any step visits all of them.
fn walk(mac: &[u8; 6]) -> (usize, usize) {
    let hash = fnv(mac);
    ((hash % BUCKETS as u64) as usize, (hash.rotate_left(32) % (BUCKETS as u64 - 1)) as usize + 1)
}

/// FNV-1a, and Murmur's finish: neighbouring addresses must not walk alike.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u8) -> Vec<[u8; 6]> {
        (1..=count).map(|last| [2, 0, 0, 0, 0, last]).collect()
    }

    fn shares(table: &[u16], count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        table.iter().for_each(|index| shares[usize::from(*index)] += 1);
        shares
    }

    #[test]
    fn shares_are_equal() {
        assert!(table(&[]).is_empty());
        for count in [1, 2, 3, 16, 64] {
            let shares = shares(&table(&members(count)), usize::from(count));
            let (least, most) = (shares.iter().min().expect("some"), shares.iter().max().expect("some"));
            assert!(most - least <= 1, "{count} nodes: {least} to {most}");
        }
    }

    #[test]
    fn order_does_not_matter() {
        let (forward, mut backward) = (members(5), members(5));
        backward.reverse();
        let by_mac = |members: &[[u8; 6]]| -> Vec<[u8; 6]> {
            table(members).iter().map(|index| members[usize::from(*index)]).collect()
        };
        assert_eq!(by_mac(&forward), by_mac(&backward));
    }

    #[test]
    fn a_leaver_moves_little_beside_its_own() {
        let (before, after) = (table(&members(10)), table(&members(9)));
        let moved = before.iter().zip(&after).filter(|(old, new)| **old != 9 && old != new).count();
        let stayed = before.iter().filter(|old| **old != 9).count();
        assert!(moved * 100 < stayed * 10, "{moved} of {stayed} moved");
    }
}
