//! WebAssembly: modules that were deployed, compiled by the runtime; a tenant's own JavaScript compiles none.
//!
//! *Does not:* count memory: V8 gets the memories, and pages for code, from its page allocator, see `pages`.
//! *Invariant:* bytes that a program makes are never compiled: V8 keeps types of all modules in one table of the process that only
//! grows, so what may enter it is what validation has seen. See docs/decisions/2026-11-22-webassembly.md.

use crate::{scope::Scope, value::Value};

impl<'s> Scope<'s, '_> {
    /// A `WebAssembly.Module` of these bytes; an error has V8's words.
    pub fn compile_wasm(&mut self, bytes: &[u8]) -> Result<Value<'s>, String> {
        v8::tc_scope!(let tc, &mut self.0);
        match crate::stack::in_v8(|| v8::WasmModuleObject::compile(tc, bytes)) {
            Some(module) => Ok(Value(module.into())),
            None => match tc.message() {
                Some(message) if tc.can_continue() => {
                    let text = message.get(tc).to_rust_string_lossy(tc);
                    let text = text.strip_prefix("Uncaught ").unwrap_or(&text);
                    Err(text.to_owned())
                }
                _ => Err("it needs too much memory or time".to_owned()),
            },
        }
    }

    /// A value from the text of JSON; `None` where it is none.
    pub fn parse_json(&mut self, text: Value<'s>) -> Option<Value<'s>> {
        let text = v8::Local::<v8::String>::try_from(text.0).ok()?;
        v8::tc_scope!(let tc, &mut self.0);
        v8::json::parse(tc, text).map(Value)
    }
}

/// V8 asks whether a program may compile bytes of its own.
pub(crate) unsafe extern "C" fn may_compile(
    _context: v8::Local<'_, v8::Context>,
    _source: v8::Local<'_, v8::String>,
) -> bool {
    false
}
