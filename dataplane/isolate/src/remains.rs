//! [`Remains`]: an isolate that never runs again, to be disposed of.
//!
//! V8 sweeps a heap before it frees it, and frees it page by page: of a full one for a tenth of a second, which nothing can
//! interrupt. So this is its own step, and can be done on another thread: nothing of the embedder's is left in it.
//!
//! V8's platform has a queue of tasks for each isolate, found by its address. The `v8` crate has it dropped before V8 takes the isolate
//! apart, which asks for it again: a new one is made then and stays for ever, some 150 bytes, or 4 KB where a task was put into it, until
//! another isolate at that address is given it. So both calls are sent here (see `.cargo/config.toml`), and the queue goes in
//! between, when V8 is done and the address is not free yet.
//!
//! *Invariant:* its group goes after its isolate, its memory last.

use std::{ffi::c_void, mem::ManuallyDrop, sync::Arc};

use pkey::Domain;

use crate::{group::Group, isolate::set_stack_limit, memory::Memory, stack};

/// An isolate without state, dropped by whichever thread has it.
pub struct Remains {
    v8: ManuallyDrop<v8::OwnedIsolate>,
    group: ManuallyDrop<Group>,
    memory: Arc<Memory>,
}

// SAFETY: V8 lets an isolate be entered by any thread, one at a time, and this owns it: only its drop enters it, on the thread that
// drops it. What is dropped with it is shared by threads already (`Memory`, its arena and domain) or V8's. Nothing of the
// embedder's goes along: its state stayed behind and the values that JavaScript held are gone (`Isolate::dismantle`); the
// finalizers that are left find none, and the reference counts in them are all here.
unsafe impl Send for Remains {}

impl Remains {
    pub(crate) fn new(v8: v8::OwnedIsolate, group: Group, memory: Arc<Memory>) -> Remains {
        Remains { v8: ManuallyDrop::new(v8), group: ManuallyDrop::new(group), memory }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let disposed = stack::run(|info| {
            let rights = self.memory.domain.enter();
            // SAFETY: dropping `OwnedIsolate` wants it entered and leaves it. Each is dropped once, here; the stack's limit lies
            // within the stack in use.
            unsafe {
                self.v8.enter();
                set_stack_limit(&self.v8, info);
                ManuallyDrop::drop(&mut self.v8);
                ManuallyDrop::drop(&mut self.group);
            }
            Domain::leave(rights);
        });
        if disposed.is_err() {
            tracing::error!("V8 ran out of memory while an isolate was disposed of");
        }
    }
}

unsafe extern "C" {
    /// `void Isolate::Deinitialize()`.
    #[link_name = "_ZN2v87Isolate12DeinitializeEv"]
    fn isolate_deinitialize(isolate: *mut c_void);
    /// `static void Isolate::Free(Isolate*)`: from then on another isolate can have its address.
    #[link_name = "_ZN2v87Isolate4FreeEPS0_"]
    fn isolate_free(isolate: *mut c_void);
    /// `void platform::NotifyIsolateShutdown(Platform*, Isolate*)`: drops what the platform keeps under that address.
    #[link_name = "_ZN2v88platform21NotifyIsolateShutdownEPNS_8PlatformEPNS_7IsolateE"]
    fn notify_isolate_shutdown(platform: *const v8::Platform, isolate: *mut c_void);
}

/// Takes the place of the `v8` crate's call before an isolate's end, which is too early.
#[unsafe(no_mangle)]
extern "C" fn __wrap_v8__Platform__NotifyIsolateShutdown(_platform: *mut c_void, _isolate: *mut c_void) {}

