//! [`Fiber`]: native code on a stack of its own, which stops in the middle to ask and goes on with the answer.
//!
//! A parser with callbacks that wait for JavaScript runs in one: each callback leaves the fiber with a question, the native function that
//! called the parser returns it to JavaScript, and a later native function brings the answer.
//!
//! *Owns:* the stack. *Invariants:* no code of V8's and no JavaScript runs on it; a [`Port`] works only on its own fiber. A fiber that is
//! dropped in the middle is unwound. *Fails:* a panic on it comes out of [`Fiber::resume`]. *Thread:* the one that made it.

use std::{cell::Cell, ptr, rc::Rc};

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack};

/// What the fiber's own code has: leaves the fiber with an `O`, gets an `I` when it is resumed.
pub struct Port<I: 'static, O: 'static>(Rc<Cell<*const Yielder<I, O>>>);

impl<I: 'static, O: 'static> Clone for Port<I, O> {
    fn clone(&self) -> Self {
        Port(Rc::clone(&self.0))
    }
}

thread_local! {
    /// The port of the fiber whose code runs here; null outside of any.
    static RUNNING: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

impl<I: 'static, O: 'static> Port<I, O> {
    fn id(&self) -> *const () {
        Rc::as_ptr(&self.0).cast()
    }

    /// Leaves the fiber until it is resumed. Panics outside of it.
    pub fn exchange(&self, out: O) -> I {
        assert!(ptr::eq(RUNNING.get(), self.id()), "a port is used on its own fiber");
        let yielder = self.0.get();
        // SAFETY: set by the fiber's first function to the yielder on its stack, and this is the fiber that runs: its stack is alive.
        unsafe { &*yielder }.suspend(out)
    }
}

/// Native code on a stack of its own.
pub struct Fiber<I: 'static, O: 'static> {
    coroutine: Coroutine<I, O, (), DefaultStack>,
    port: Port<I, O>,
}

impl<I: 'static, O: 'static> Fiber<I, O> {
    /// Makes one; `body` begins with the first [`Fiber::resume`]. An error: there is no memory for its stack.
    pub fn new(stack_bytes: usize, body: impl FnOnce(Port<I, O>, I) + 'static) -> std::io::Result<Fiber<I, O>> {
        let port = Port(Rc::new(Cell::new(ptr::null())));
        let inside = port.clone();
        let coroutine = Coroutine::with_stack(DefaultStack::new(stack_bytes)?, move |yielder, first| {
            inside.0.set(yielder);
            body(inside, first);
        });
        Ok(Fiber { coroutine, port })
    }

    /// Runs it until it leaves with an answer, or ends: `None`. One that has ended gives `None`.
    pub fn resume(&mut self, input: I) -> Option<O> {
        /// Says which fiber runs again when this one is left, a panic included.
        struct Back(*const ());
        impl Drop for Back {
            fn drop(&mut self) {
                RUNNING.set(self.0);
            }
        }
        if self.coroutine.done() {
            return None;
        }
        let _back = Back(RUNNING.replace(self.port.id()));
        match self.coroutine.resume(input) {
            CoroutineResult::Yield(out) => Some(out),
            CoroutineResult::Return(()) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: usize = 64 << 10;

    #[test]
    fn questions_and_answers_alternate_and_fibers_nest() {
        let mut outer = Fiber::new(STACK, |port: Port<u32, u32>, first| {
            let mut inner = Fiber::new(STACK, |port: Port<u32, u32>, first| {
                let second = port.exchange(first + 1);
                port.exchange(second + 1);
            })
            .expect("a stack");
            let got = port.exchange(inner.resume(first).expect("an answer") * 10);
            port.exchange(inner.resume(got).expect("an answer") * 10);
            assert_eq!(inner.resume(0), None);
        })
        .expect("a stack");
        assert_eq!(outer.resume(1), Some(20));
        assert_eq!(outer.resume(5), Some(60));
        assert_eq!((outer.resume(0), outer.resume(0)), (None, None));
    }

    #[test]
    fn one_that_is_dropped_in_the_middle_is_unwound_and_a_panic_comes_out() {
        let told = Rc::new(Cell::new(0));
        struct Tell(Rc<Cell<u32>>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let tell = Tell(Rc::clone(&told));
        let mut fiber = Fiber::new(STACK, move |port: Port<(), ()>, ()| {
            let _tell = tell;
            port.exchange(());
        })
        .expect("a stack");
        assert_eq!(fiber.resume(()), Some(()));
        assert_eq!(told.get(), 0);
        drop(fiber);
        assert_eq!(told.get(), 1);
        let mut bad = Fiber::new(STACK, |_: Port<(), ()>, ()| panic!("inside")).expect("a stack");
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bad.resume(()))).is_err());
        assert!(RUNNING.get().is_null());
    }

    #[test]
    fn a_port_works_nowhere_else() {
        let (send, receive) = std::sync::mpsc::channel();
        let mut fiber = Fiber::new(STACK, move |port: Port<(), ()>, ()| {
            let _ = send.send(port.clone());
            port.exchange(());
        })
        .expect("a stack");
        fiber.resume(());
        let port = receive.recv().expect("a port");
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| port.exchange(()))).is_err());
    }
}
