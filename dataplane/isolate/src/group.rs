//! Isolate groups: a 4 GiB cage for each isolate, so that tenants share no page of heap and no cage can be used up by
//! others.
//!
//! The `v8` crate has no binding for `v8::IsolateGroup`. The archive has its symbols; the linker sends the crate's
//! constructor `v8__Isolate__New` to [`__wrap_v8__Isolate__New`] (see `.cargo/config.toml`), which passes the group that
//! the calling thread has chosen. A binary linked without that flag would put all isolates into one cage;
//! `tests/cages.rs` fails then.
//!
//! *Invariant:* a group is released once, by [`Group`]'s drop, after its isolate took a reference of its own.

use std::{cell::Cell, ffi::c_void, mem::MaybeUninit, ptr};

/// `v8::IsolateGroup`: one pointer, with a destructor, hence returned through a hidden pointer (Itanium C++ ABI 3.1.4).
#[repr(C)]
struct RawGroup(*mut c_void);

unsafe extern "C" {
    /// `static IsolateGroup IsolateGroup::Create()`; the hidden pointer is the first argument.
    #[link_name = "_ZN2v812IsolateGroup6CreateEv"]
    fn group_create(out: *mut RawGroup) -> *mut RawGroup;
    /// `static bool IsolateGroup::CanCreateNewGroups()`.
    #[link_name = "_ZN2v812IsolateGroup18CanCreateNewGroupsEv"]
    fn group_can_create() -> bool;
    /// `IsolateGroup::~IsolateGroup()`: gives the reference back.
    #[link_name = "_ZN2v812IsolateGroupD1Ev"]
    fn group_drop(group: *mut RawGroup);
    /// `static Isolate* Isolate::New(const IsolateGroup&, const CreateParams&)`.
    #[link_name = "_ZN2v87Isolate3NewERKNS_12IsolateGroupERKNS0_12CreateParamsE"]
    fn isolate_new_in(group: *const RawGroup, params: *const c_void) -> *mut c_void;
    fn __real_v8__Isolate__New(params: *const c_void) -> *mut c_void;
}

thread_local! {
    /// The group in which the next isolate of this thread is made; null for the process's default group.
    static CHOSEN: Cell<*const RawGroup> = const { Cell::new(ptr::null()) };
}

/// A reference to an isolate group.
pub(crate) struct Group(RawGroup);

/// Whether this V8 can have more than one group.
pub(crate) fn can_create() -> bool {
    // SAFETY: a static function without arguments that returns a constant of the build.
    unsafe { group_can_create() }
}

impl Group {
    /// Reserves a new cage. V8 ends the process where address space is exhausted (128 TiB, so 20,000 cages).
    pub(crate) fn create() -> Group {
        let mut raw = MaybeUninit::<RawGroup>::uninit();
        // SAFETY: `raw` is the place for the returned object, which the function initialises; V8 is initialised, for
        // an `Engine` exists.
        unsafe {
            group_create(raw.as_mut_ptr());
            Group(raw.assume_init())
        }
    }

    /// Runs `make`, which creates an isolate, so that the isolate is of this group.
    pub(crate) fn within<R>(&self, make: impl FnOnce() -> R) -> R {
        struct Reset(*const RawGroup);
        impl Drop for Reset {
            fn drop(&mut self) {
                CHOSEN.set(self.0);
            }
        }
        let _reset = Reset(CHOSEN.replace(&raw const self.0));
        make()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: `self.0` was made by `group_create` and is dropped once. The isolate holds a reference of its own.
        unsafe { group_drop(&raw mut self.0) };
    }
}

/// Takes the place of the `v8` crate's constructor.
///
/// # Safety
/// As for `v8::Isolate::New`: `params` points to valid creation parameters.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_v8__Isolate__New(params: *const c_void) -> *mut c_void {
    let group = CHOSEN.get();
    if group.is_null() {
        // SAFETY: the caller's promise is passed on.
        unsafe { __real_v8__Isolate__New(params) }
    } else {
        // SAFETY: `CHOSEN` is set only within `Group::within`, which borrows the group.
        unsafe { isolate_new_in(group, params) }
    }
}