/// Takes the place of `Isolate::Dispose`.
///
/// # Safety
/// As for that: no thread is in the isolate, and nobody uses it after. The platform is the one that V8 was started with.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_v8__Isolate__Dispose(isolate: *mut c_void) {
    let platform = v8::V8::get_current_platform();
    // SAFETY: the caller's promise. Every isolate asks for its queue when it is made, so there is one. The tasks in it, which are dropped
    // with it, were cancelled by V8 and do not look at the isolate then.
    unsafe {
        isolate_deinitialize(isolate);
        notify_isolate_shutdown(&raw const *platform, isolate);
        isolate_free(isolate);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::Command,
        rc::Rc,
        sync::{Arc, Mutex},
        thread::{self, ThreadId},
    };

    use crate::{Compile, Engine, Isolate, IsolateLimits, Source};

    static FILL: Source = Source::new(
        "globalThis.objects = Array.from({ length: 200000 }, (_, i) => ({ i, text: 'text ' + i }));
        globalThis.buffers = [10, 5000, 3000000].map((n) => new Uint8Array(n).fill(7));
        new WebAssembly.Memory({ initial: 20 }).grow(10);",
    );

    /// Tells on which thread it is dropped; stays on its own, by its type.
    struct Tell(Arc<Mutex<Vec<ThreadId>>>, #[expect(dead_code, reason = "for its count")] Rc<()>);

    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.lock().expect("whole").push(thread::current().id());
        }
    }

    #[test]
    fn another_thread_disposes_of_them_and_what_is_the_embedders_stays() {
        let engine = Engine::init().expect("engine");
        let limits = IsolateLimits { heap_bytes: 128 << 20 };
        let told = Arc::new(Mutex::new(Vec::new()));
        let here = Rc::new(());
        let tell = || Tell(Arc::clone(&told), Rc::clone(&here));
        let disposals = thread::scope(|scope| {
            let make = |_| {
                let mut isolate = Isolate::new(&engine, limits, tell()).expect("an isolate");
                isolate.assign_key(7).expect("a key");
                let filled = isolate.turn(60_000_000_000, |cx| {
                    let held = cx.handle(tell()).is_some();
                    held && cx.run_script("fill.js", &FILL, Compile::Eager).is_ok()
                });
                assert_eq!((filled.value, filled.ended), (Some(true), None));
                let remains = isolate.into_remains().expect("it was not given up");
                // The next isolate is made and runs meanwhile.
                scope.spawn(move || drop(remains))
            };
            let threads: Vec<_> = (0..8).map(make).collect();
            threads.into_iter().map(|thread| thread.join().is_ok()).filter(|fine| *fine).count()
        });
        let told = told.lock().expect("whole");
        assert_eq!((disposals, told.len()), (8, 16), "state and handle of each, once");
        assert!(told.iter().all(|id| *id == thread::current().id()), "{told:?}");
        assert_eq!(Rc::strong_count(&here), 1);
    }

    /// Bytes that malloc has given out, in all of its arenas, its threads' caches included.
    fn malloc_bytes() -> usize {
        // SAFETY: `mallinfo2` has no precondition.
        let info = unsafe { libc::mallinfo2() };
        info.uordblks + info.hblkhd
    }

    /// Turns off malloc's caches, which it takes for given out.
    const EXACT: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

    #[test]
    fn nothing_of_them_is_left_in_the_platform() {
        if env::var(EXACT.0).as_deref() != Ok(EXACT.1) {
            let this = "remains::tests::nothing_of_them_is_left_in_the_platform";
            let mut again = Command::new(env::current_exe().expect("this program"));
            let out = again.args(["--exact", this]).env(EXACT.0, EXACT.1).output().expect("started");
            let text = String::from_utf8_lossy(&out.stdout);
            assert!(out.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let engine = Engine::init().expect("engine");
        let limits = IsolateLimits { heap_bytes: 128 << 20 };
        let round = |count: usize| {
            // All at once: each at an address of its own.
            let isolates: Vec<_> = (0..count).map(|_| Isolate::new(&engine, limits, ()).expect("an isolate")).collect();
            drop(isolates);
            malloc_bytes()
        };
        let after_few = round(50);
        let after_many = round(250);
        let left = after_many.saturating_sub(after_few) / 200;
        // V8's tables of isolates grow: 39 bytes. It was 556 with the queues.
        assert!(left < 100, "{left} bytes are left of each, {after_few} and {after_many} in all");
    }
}
