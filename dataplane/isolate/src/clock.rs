//! The cheapest clock there is, for stamps at the edges of a turn: the time stamp counter, calibrated once.
//!
//! *Owns:* the ratio of ticks to nanoseconds. *Does not:* tell the time of day, nor CPU time of a thread (see
//! [`thread_cpu_ns`]). *Invariant:* the counter is constant-rate (`constant_tsc`, every x86-64 server of the last
//! decade); where it is absent, ticks are nanoseconds of `CLOCK_MONOTONIC`.

use std::sync::OnceLock;

/// Ticks of the counter, since an arbitrary start.
pub type Ticks = u64;

/// How long the ratio is measured for, ns. Longer is more exact: the error is about 50 ns of this.
const CALIBRATION_NS: u64 = 2_000_000;

/// Now, in ticks.
#[inline(always)]
pub fn ticks() -> Ticks {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC has no precondition; it is part of every x86-64.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// A span of ticks in nanoseconds.
#[inline]
pub fn ticks_to_ns(span: Ticks) -> u64 {
    ((u128::from(span) * u128::from(ns_per_tick_q32())) >> 32) as u64
}

/// A span of nanoseconds in ticks.
pub(crate) fn ns_to_ticks(ns: u64) -> Ticks {
    ((u128::from(ns) << 32) / u128::from(ns_per_tick_q32().max(1))) as u64
}

/// CPU time of the calling thread, ns. A system call.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Reads a clock; 0 where the clock is gone (its thread has ended).
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return 0;
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of a tick, times 2³². Measured at the first call.
fn ns_per_tick_q32() -> u64 {
    static RATIO: OnceLock<u64> = OnceLock::new();
    *RATIO.get_or_init(|| {
        let (start_ns, start) = (clock_ns(libc::CLOCK_MONOTONIC), ticks());
        loop {
            let (now_ns, now) = (clock_ns(libc::CLOCK_MONOTONIC), ticks());
            if now_ns - start_ns >= CALIBRATION_NS {
                return ((u128::from(now_ns - start_ns) << 32) / u128::from((now - start).max(1))) as u64;
            }
        }
    })
}

/// Measures the ratio now rather than in the first turn.
pub(crate) fn calibrate() {
    ns_per_tick_q32();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_agree_with_the_monotonic_clock() {
        calibrate();
        let (start_ns, start) = (clock_ns(libc::CLOCK_MONOTONIC), ticks());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let (ns, span) = (clock_ns(libc::CLOCK_MONOTONIC) - start_ns, ticks() - start);
        let measured = ticks_to_ns(span);
        assert!(measured.abs_diff(ns) < ns / 100, "{measured} against {ns}");
        assert!(ticks_to_ns(ns_to_ticks(1_000_000)).abs_diff(1_000_000) < 10);
    }
}
