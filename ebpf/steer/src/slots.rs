//! When CPUs are unequally loaded: which slots take new flows elsewhere. Pure.

use crate::abi::SLOTS;

/// Packets in a window below which nothing is read into a difference.
pub const PACKETS_MIN: u64 = 2_000;
/// The hottest CPU may have this much more than the mean, percent.
pub const EXCESS_PERCENT: u64 = 20;
/// Slots that move at a time: half an inventory of wrong guesses is worse than a slow correction.
pub const MOVES_MAX: usize = 8;

/// A slot and the CPU that its new flows are to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which slot.
    pub slot: usize,
    /// Where to.
    pub cpu: u32,
}

/// The first table: slots in turns over the CPUs.
pub fn even(cpus: &[u32]) -> Vec<u32> {
    (0..SLOTS).map(|slot| cpus.get(slot % cpus.len().max(1)).copied().unwrap_or(0)).collect()
}

/// What to move, from each slot's packets in the last window and its CPU now. A slot's load counts for the CPU that its new flows go
/// to, so that one window's moves are not made again in the next while old flows stay where they were.
pub fn rebalance(packets: &[u64], table: &[u32], cpus: &[u32]) -> Vec<Move> {
    let total: u64 = packets.iter().sum();
    if total < PACKETS_MIN || cpus.len() < 2 {
        return Vec::new();
    }
    let mean = total / cpus.len() as u64;
    let mut table = table.to_vec();
    let mut moves = Vec::new();
    while moves.len() < MOVES_MAX {
        let load = |cpu: u32| -> u64 {
            packets.iter().zip(&table).filter(|(_, at)| **at == cpu).map(|(count, _)| *count).sum()
        };
        let Some(hottest) = cpus.iter().copied().max_by_key(|cpu| load(*cpu)) else { break };
        let Some(coldest) = cpus.iter().copied().min_by_key(|cpu| load(*cpu)) else { break };
        let gap = load(hottest) - load(coldest);
        if load(hottest) * 100 <= mean * (100 + EXCESS_PERCENT) {
            break;
        }
        // The largest that does not turn the difference round.
        let candidates = (0..packets.len()).filter(|slot| table[*slot] == hottest && packets[*slot] > 0);
        let Some(slot) = candidates.filter(|slot| packets[*slot] <= gap / 2).max_by_key(|slot| packets[*slot]) else {
            break;
        };
        table[slot] = coldest;
        moves.push(Move { slot, cpu: coldest });
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(packets: &[u64], table: &[u32], cpus: &[u32]) -> Vec<u64> {
        cpus.iter()
            .map(|cpu| packets.iter().zip(table).filter(|(_, at)| *at == cpu).map(|(count, _)| *count).sum())
            .collect()
    }

    #[test]
    fn the_first_table_is_even() {
        let table = even(&[0, 3]);
        assert_eq!((table.len(), &table[..4]), (SLOTS, &[0, 3, 0, 3][..]));
        assert_eq!(even(&[]), vec![0; SLOTS]);
    }

    #[test]
    fn hot_slots_move_until_the_difference_is_small() {
        let mut table = even(&[0, 1]);
        let mut packets = vec![10; SLOTS];
        packets[0] = 500;
        packets[2] = 400;
        packets[4] = 300;
        for _ in 0..4 {
            for Move { slot, cpu } in rebalance(&packets, &table, &[0, 1]) {
                table[slot] = cpu;
            }
        }
        let loads = loads(&packets, &table, &[0, 1]);
        let mean = loads.iter().sum::<u64>() / 2;
        assert!(loads.iter().all(|load| load * 100 <= mean * (100 + EXCESS_PERCENT)), "{loads:?}");
        assert_eq!(rebalance(&packets, &table, &[0, 1]), [], "what is even stays");
    }

    #[test]
    fn nothing_moves_without_cause() {
        assert_eq!(rebalance(&vec![5; SLOTS], &even(&[0, 1]), &[0, 1]), [], "few packets");
        assert_eq!(rebalance(&vec![100; SLOTS], &even(&[0]), &[0]), [], "one CPU");
        let mut one_flow = vec![0; SLOTS];
        one_flow[0] = 1_000_000;
        assert_eq!(rebalance(&one_flow, &even(&[0, 1]), &[0, 1]), [], "one slot has it all: moving it helps nobody");
        let moves = rebalance(
            &(0..SLOTS as u64).map(|slot| if slot % 2 == 0 { 100 } else { 0 }).collect::<Vec<_>>(),
            &even(&[0, 1]),
            &[0, 1],
        );
        assert_eq!(moves.len(), MOVES_MAX);
        assert!(moves.iter().all(|it| it.cpu == 1 && it.slot % 2 == 0));
    }
}
