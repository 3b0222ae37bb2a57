//! [`Scope`]: what a turn, or a native function called in it, may do with JavaScript.
//!
//! *Invariants:* exists only inside a turn; a value it gives lives as long as the turn or the native call.

use std::any::TypeId;

use crate::{
    clock,
    isolate::{Inner, TASKS_MAX},
    value::{Global, Value},
};

/// CPU time after which no other task is begun in a turn, ns.
const TASKS_NS: u64 = 1_000_000;

/// The right to touch the heap of the isolate whose turn runs.
#[repr(transparent)]
pub struct Scope<'s, 'i>(pub(crate) v8::PinScope<'s, 'i>);

/// Why a call into JavaScript gave no value.
pub enum CallError<'s> {
    /// It threw this.
    Thrown(Value<'s>),
    /// It was ended by a limit. Return from the turn at once.
    Ended,
}

impl<'s, 'i> Scope<'s, 'i> {
    #[inline(always)]
    pub(crate) fn wrap<'a>(scope: &'a mut v8::PinScope<'s, 'i>) -> &'a mut Scope<'s, 'i> {
        // SAFETY: `Scope` is a transparent wrapper of that type.
        unsafe { &mut *(&raw mut *scope).cast::<Scope<'s, 'i>>() }
    }

    #[inline(always)]
    pub(crate) fn inner(&self) -> &Inner {
        let isolate: &v8::Isolate = &self.0;
        // SAFETY: `Isolate::new` put a pointer to its boxed `Inner` there, which lives as long as the isolate.
        unsafe { &*isolate.get_data(0).cast::<Inner>() }
    }

    /// The embedder's state, as given to [`Isolate::new`](crate::Isolate::new). Panics if it is of another type.
    #[inline]
    pub fn state<S: 'static>(&mut self) -> &mut S {
        let inner = self.inner();
        assert!(inner.state_type == TypeId::of::<S>(), "one state type per isolate");
        // SAFETY: the type was compared; the reference borrows the scope, which is the only way to the state while a
        // turn runs, and no JavaScript can run while the scope is borrowed.
        unsafe { &mut *inner.state.cast::<S>() }
    }

    /// `undefined`.
    #[inline]
    pub fn undefined(&self) -> Value<'s> {
        Value(v8::undefined(&self.0).into())
    }

    /// `null`.
    #[inline]
    pub fn null(&self) -> Value<'s> {
        Value(v8::null(&self.0).into())
    }

    /// `true` or `false`.
    #[inline]
    pub fn boolean(&self, value: bool) -> Value<'s> {
        Value(v8::Boolean::new(&self.0, value).into())
    }

    /// A number.
    #[inline]
    pub fn number(&self, value: f64) -> Value<'s> {
        Value(v8::Number::new(&self.0, value).into())
    }

    /// An integer; faster than [`Scope::number`] for small ones.
    #[inline]
    pub fn integer(&self, value: i32) -> Value<'s> {
        Value(v8::Integer::new(&self.0, value).into())
    }

    /// An id: exact up to 2⁵³.
    #[inline]
    pub fn id(&self, value: u64) -> Value<'s> {
        match i32::try_from(value) {
            Ok(small) => self.integer(small),
            Err(_) => self.number(value as f64),
        }
    }

    /// A string; invalid UTF-8 is replaced. `None` past V8's limit (2²⁹ − 24 units).
    pub fn string_from_utf8(&self, text: &[u8]) -> Option<Value<'s>> {
        let string = if text.is_ascii() {
            v8::String::new_from_one_byte(&self.0, text, v8::NewStringType::Normal)
        } else {
            v8::String::new_from_utf8(&self.0, text, v8::NewStringType::Normal)
        };
        string.map(|string| Value(string.into()))
    }

    /// A string. The empty one in place of a string that is too long (2²⁹ − 24 units).
    pub fn string(&self, text: &str) -> Value<'s> {
        self.string_from_utf8(text.as_bytes()).unwrap_or_else(|| Value(v8::String::empty(&self.0).into()))
    }

    /// A string whose units are these bytes. Empty past V8's limit.
    pub fn latin1(&self, bytes: &[u8]) -> Value<'s> {
        let string = v8::String::new_from_one_byte(&self.0, bytes, v8::NewStringType::Normal);
        Value(string.unwrap_or_else(|| v8::String::empty(&self.0)).into())
    }

    /// A string whose units are these. `None` past V8's limit.
    pub fn utf16(&self, units: &[u16]) -> Option<Value<'s>> {
        v8::String::new_from_two_byte(&self.0, units, v8::NewStringType::Normal).map(|string| Value(string.into()))
    }

    /// A string that JavaScript has as a property name or a constant: made once, compared by address.
    pub fn interned(&self, text: &str) -> Value<'s> {
        let string = v8::String::new_from_utf8(&self.0, text.as_bytes(), v8::NewStringType::Internalized);
        Value(string.unwrap_or_else(|| v8::String::empty(&self.0)).into())
    }

    /// An array of these.
    pub fn array(&self, items: &[Value<'s>]) -> Value<'s> {
        // SAFETY: `Value` is a transparent wrapper of `Local<Value>`.
        let items =
            unsafe { std::slice::from_raw_parts(items.as_ptr().cast::<v8::Local<'s, v8::Value>>(), items.len()) };
        Value(v8::Array::new_with_elements(&self.0, items).into())
    }

    /// A plain object without properties.
    pub fn object(&self) -> Value<'s> {
        Value(v8::Object::new(&self.0).into())
    }

    /// Reads a property; `None` if it is no object or the getter threw.
    pub fn get(&mut self, object: Value<'s>, name: &str) -> Option<Value<'s>> {
        let object = v8::Local::<v8::Object>::try_from(object.0).ok()?;
        let key = self.interned(name);
        v8::tc_scope!(let tc, &mut self.0);
        object.get(tc, key.0).map(Value)
    }

    /// Sets a property; whether that worked.
    pub fn set(&mut self, object: Value<'s>, name: &str, value: Value<'s>) -> bool {
        let Ok(object) = v8::Local::<v8::Object>::try_from(object.0) else { return false };
        let key = self.interned(name);
        v8::tc_scope!(let tc, &mut self.0);
        object.set(tc, key.0, value.0).unwrap_or(false)
    }

    /// Deletes a property of the global object.
    pub fn delete_global(&mut self, name: &str) {
        let global = self.0.get_current_context().global(&self.0);
        let key = self.interned(name);
        v8::tc_scope!(let tc, &mut self.0);
        let _deleted = global.delete(tc, key.0);
    }

    /// The global object.
    pub fn global_object(&self) -> Value<'s> {
        Value(self.0.get_current_context().global(&self.0).into())
    }

    /// Element of an array; `None` if it is no array or the element's getter threw.
    #[inline]
    pub fn element(&mut self, array: Value<'s>, index: u32) -> Option<Value<'s>> {
        let array = v8::Local::<v8::Array>::try_from(array.0).ok()?;
        array.get_index(&self.0, index).map(Value)
    }

    /// Length of an array; 0 for anything else.
    #[inline]
    pub fn array_len(&self, array: Value<'s>) -> u32 {
        v8::Local::<v8::Array>::try_from(array.0).map_or(0, |array| array.length())
    }

    /// Keeps a value between turns.
    pub fn keep(&self, value: Value<'s>) -> Global {
        Global(v8::Global::new(&self.0, value.0))
    }

    /// A kept value.
    #[inline]
    pub fn open(&self, global: &Global) -> Value<'s> {
        Value(v8::Local::new(&self.0, &global.0))
    }

    /// Calls a function with `undefined` as `this`. Microtasks do not run.
    #[inline]
    pub fn call(&mut self, function: Value<'s>, args: &[Value<'s>]) -> Result<Value<'s>, CallError<'s>> {
        let Ok(function) = v8::Local::<v8::Function>::try_from(function.0) else {
            let text = self.string("not a function");
            return Err(CallError::Thrown(self.error_object(ErrorClass::Type, text)));
        };
        // SAFETY: `Value` is a transparent wrapper of `Local<Value>`.
        let args = unsafe { std::slice::from_raw_parts(args.as_ptr().cast::<v8::Local<'s, v8::Value>>(), args.len()) };
        v8::tc_scope!(let tc, &mut self.0);
        let receiver = v8::undefined(tc).into();
        match crate::stack::in_v8(|| function.call(tc, receiver, args)) {
            Some(value) => Ok(Value(value)),
            None if tc.has_terminated() || !tc.can_continue() => Err(CallError::Ended),
            None => Err(tc.exception().map_or(CallError::Ended, |thrown| CallError::Thrown(Value(thrown)))),
        }
    }

    /// Runs microtasks until there is none, those that they make included.
    #[inline]
    pub fn run_microtasks(&mut self) {
        crate::stack::in_v8(|| self.0.perform_microtask_checkpoint());
    }

    /// Runs what V8 has put off for this isolate, each with the microtasks that it makes: callbacks of `FinalizationRegistry`, steps
    /// of an incremental collection. Whether there was anything; only a collection makes such work.
    #[inline]
    pub fn run_tasks(&mut self) -> bool {
        self.inner().memory.take_collected() && self.run_tasks_now()
    }

    #[cold]
    fn run_tasks_now(&mut self) -> bool {
        let platform = v8::V8::get_current_platform();
        let begun = clock::ticks();
        for ran in 0..TASKS_MAX {
            if clock::ticks_to_ns(clock::ticks() - begun) > TASKS_NS {
                break;
            }
            let isolate: &v8::Isolate = &self.0;
            if !crate::stack::in_v8(|| v8::Platform::pump_message_loop(&platform, isolate, false)) {
                return ran > 0;
            }
            if self.ending() {
                return true;
            }
            self.run_microtasks();
        }
        // There may be more: as if there had been a collection.
        self.inner().memory.set_collected();
        true
    }

    /// Starts a full collection that gives back what memory is then free. [`Scope::run_tasks`] does it, a little in each turn;
    /// [`Isolate::collecting`](crate::Isolate::collecting) says when it is over.
    pub fn start_collection(&mut self) {
        crate::stack::in_v8(|| self.0.memory_pressure_notification(v8::MemoryPressureLevel::Moderate));
        self.inner().memory.set_collected();
    }

    /// What such work has thrown. Empties the list.
    pub fn thrown_by_tasks(&mut self) -> Vec<Value<'s>> {
        let thrown = self.inner().thrown.take();
        thrown.iter().map(|error| Value(v8::Local::new(&self.0, error))).collect()
    }

    /// Rejections since the last call that [`Scope::unhandled_rejections`] had no room for.
    pub fn dropped_rejections(&mut self) -> u64 {
        self.inner().rejections_dropped.take()
    }

    /// The value that follows the flow of control: set for a call, it is there again in each continuation of it.
    #[inline]
    pub fn flow(&self) -> Value<'s> {
        Value(self.0.get_continuation_preserved_embedder_data())
    }

    /// Sets what [`Scope::flow`] gives from here on.
    #[inline]
    pub fn set_flow(&mut self, value: Value<'s>) {
        self.0.set_continuation_preserved_embedder_data(value.0);
    }

    /// Whether a limit is ending this turn.
    pub fn ending(&self) -> bool {
        self.0.is_execution_terminating()
    }

    /// The class whose objects [`OpError::dom`](crate::OpError::dom) throws; called with (message, name).
    pub fn set_dom_exception(&mut self, class: Value<'s>) {
        if let Ok(class) = v8::Local::<v8::Function>::try_from(class.0) {
            let class = v8::Global::new(&self.0, class);
            self.inner().dom_exception.replace(Some(class));
        }
    }

    /// Rejected promises, each with its reason, that had no handler when that happened and still have none. Empties the list.
    pub fn unhandled_rejections(&mut self) -> Vec<(Value<'s>, Value<'s>)> {
        let inner = self.inner();
        if inner.rejections.borrow().is_empty() {
            return Vec::new();
        }
        let rejections = inner.rejections.take();
        let promises = rejections.iter().map(|promise| v8::Local::new(&self.0, promise));
        let unhandled = promises.filter(|promise| !promise.has_handler());
        let unhandled: Vec<_> =
            unhandled.map(|promise| (Value(promise.into()), Value(promise.result(&self.0)))).collect();
        self.inner().unhandled.set(self.inner().unhandled.get() || !unhandled.is_empty());
        unhandled
    }

    /// Promises that got a handler after [`Scope::unhandled_rejections`] may have given them. Empties the list.
    pub fn handled_rejections(&mut self) -> Vec<Value<'s>> {
        let handled = self.inner().handled.take();
        handled.iter().map(|promise| Value(v8::Local::new(&self.0, promise).into())).collect()
    }

    pub(crate) fn error_object(&self, class: ErrorClass, message: Value<'s>) -> Value<'s> {
        let message = v8::Local::<v8::String>::try_from(message.0).unwrap_or_else(|_| v8::String::empty(&self.0));
        Value(match class {
            ErrorClass::Error => v8::Exception::error(&self.0, message),
            ErrorClass::Type => v8::Exception::type_error(&self.0, message),
            ErrorClass::Range => v8::Exception::range_error(&self.0, message),
            ErrorClass::Syntax => v8::Exception::syntax_error(&self.0, message),
        })
    }
}

/// Native error classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    Error,
    Type,
    Range,
    Syntax,
}
