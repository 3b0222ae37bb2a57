//! The modules of a Worker: what of its package is compiled, and what imports lead to.
//!
//! *Owns:* which features a package may ask for. *Invariant:* only parts that the program imports are compiled. *Bounds:* those of
//! `base::package`. *Fails:* with a [`StartError`] that names the part.

use base::package::{Package, PartKind, resolve};
use isolate::{Args, CallError, ModuleCode, ModuleError, ModuleState, OpResult, OpTable, Scope, Target, Value};

use crate::{
    runtime::{Entry, WORKERS_MODULE, is_builtin},
    worker::{StartError, WorkerSpec, threw},
};

/// Behaviours that a package may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// `nodejs_compat`: modules of Node.js can be imported.
    pub(crate) node: bool,
    /// `nodejs_als`: of them `node:async_hooks`.
    pub(crate) async_hooks: bool,
    /// `nodejs_compat_populate_process_env`: `process.env` has the variables of `env`.
    pub(crate) process_env: bool,
}

impl Features {
    /// Those of a package. A name that is not known asks for what this program does not do: it must not run without it.
    pub(crate) fn of(package: &Package<'_>) -> Result<Features, StartError> {
        let mut features = Features::default();
        for name in &package.features {
            match *name {
                "nodejs_compat" => features.node = true,
                "nodejs_als" => features.async_hooks = true,
                "nodejs_compat_populate_process_env" => features.process_env = true,
                other => return Err(StartError::Feature(other.to_owned())),
            }
        }
        Ok(features)
    }

    /// Whether a specifier is that of a built-in module that the Worker may have.
    pub(crate) fn has_builtin(self, specifier: &str) -> bool {
        let hooks = specifier == "node:async_hooks" || specifier == "async_hooks";
        specifier == WORKERS_MODULE || (is_builtin(specifier) && (self.node || (self.async_hooks && hooks)))
    }
}

/// What an import leads to, by its place in `Modules`.
enum Place {
    Code(usize),
    Object(usize),
}

/// Modules while they are found.
struct Modules<'p, 's> {
    package: &'p Package<'p>,
    /// Compiled code and its name; the main module, whose name is empty, first.
    code: Vec<(String, ModuleState)>,
    objects: Vec<(String, Value<'s>)>,
    /// Who imports, the specifier, where to.
    edges: Vec<(usize, String, Place)>,
}

/// Compiles the main module and what it imports, directly or not, and links them. Gives the main module.
pub(crate) fn load<'s>(
    scope: &mut Scope<'s, '_>,
    entry: &Entry,
    spec: &WorkerSpec,
    package: &Package<'_>,
    (env, services): (Value<'s>, Value<'s>),
) -> Result<ModuleState, StartError> {
    let features = Features::of(package)?;
    let source = std::str::from_utf8(package.main).map_err(|_| StartError::NotUtf8)?;
    let code = spec.code_cache.as_ref().map_or(ModuleCode::Lazy, |code| ModuleCode::Cached(code));
    let main = scope.compile_module(&spec.module_name, source, code).map_err(start_error)?;
    let mut modules = Modules { package, code: vec![(String::new(), main)], objects: Vec::new(), edges: Vec::new() };
    if features.node {
        // Its globals are there whether a module is imported or not.
        modules.builtin(scope, entry, "node:timers", (env, services, features.process_env))?;
    }
    let mut at = 0;
    while at < modules.code.len() {
        for specifier in scope.module_imports(&modules.code[at].1) {
            let place = if features.has_builtin(&specifier) {
                Some(modules.builtin(scope, entry, &specifier, (env, services, features.process_env))?)
            } else {
                modules.part(scope, at, &specifier)?
            };
            if let Some(place) = place {
                modules.edges.push((at, specifier, place));
            }
        }
        at += 1;
    }
    let Modules { mut code, objects, edges, .. } = modules;
    let imports: Vec<_> = edges
        .iter()
        .map(|(from, specifier, place)| {
            let target = match place {
                Place::Code(index) => Target::Module(&code[*index].1),
                Place::Object(index) => Target::Object(objects[*index].1),
            };
            (&code[*from].1, &specifier[..], target)
        })
        .collect();
    scope.link_module(&code[0].1, &imports).map_err(start_error)?;
    drop(imports);
    Ok(code.swap_remove(0).1)
}

