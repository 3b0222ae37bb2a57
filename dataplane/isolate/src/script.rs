//! The runtime's own scripts.

use crate::{
    scope::{CallError, Scope},
    value::Value,
};

/// Text of a script of the runtime. V8 reads it where it is: no heap holds a copy.
pub struct Source(v8::OneByteConst);

/// When a script's functions are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compile {
    /// With the script: they are in the snapshot.
    Eager,
    /// Each when it is first called, by each isolate that calls it.
    Lazy,
}

/// Why a script of the runtime did not run: a defect of this program, found by any test.
#[derive(Debug)]
pub struct ScriptError {
    /// Message with the place.
    pub message: String,
}

impl Source {
    /// Text of ASCII; any other does not compile.
    pub const fn new(text: &'static str) -> Source {
        Source(v8::String::create_external_onebyte_const(text.as_bytes()))
    }

    /// What a snapshot refers to.
    pub(crate) fn address(&'static self) -> *mut std::ffi::c_void {
        (&raw const self.0).cast_mut().cast()
    }
}

impl<'s> Scope<'s, '_> {
    /// Runs a script and gives its completion value.
    pub fn run_script(
        &mut self,
        name: &'static str,
        source: &'static Source,
        compile: Compile,
    ) -> Result<Value<'s>, ScriptError> {
        let done = self.try_script(name, source, compile);
        done.map_err(|error| error.unwrap_or_else(|| ScriptError { message: "ended".to_owned() }))
    }

    /// The same for a file that an isolate needs long after its start, called by a native function. `undefined` where a limit
    /// ends the turn, which it goes on to do.
    pub fn run_late_script(&mut self, name: &'static str, source: &'static Source) -> Result<Value<'s>, ScriptError> {
        match self.try_script(name, source, Compile::Lazy) {
            Ok(value) => Ok(value),
            Err(Some(error)) => Err(error),
            Err(None) => {
                crate::turn::terminate_current();
                Ok(self.undefined())
            }
        }
    }

    /// An error of `None`: it was ended.
    fn try_script(
        &mut self,
        name: &'static str,
        source: &'static Source,
        compile: Compile,
    ) -> Result<Value<'s>, Option<ScriptError>> {
        let name = self.string(name);
        v8::tc_scope!(let tc, &mut self.0);
        let text = v8::String::new_from_onebyte_const(tc, &source.0).unwrap_or_else(|| v8::String::empty(tc));
        let origin = v8::ScriptOrigin::new(tc, name.0, 0, 0, false, -1, None, false, false, false, None);
        let mut source = v8::script_compiler::Source::new(text, Some(&origin));
        let options = match compile {
            Compile::Eager => v8::script_compiler::CompileOptions::EagerCompile,
            Compile::Lazy => v8::script_compiler::CompileOptions::NoCompileOptions,
        };
        let no_reason = v8::script_compiler::NoCacheReason::NoReason;
        let script = v8::script_compiler::compile(tc, &mut source, options, no_reason);
        if let Some(value) = script.and_then(|script| script.run(tc)) {
            return Ok(Value(value));
        }
        if tc.has_terminated() || !tc.can_continue() {
            return Err(None);
        }
        let Some(message) = tc.message() else { return Err(None) };
        let line = message.get_line_number(tc).unwrap_or(0);
        let text = message.get(tc).to_rust_string_lossy(tc);
        Err(Some(ScriptError { message: format!("line {line}: {text}") }))
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
