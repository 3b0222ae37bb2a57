//! A tenant's ES module: compiling, from source or from V8's code cache, with the place of a syntax error, and evaluating,
//! top-level `await` included.
//!
//! *Does not:* load anything: what a module imports is the runtime's own, see `imports`. Nor does it check a code
//! cache: V8 looks at version, flags and the source's length, and in a release build not at the code itself, so whoever
//! gives one here has verified every byte of it.

use v8::script_compiler::{CachedData, CompileOptions, Source};

use crate::{
    scope::Scope,
    value::{Global, PromiseState, Value},
};

/// Why a module did not compile or link: a `ModuleError` of what `$tc` caught. `$module`, if there is one, has a refused import as
/// its request `$refused`: that is reported without a place, but the statement itself has one.
macro_rules! caught {
    ($tc:ident, $module:expr, $refused:expr) => {{
        let module: Option<v8::Local<'_, v8::Module>> = $module;
        match $tc.message() {
            _ if $tc.has_terminated() || !$tc.can_continue() => ModuleError::Ended,
            None => ModuleError::Ended,
            Some(message) => {
                let mut text = message.get($tc).to_rust_string_lossy($tc);
                if let Some(rest) = text.strip_prefix("Uncaught ") {
                    text = rest.to_owned();
                }
                let request = module.filter(|_| message.get_line_number($tc).unwrap_or(0) == 0).and_then(|module| {
                    let request = module.get_module_requests().get($tc, $refused)?;
                    let request = v8::Local::<v8::ModuleRequest>::try_from(request).ok()?;
                    Some(module.source_offset_to_location(request.get_source_offset()))
                });
                let (line, column) = match request {
                    Some(place) => (place.get_line_number() + 1, place.get_column_number() + 1),
                    None => {
                        (message.get_line_number($tc).unwrap_or(0).max(1) as i32, message.get_start_column() as i32 + 1)
                    }
                };
                ModuleError::Syntax { message: text, line: line as u32, column: column as u32 }
            }
        }
    }};
}
pub(crate) use caught;

/// Why a module cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// It does not compile.
    Syntax {
        /// V8's message.
        message: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
    },
    /// A limit ended it; the turn says which.
    Ended,
}

/// Where a module's code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleCode<'a> {
    /// Compiled from source, each function when it is first called.
    Lazy,
    /// Compiled from source, every function at once.
    Eager,
    /// What [`Scope::code_cache`] gave for the same source. **Verified by the caller:** bytes that V8 did not write may do
    /// anything.
    Cached(&'a [u8]),
}

/// A compiled module, kept between turns.
pub struct ModuleState {
    module: v8::Global<v8::Module>,
    done: Option<Global>,
    cache_rejected: bool,
}

impl ModuleState {
    pub(crate) fn module(&self) -> &v8::Global<v8::Module> {
        &self.module
    }

    /// Whether V8 refused the code cache it was given (another version, other flags, another source) and compiled from
    /// source.
    pub fn cache_rejected(&self) -> bool {
        self.cache_rejected
    }
}

impl<'s> Scope<'s, '_> {
    /// Compiles a module, which is to be linked. `name` is what stacks call it.
    pub fn compile_module(
        &mut self,
        name: &str,
        source: &str,
        code: ModuleCode<'_>,
    ) -> Result<ModuleState, ModuleError> {
        let too_long = || ModuleError::Syntax { message: "the module is too long".to_owned(), line: 1, column: 1 };
        let text = self.string_from_utf8(source.as_bytes()).ok_or_else(too_long)?;
        let name = self.string(name);
        v8::tc_scope!(let tc, &mut self.0);
        let text = v8::Local::<v8::String>::try_from(text.0).map_err(|_| too_long())?;
        let origin = v8::ScriptOrigin::new(tc, name.0, 0, 0, false, -1, None, false, false, true, None);
        let (mut source, options) = match code {
            ModuleCode::Lazy => (Source::new(text, Some(&origin)), CompileOptions::NoCompileOptions),
            ModuleCode::Eager => (Source::new(text, Some(&origin)), CompileOptions::EagerCompile),
            ModuleCode::Cached(code) => (
                Source::new_with_cached_data(text, Some(&origin), CachedData::new(code)),
                CompileOptions::ConsumeCodeCache,
            ),
        };
        let no_reason = v8::script_compiler::NoCacheReason::NoReason;
        let module = crate::stack::in_v8(|| v8::script_compiler::compile_module2(tc, &mut source, options, no_reason));
        let cache_rejected = source.get_cached_data().is_some_and(|data| data.rejected());
        match module {
            Some(module) => Ok(ModuleState { module: v8::Global::new(tc, module), done: None, cache_rejected }),
            None => Err(caught!(tc, None, 0)),
        }
    }

    /// Runs a module's top level up to its end or first `await`. Microtasks do not run.
    pub fn start_module(&mut self, state: &mut ModuleState) -> Result<(), ModuleError> {
        v8::tc_scope!(let tc, &mut self.0);
        let module = v8::Local::new(tc, &state.module);
        match crate::stack::in_v8(|| module.evaluate(tc)) {
            Some(promise) => {
                if let Ok(promise) = v8::Local::<v8::Promise>::try_from(promise) {
                    promise.mark_as_handled();
                }
                state.done = Some(Global(v8::Global::new(tc, promise)));
                Ok(())
            }
            None => Err(ModuleError::Ended),
        }
    }

    /// Compiled code of a module as it is now, for [`ModuleCode::Cached`]: of the functions that were compiled so far. `None`
    /// if V8 has none to give. Runs no JavaScript.
    pub fn code_cache(&mut self, state: &ModuleState) -> Option<Vec<u8>> {
        let module = v8::Local::new(&self.0, &state.module);
        let script = module.get_unbound_module_script(&self.0);
        let code = crate::stack::in_v8(|| script.create_code_cache())?;
        Some(code.to_vec())
    }

    /// How far a started module is.
    pub fn module_progress(&mut self, state: &ModuleState) -> PromiseState<Value<'s>> {
        let done = state.done.as_ref().map(|done| self.open(done));
        done.and_then(|done| done.promise_state(self)).unwrap_or(PromiseState::Pending)
    }

    /// An export of an evaluated module; `None` if there is none of that name.
    pub fn module_export(&mut self, state: &ModuleState, name: &str) -> Option<Value<'s>> {
        let module = v8::Local::new(&self.0, &state.module);
        let namespace = Value(module.get_module_namespace());
        self.get(namespace, name).filter(|value| !value.is_undefined())
    }

    /// The object whose properties an evaluated module's exports are.
    pub fn module_exports(&mut self, state: &ModuleState) -> Value<'s> {
        let module = v8::Local::new(&self.0, &state.module);
        Value(module.get_module_namespace())
    }

    /// Line and column, from 1, of where a thrown value was made, if V8 knows.
    pub fn place_of(&mut self, thrown: Value<'s>) -> Option<(u32, u32)> {
        let message = v8::Exception::create_message(&self.0, thrown.0);
        let line = message.get_line_number(&self.0)?;
        Some((u32::try_from(line).ok()?, u32::try_from(message.get_start_column()).ok()? + 1))
    }
}
