//! Values of JavaScript as the rest of the node sees them: opaque, and bound to a turn ([`Value`]) or kept between
//! turns ([`Global`]).

/// A JavaScript value, valid within the turn whose [`Scope`](crate::Scope) gave it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Value<'s>(pub(crate) v8::Local<'s, v8::Value>);

/// A JavaScript value kept between turns. Harmless once its isolate is gone.
pub struct Global(pub(crate) v8::Global<v8::Value>);

/// State of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromiseState<T> {
    /// Neither kept nor broken yet.
    Pending,
    /// Fulfilled with the value.
    Fulfilled(T),
    /// Rejected with the reason.
    Rejected(T),
}

impl<'s> Value<'s> {
    /// `undefined`.
    pub fn is_undefined(self) -> bool {
        self.0.is_undefined()
    }

    /// `undefined` or `null`.
    pub fn is_null_or_undefined(self) -> bool {
        self.0.is_null_or_undefined()
    }

    /// A string primitive.
    pub fn is_string(self) -> bool {
        self.0.is_string()
    }

    /// Something that can be called.
    pub fn is_function(self) -> bool {
        self.0.is_function()
    }

    /// An object, functions included.
    pub fn is_object(self) -> bool {
        self.0.is_object()
    }

    /// An array.
    pub fn is_array(self) -> bool {
        self.0.is_array()
    }

    /// A native promise.
    pub fn is_promise(self) -> bool {
        self.0.is_promise()
    }

    /// An `ArrayBuffer`, `SharedArrayBuffer` or a view of one.
    pub fn is_bytes(self) -> bool {
        self.0.is_array_buffer_view() || self.0.is_array_buffer() || self.0.is_shared_array_buffer()
    }

    /// A native error object.
    pub fn is_native_error(self) -> bool {
        self.0.is_native_error()
    }

    /// `true` itself (not merely truthy).
    pub fn is_true(self) -> bool {
        self.0.is_true()
    }

    /// The number, if it is one.
    #[inline]
    pub fn as_f64(self) -> Option<f64> {
        v8::Local::<v8::Number>::try_from(self.0).ok().map(|number| number.value())
    }

    /// Whether both are the same value (`===`, but NaN is itself).
    pub fn same(self, other: Value<'_>) -> bool {
        self.0.same_value(other.0)
    }

    /// State of a native promise; `None` for anything else.
    pub fn promise_state(self, scope: &crate::Scope<'s, '_>) -> Option<PromiseState<Value<'s>>> {
        let promise = v8::Local::<v8::Promise>::try_from(self.0).ok()?;
        Some(match promise.state() {
            v8::PromiseState::Pending => PromiseState::Pending,
            v8::PromiseState::Fulfilled => PromiseState::Fulfilled(Value(promise.result(&scope.0))),
            v8::PromiseState::Rejected => PromiseState::Rejected(Value(promise.result(&scope.0))),
        })
    }

    /// Says that somebody looks after a promise's rejection.
    pub fn mark_handled(self) {
        if let Ok(promise) = v8::Local::<v8::Promise>::try_from(self.0) {
            promise.mark_as_handled();
        }
    }
}
