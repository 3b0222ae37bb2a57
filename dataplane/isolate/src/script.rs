//! The runtime's own scripts, and the cache of their compiled code.

use std::sync::OnceLock;

use crate::{
    scope::{CallError, Scope},
    value::Value,
};

/// Compiled code of one script, for every isolate of the process after the first.
#[derive(Default)]
pub struct CodeCache(OnceLock<Box<[u8]>>);

/// Why a script of the runtime did not run: a defect of this program, found by any test.
#[derive(Debug)]
pub struct ScriptError {
    /// Message with the place.
    pub message: String,
}

impl CodeCache {
    /// An empty cache.
    pub const fn new() -> CodeCache {
        CodeCache(OnceLock::new())
    }
}

impl<'s> Scope<'s, '_> {
    /// Runs a script and gives its completion value.
    pub fn run_script(
        &mut self,
        name: &'static str,
        source: &'static str,
        cache: &CodeCache,
    ) -> Result<Value<'s>, ScriptError> {
        let source = self.string(source);
        let name = self.string(name);
        v8::tc_scope!(let tc, &mut self.0);
        let text = v8::Local::<v8::String>::try_from(source.0).unwrap_or_else(|_| v8::String::empty(tc));
        let origin = v8::ScriptOrigin::new(tc, name.0, 0, 0, false, -1, None, false, false, false, None);
        let cached = cache.0.get();
        let (mut source, options) = match cached {
            Some(code) => (
                v8::script_compiler::Source::new_with_cached_data(
                    text,
                    Some(&origin),
                    v8::script_compiler::CachedData::new(code),
                ),
                v8::script_compiler::CompileOptions::ConsumeCodeCache,
            ),
            None => (
                v8::script_compiler::Source::new(text, Some(&origin)),
                v8::script_compiler::CompileOptions::EagerCompile,
            ),
        };
        let no_reason = v8::script_compiler::NoCacheReason::NoReason;
        let script = v8::script_compiler::compile(tc, &mut source, options, no_reason);
        let value = script.and_then(|script| script.run(tc).map(|value| (script, value)));
        let Some((script, value)) = value else {
            let message = tc.message();
            let text = message.map_or_else(
                || "ended".to_owned(),
                |message| {
                    let line = message.get_line_number(tc).unwrap_or(0);
                    let text = message.get(tc).to_rust_string_lossy(tc);
                    format!("line {line}: {text}")
                },
            );
            return Err(ScriptError { message: text });
        };
        if cached.is_none()
            && let Some(code) = script.get_unbound_script(tc).create_code_cache()
        {
            // Another thread may have been first; its code is as good.
            let _first = cache.0.set(Box::from(&code[..]));
        }
        Ok(Value(value))
    }

    /// Like [`Scope::call`], for the runtime's own functions, which do not throw.
    pub fn call_own(&mut self, function: Value<'s>, args: &[Value<'s>]) -> Result<Value<'s>, ScriptError> {
        self.call(function, args).map_err(|error| match error {
            CallError::Thrown(value) => {
                let text = self.get(value, "stack").and_then(|stack| self.text(stack));
                ScriptError { message: text.unwrap_or_else(|| "thrown".to_owned()) }
            }
            CallError::Ended => ScriptError { message: "ended by a limit".to_owned() },
        })
    }
}
