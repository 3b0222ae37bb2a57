//! What an object is inside, whatever its prototype says: for inspection, which must run nothing of the object's.

use crate::value::Value;

/// Kinds of objects by their internal slots. The numbers are shown to JavaScript (worker-api's `inspect.js`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    /// None of the others: a plain object, an instance of a class, a primitive.
    Other = 0,
    /// An array.
    Array = 1,
    /// A `Date`.
    Date = 2,
    /// A `RegExp`.
    RegExp = 3,
    /// A `Map`.
    Map = 4,
    /// A `Set`.
    Set = 5,
    /// A `WeakMap`.
    WeakMap = 6,
    /// A `WeakSet`.
    WeakSet = 7,
    /// A native promise.
    Promise = 8,
    /// A `Proxy`.
    Proxy = 9,
    /// A native error.
    Error = 10,
    /// An `ArrayBuffer`.
    ArrayBuffer = 11,
    /// A typed array.
    TypedArray = 12,
    /// A `DataView`.
    DataView = 13,
    /// A `SharedArrayBuffer`.
    SharedArrayBuffer = 14,
    /// `new String`, `new Number` and the like.
    Boxed = 15,
    /// An arguments object.
    Arguments = 16,
    /// A module's namespace.
    Module = 17,
    /// A function or class.
    Function = 18,
    /// A generator object.
    Generator = 19,
    /// An iterator of a map or a set.
    Iterator = 20,
}

impl Value<'_> {
    /// What the value is inside.
    pub fn kind(self) -> Kind {
        let value = self.0;
        if !value.is_object() {
            Kind::Other
        } else if value.is_proxy() {
            Kind::Proxy
        } else if value.is_function() {
            Kind::Function
        } else if value.is_array() {
            Kind::Array
        } else if value.is_native_error() {
            Kind::Error
        } else if value.is_promise() {
            Kind::Promise
        } else if value.is_date() {
            Kind::Date
        } else if value.is_reg_exp() {
            Kind::RegExp
        } else if value.is_map() {
            Kind::Map
        } else if value.is_set() {
            Kind::Set
        } else if value.is_typed_array() {
            Kind::TypedArray
        } else if value.is_data_view() {
            Kind::DataView
        } else if value.is_array_buffer() {
            Kind::ArrayBuffer
        } else if value.is_shared_array_buffer() {
            Kind::SharedArrayBuffer
        } else {
            self.rare_kind()
        }
    }

    fn rare_kind(self) -> Kind {
        let value = self.0;
        if value.is_boolean_object()
            || value.is_number_object()
            || value.is_string_object()
            || value.is_symbol_object()
            || value.is_big_int_object()
        {
            Kind::Boxed
        } else if value.is_weak_map() {
            Kind::WeakMap
        } else if value.is_weak_set() {
            Kind::WeakSet
        } else if value.is_arguments_object() {
            Kind::Arguments
        } else if value.is_module_namespace_object() {
            Kind::Module
        } else if value.is_generator_object() {
            Kind::Generator
        } else if value.is_map_iterator() || value.is_set_iterator() {
            Kind::Iterator
        } else {
            Kind::Other
        }
    }
}
