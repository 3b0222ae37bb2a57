//! Rust values that JavaScript holds: opaque objects, dropped when the garbage collector finds them unreachable or the
//! isolate ends.

use std::{any::Any, cell::RefCell, collections::HashSet, rc::Rc};

use crate::{scope::Scope, value::Value};

/// Tag of the internal field; any constant of ours.
const TAG: u16 = 1;

/// The boxes of an isolate's handles. Whoever takes one out drops it: the finalizer, or the isolate's end.
#[derive(Clone, Default)]
pub(crate) struct Handles(Rc<RefCell<HashSet<*mut Box<dyn Any>>>>);

impl Handles {
    /// All of them.
    pub(crate) fn take(&self) -> HashSet<*mut Box<dyn Any>> {
        self.0.take()
    }
}

impl<'s> Scope<'s, '_> {
    /// Wraps a value in an object without properties. `None` where the heap is full.
    pub fn handle<T: 'static>(&mut self, value: T) -> Option<Value<'s>> {
        let template = self.handle_template();
        let object = template.new_instance(&self.0)?;
        let boxed: *mut Box<dyn Any> = Box::into_raw(Box::new(Box::new(value)));
        object.set_aligned_pointer_in_internal_field(0, boxed.cast(), TAG);
        let handles = self.inner().handles.clone();
        handles.0.borrow_mut().insert(boxed);
        let finalizer = Box::new(move || {
            let ours = handles.0.borrow_mut().remove(&boxed);
            if ours {
                // SAFETY: made by `Box::into_raw` above and taken out of the list, once, when nothing can reach the object.
                drop(unsafe { Box::from_raw(boxed) });
            }
        });
        let weak = v8::Weak::with_guaranteed_finalizer(&mut self.0, object, finalizer);
        // The finalizer stays registered with the isolate when the handle itself is given away.
        let _leaked = weak.into_raw();
        Some(Value(object.into()))
    }

    /// Uses a wrapped value. `None` if `object` wraps no `T`.
    pub fn with_handle<T: 'static, R>(&mut self, object: Value<'s>, with: impl FnOnce(&mut T) -> R) -> Option<R> {
        let object = v8::Local::<v8::Object>::try_from(object.0).ok()?;
        if object.internal_field_count() != 1 || !self.is_handle(object) {
            return None;
        }
        // SAFETY: an instance of our template has this field set, to a box that lives as long as the object does.
        let boxed = unsafe { object.get_aligned_pointer_from_internal_field(0, TAG) };
        // SAFETY: as above; the scope is borrowed, so no second reference exists.
        let value = unsafe { &mut *boxed.cast::<Box<dyn Any>>().cast_mut() };
        value.downcast_mut::<T>().map(with)
    }

    /// Objects of no other template of this crate have internal fields; V8's own (array buffers and views) have two.
    fn is_handle(&self, object: v8::Local<'s, v8::Object>) -> bool {
        !object.is_array_buffer() && !object.is_array_buffer_view() && !object.is_promise()
    }

    fn handle_template(&mut self) -> v8::Local<'s, v8::ObjectTemplate> {
        let known = self.inner().handle_template.borrow().as_ref().map(|known| v8::Local::new(&self.0, known));
        known.unwrap_or_else(|| {
            let template = v8::ObjectTemplate::new(&self.0);
            template.set_internal_field_count(1);
            self.inner().handle_template.replace(Some(v8::Global::new(&self.0, template)));
            template
        })
    }
}
