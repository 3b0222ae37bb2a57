//! Native functions for JavaScript.
//!
//! *Invariants:* a native function's panic is caught here, before V8's frames; the isolate then ends its turn with
//! [`Ended::Panic`](crate::Ended::Panic) and runs no other. A native function never calls JavaScript and runs no microtasks.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
};

use crate::{
    scope::{ErrorClass, Scope},
    value::Value,
};

/// Arguments of a call.
#[repr(transparent)]
pub struct Args<'s>(v8::FunctionCallbackArguments<'s>);

/// What a native function gives.
pub type OpResult<'s> = Result<Value<'s>, OpError>;

/// An exception to be thrown.
#[derive(Debug)]
pub struct OpError {
    class: Class,
    message: Cow<'static, str>,
}

#[derive(Debug)]
enum Class {
    Native(ErrorClass),
    Dom(&'static str),
}

impl OpError {
    /// `Error`.
    pub fn error(message: impl Into<Cow<'static, str>>) -> OpError {
        OpError { class: Class::Native(ErrorClass::Error), message: message.into() }
    }

    /// `TypeError`.
    pub fn type_error(message: impl Into<Cow<'static, str>>) -> OpError {
        OpError { class: Class::Native(ErrorClass::Type), message: message.into() }
    }

    /// `RangeError`.
    pub fn range_error(message: impl Into<Cow<'static, str>>) -> OpError {
        OpError { class: Class::Native(ErrorClass::Range), message: message.into() }
    }

    /// `SyntaxError`.
    pub fn syntax_error(message: impl Into<Cow<'static, str>>) -> OpError {
        OpError { class: Class::Native(ErrorClass::Syntax), message: message.into() }
    }

    /// `DOMException` of that name (Web IDL §2.8.1).
    pub fn dom(name: &'static str, message: impl Into<Cow<'static, str>>) -> OpError {
        OpError { class: Class::Dom(name), message: message.into() }
    }

    /// What allocations past the isolate's memory throw.
    pub fn out_of_memory() -> OpError {
        OpError::range_error("Array buffer allocation failed")
    }
}

impl<'s> Args<'s> {
    /// The argument at `index`; `undefined` past the last.
    #[inline]
    pub fn get(&self, index: usize) -> Value<'s> {
        Value(self.0.get(index as i32))
    }

    /// Number of arguments.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.length() as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number.
    #[inline]
    pub fn number(&self, index: usize) -> Result<f64, OpError> {
        self.get(index).as_f64().ok_or_else(|| wrong(index, "a number"))
    }

    /// An integer of 0 to 2⁵³; fractions are cut, NaN is 0.
    #[inline]
    pub fn id(&self, index: usize) -> Result<u64, OpError> {
        self.number(index).map(|number| number as u64)
    }

    /// A string.
    pub fn string(&self, cx: &mut Scope<'s, '_>, index: usize) -> Result<String, OpError> {
        cx.text(self.get(index)).ok_or_else(|| wrong(index, "a string"))
    }

    /// A copy of the bytes of a buffer or a view.
    pub fn bytes(&self, cx: &mut Scope<'s, '_>, index: usize) -> Result<Vec<u8>, OpError> {
        cx.bytes(self.get(index)).ok_or_else(|| wrong(index, "a buffer"))
    }

    /// Truthiness of an argument that should be a boolean.
    pub fn flag(&self, index: usize) -> bool {
        self.get(index).is_true()
    }
}

fn wrong(index: usize, wanted: &str) -> OpError {
    OpError::type_error(format!("argument {} is not {wanted}", index + 1))
}

/// A native function, found by its type: nothing is stored for it.
pub trait Op: for<'a, 's, 'i> Fn(&'a mut Scope<'s, 'i>, &'a Args<'s>) -> OpResult<'s> + Copy + 'static {}

impl<F> Op for F where F: for<'a, 's, 'i> Fn(&'a mut Scope<'s, 'i>, &'a Args<'s>) -> OpResult<'s> + Copy + 'static {}

/// Native functions by name.
#[derive(Default)]
pub struct OpTable {
    ops: Vec<(&'static str, v8::FunctionCallback)>,
}

impl OpTable {
    /// An empty table.
    pub fn new() -> OpTable {
        OpTable::default()
    }

    /// Adds a function. `op` is a function item or a closure without captures; anything else does not compile.
    pub fn add<F: Op>(&mut self, name: &'static str, op: F) {
        const { assert!(size_of::<F>() == 0, "a native function carries no data") };
        debug_assert!(self.ops.iter().all(|(other, _)| *other != name), "{name} is registered twice");
        let _found_by_type = op;
        self.ops.push((name, trampoline::<F>));
    }

    /// The addresses that V8 calls, for the snapshot.
    pub(crate) fn callbacks(&self) -> impl Iterator<Item = v8::FunctionCallback> {
        self.ops.iter().map(|(_, callback)| *callback)
    }

    /// An object with all functions as properties.
    pub fn object<'s>(&self, scope: &mut Scope<'s, '_>) -> Value<'s> {
        let object = scope.object();
        for (name, callback) in &self.ops {
            let builder = v8::Function::builder_raw(*callback).constructor_behavior(v8::ConstructorBehavior::Throw);
            if let Some(function) = builder.build(&scope.0) {
                scope.set(object, name, Value(function.into()));
            }
        }
        object
    }
}

unsafe extern "C" fn trampoline<F: Op>(info: *const v8::FunctionCallbackInfo) {
    // SAFETY: V8 passes a valid reference for the time of the call.
    let info = unsafe { &*info };
    v8::callback_scope!(unsafe scope, info);
    let args = Args(v8::FunctionCallbackArguments::from_function_callback_info(info));
    let mut ret = v8::ReturnValue::from_function_callback_info(info);
    // SAFETY: `F` has size 0 (checked in `add`), so reading it reads nothing; a value of it existed there and it is `Copy`.
    let op = unsafe { NonNull::<F>::dangling().read() };
    let scope: &mut v8::PinScope<'_, '_> = scope;
    let cx = Scope::wrap(scope);
    match crate::stack::in_native(|| catch_unwind(AssertUnwindSafe(|| op(cx, &args)))) {
        Ok(Ok(value)) => ret.set(value.0),
        Ok(Err(error)) => throw(cx, &error),
        Err(panic) => {
            cx.inner().set_panic(&*panic);
            crate::turn::terminate_current();
        }
    }
}

#[cold]
fn throw<'s>(cx: &mut Scope<'s, '_>, error: &OpError) {
    let message = cx.string(&error.message);
    let exception = match error.class {
        Class::Native(class) => cx.error_object(class, message),
        Class::Dom(name) => dom_exception(cx, name, message),
    };
    cx.0.throw_exception(exception.0);
}

/// `new DOMException(message, name)`; an `Error` while the class is not known.
fn dom_exception<'s>(cx: &mut Scope<'s, '_>, name: &str, message: Value<'s>) -> Value<'s> {
    let class = cx.inner().dom_exception.borrow().as_ref().map(|class| v8::Local::new(&cx.0, class));
    let name = cx.string(name);
    let made = class.and_then(|class| class.new_instance(&cx.0, &[message.0, name.0]));
    made.map_or_else(|| cx.error_object(ErrorClass::Error, message), |object| Value(object.into()))
}