impl<'s> Modules<'_, 's> {
    fn builtin(
        &mut self,
        scope: &mut Scope<'s, '_>,
        entry: &Entry,
        specifier: &str,
        (env, services, process_env): (Value<'s>, Value<'s>, bool),
    ) -> Result<Place, StartError> {
        if let Some(index) = self.objects.iter().position(|(name, _)| name == specifier) {
            return Ok(Place::Object(index));
        }
        let sees_env = process_env || specifier == WORKERS_MODULE;
        let env = if sees_env { env } else { scope.array(&[]) };
        let args = [scope.string(specifier), env, services];
        let builtin = scope.open(&entry.builtin);
        match scope.call(builtin, &args) {
            Ok(object) => Ok(self.object(specifier.to_owned(), object)),
            Err(CallError::Thrown(reason)) => Err(threw(scope, entry, reason)),
            Err(CallError::Ended) => Err(StartError::CpuLimit),
        }
    }

    fn object(&mut self, name: String, value: Value<'s>) -> Place {
        self.objects.push((name, value));
        Place::Object(self.objects.len() - 1)
    }

    /// The part that an import means; none: there is none, which linking will say with the place of the import.
    fn part(&mut self, scope: &mut Scope<'s, '_>, from: usize, specifier: &str) -> Result<Option<Place>, StartError> {
        let specifier = specifier.strip_suffix("?module").unwrap_or(specifier);
        let Some(name) = resolve(specifier, &self.code[from].0) else { return Ok(None) };
        let Some(part) = self.package.parts.iter().find(|part| part.name == name) else { return Ok(None) };
        if let Some(index) = self.objects.iter().position(|(known, _)| *known == name) {
            return Ok(Some(Place::Object(index)));
        }
        if let Some(index) = self.code.iter().skip(1).position(|(known, _)| *known == name) {
            return Ok(Some(Place::Code(index + 1)));
        }
        let bad = |message: &str| StartError::Part { name: name.clone(), message: message.to_owned() };
        let text = || std::str::from_utf8(part.bytes).map_err(|_| bad("it is not UTF-8"));
        let value = match part.kind {
            PartKind::Code => {
                let module = scope.compile_module(&name, text()?, ModuleCode::Lazy).map_err(|error| match error {
                    ModuleError::Syntax { message, line, column } => {
                        bad(&format!("{message} (line {line}, column {column})"))
                    }
                    ModuleError::Ended => StartError::CpuLimit,
                })?;
                self.code.push((name, module));
                return Ok(Some(Place::Code(self.code.len() - 1)));
            }
            PartKind::Text => Some(scope.string(text()?)),
            PartKind::Data => scope.array_buffer(part.bytes.to_vec()),
            PartKind::Json => {
                let text = scope.string(text()?);
                Some(scope.parse_json(text).ok_or_else(|| bad("it is not JSON"))?)
            }
            PartKind::Wasm => {
                check_wasm(part.bytes).map_err(|message| bad(&message))?;
                Some(scope.compile_wasm(part.bytes).map_err(|message| bad(&message))?)
            }
            PartKind::Feature => None,
        };
        let shown = scope.object();
        scope.set(shown, "default", value.ok_or(StartError::MemoryLimit)?);
        Ok(Some(self.object(name, shown)))
    }
}

/// Adds what `js/webassembly.js` has for itself.
pub(crate) fn register(ops: &mut OpTable) {
    ops.add("wasmTypes", wasm_types);
}

/// `wasmTypes(bytes)`: how many types these bytes may declare.
fn wasm_types<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let types = cx.with_bytes(args.get(0), types_of);
    Ok(cx.number(types.unwrap_or(0) as f64))
}

/// Types that a module of WebAssembly may declare: V8 keeps the types of all modules of the process in one table for ever, with room for
/// two millions.
const WASM_TYPES_MAX: u64 = 10_000;

/// How many types a module may declare: an upper bound. Whether it is a module at all V8 says.
fn types_of(bytes: &[u8]) -> u64 {
    let mut types: u64 = 0;
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((&id, mut after)) = rest.split_first() {
        // A section that is cut short is looked at all the same: its types come before its end.
        let len = leb(&mut after).and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX);
        let (mut section, next) = after.split_at(len.min(after.len()));
        if id == 1 {
            let bytes = section.len() as u64;
            let count = leb(&mut section).unwrap_or(0);
            // A type of a recursive group has at least two bytes, one of its own three.
            let most = if section.contains(&0x4e) { bytes / 2 } else { count.min(bytes) };
            types = types.saturating_add(most);
        }
        rest = next;
    }
    types
}

/// Whether a module has a memory that is to be shared between threads.
fn shares_memory(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((&id, mut after)) = rest.split_first() {
        let len = leb(&mut after).and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX);
        let (mut section, next) = after.split_at(len.min(after.len()));
        if id == 5 {
            for _ in 0..leb(&mut section).unwrap_or(0) {
                let Some(flags) = leb(&mut section) else { break };
                if flags & 2 != 0 {
                    return true;
                }
                // Its least size, and its largest if it has one.
                let _sizes = (leb(&mut section), (flags & 1 != 0).then(|| leb(&mut section)));
            }
        }
        rest = next;
    }
    false
}

fn check_wasm(bytes: &[u8]) -> Result<(), String> {
    if shares_memory(bytes) {
        return Err("its memory is shared between threads, of which a Worker has one".to_owned());
    }
    match types_of(bytes) {
        types if types > WASM_TYPES_MAX => {
            Err(format!("it may declare {types} types; at most {WASM_TYPES_MAX} are allowed"))
        }
        _ => Ok(()),
    }
}

/// A number of the format, LEB128, up to 64 bits.
fn leb(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn start_error(error: ModuleError) -> StartError {
    match error {
        ModuleError::Syntax { message, line, column } => StartError::Syntax { message, line, column },
        // The turn says which limit it was.
        ModuleError::Ended => StartError::CpuLimit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header and a type section that says it has `count` types in `body`.
    fn wasm(count: &[u8], body: &[u8]) -> Vec<u8> {
        let mut section = count.to_vec();
        section.extend_from_slice(body);
        let mut bytes = b"\0asm\x01\0\0\0\x01".to_vec();
        let len = section.len();
        bytes.extend_from_slice(&[len as u8 & 0x7f | 0x80, (len >> 7) as u8 & 0x7f | 0x80, (len >> 14) as u8]);
        bytes.extend_from_slice(&section);
        bytes
    }

    #[test]
    fn types_of_a_module_are_bounded() {
        assert!(check_wasm(&wasm(&[1], b"\x60\0\0")).is_ok());
        assert!(check_wasm(&wasm(&[0x91, 0x4e], &b"\x60\0\0".repeat(10_001))).is_err(), "10,001 types");
        let group = [&b"\x4e\x91\x4e"[..], &b"\x60\0\0".repeat(10_001)].concat();
        assert!(check_wasm(&wasm(&[1], &group)).is_err(), "10,001 types in one group");
        for odd in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x01", b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff"] {
            assert!(check_wasm(odd).is_ok(), "V8 says what is wrong with it");
        }
    }
}
