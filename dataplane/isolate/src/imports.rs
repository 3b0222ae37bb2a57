//! What a tenant's modules may import: other modules, and objects, each shown as a module whose exports are its properties.
//!
//! *Owns:* what each import leads to, from linking until the isolate ends. *Does not:* decide which there are.

use crate::{
    module::{ModuleError, ModuleState, caught},
    scope::Scope,
    value::Value,
};

/// What one import of one module leads to.
pub(crate) struct Import {
    /// The module that imports.
    referrer: v8::Global<v8::Module>,
    specifier: String,
    module: v8::Global<v8::Module>,
    /// What the module shows, where it is an object.
    object: Option<v8::Global<v8::Object>>,
}

/// What an import leads to.
pub enum Target<'m, 's> {
    /// A module whose exports are the object's properties.
    Object(Value<'s>),
    /// Code.
    Module(&'m ModuleState),
}

impl<'s> Scope<'s, '_> {
    /// The specifiers that a compiled module imports, in order.
    pub fn module_imports(&mut self, state: &ModuleState) -> Vec<String> {
        let module = v8::Local::new(&self.0, state.module());
        let requests = module.get_module_requests();
        let mut specifiers = Vec::new();
        for index in 0..requests.length() {
            let request =
                requests.get(&self.0, index).and_then(|data| v8::Local::<v8::ModuleRequest>::try_from(data).ok());
            if let Some(request) = request {
                specifiers.push(request.get_specifier().to_rust_string_lossy(&self.0));
            }
        }
        specifiers
    }

    /// Links a compiled module, and the modules that it leads to, with what they import: who imports, the specifier, where to. An
    /// import that is not among them is an error.
    pub fn link_module(
        &mut self,
        state: &ModuleState,
        imports: &[(&ModuleState, &str, Target<'_, 's>)],
    ) -> Result<(), ModuleError> {
        for (referrer, specifier, target) in imports {
            match target {
                Target::Module(target) => self.add_import(referrer, specifier, target.module().clone(), None),
                Target::Object(value) => {
                    if let Ok(object) = v8::Local::<v8::Object>::try_from(value.0) {
                        let module = self.module_of(specifier, object);
                        let object = v8::Global::new(&self.0, object);
                        self.add_import(referrer, specifier, module, Some(object));
                    }
                }
            }
        }
        let wanted = self.module_imports(state);
        let known = |specifier: &String| {
            imports.iter().any(|(referrer, name, _)| name == specifier && referrer.module() == state.module())
        };
        let refused = wanted.iter().position(|specifier| !known(specifier)).unwrap_or(0);
        v8::tc_scope!(let tc, &mut self.0);
        let module = v8::Local::new(tc, state.module());
        match module.instantiate_module(tc, resolve) {
            Some(_) => Ok(()),
            None => Err(caught!(tc, Some(module), refused)),
        }
    }

    fn add_import(
        &mut self,
        referrer: &ModuleState,
        specifier: &str,
        module: v8::Global<v8::Module>,
        object: Option<v8::Global<v8::Object>>,
    ) {
        let import = Import { referrer: referrer.module().clone(), specifier: specifier.to_owned(), module, object };
        self.inner().imports.borrow_mut().push(import);
    }

    /// A module that shows an object.
    fn module_of(&mut self, name: &str, object: v8::Local<'s, v8::Object>) -> v8::Global<v8::Module> {
        let args = v8::GetPropertyNamesArgsBuilder::new().property_filter(v8::PropertyFilter::SKIP_SYMBOLS).build();
        let keys = object.get_own_property_names(&self.0, args);
        let mut names = Vec::new();
        for index in 0..keys.map_or(0, |keys| keys.length()) {
            let key = keys.and_then(|keys| keys.get_index(&self.0, index));
            names.extend(key.and_then(|key| v8::Local::<v8::String>::try_from(key).ok()));
        }
        let name = v8::String::new(&self.0, name).unwrap_or_else(|| v8::String::empty(&self.0));
        let module = v8::Module::create_synthetic_module(&self.0, name, &names, evaluate);
        v8::Global::new(&self.0, module)
    }
}

/// V8 asks which module a specifier means.
fn resolve<'s>(
    context: v8::Local<'s, v8::Context>,
    specifier: v8::Local<'s, v8::String>,
    _attributes: v8::Local<'s, v8::FixedArray>,
    referrer: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Module>> {
    v8::callback_scope!(unsafe scope, context);
    let specifier = specifier.to_rust_string_lossy(scope);
    let scope: &mut v8::PinScope<'_, '_> = scope;
    let found = {
        let imports = Scope::wrap(scope).inner().imports.borrow();
        let meant = |import: &&Import| import.referrer == referrer && import.specifier == specifier;
        imports.iter().find(meant).map(|import| import.module.clone())
    };
    if let Some(module) = found {
        return Some(v8::Local::new(scope, &module));
    }
    let text = format!(
        "cannot find module {specifier:?}: it was not deployed with the Worker (modules of Node.js need the flag nodejs_compat)"
    );
    if let Some(text) = v8::String::new(scope, &text) {
        let error = v8::Exception::error(scope, text);
        scope.throw_exception(error);
    }
    None
}

/// V8 runs a module that is an object: its exports get their values.
fn evaluate<'s>(
    context: v8::Local<'s, v8::Context>,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Value>> {
    v8::callback_scope!(unsafe scope, context);
    let scope: &mut v8::PinScope<'_, '_> = scope;
    let object = {
        let imports = Scope::wrap(scope).inner().imports.borrow();
        imports.iter().find(|import| import.module == module).and_then(|import| import.object.clone())
    };
    let object = v8::Local::new(scope, &object?);
    let args = v8::GetPropertyNamesArgsBuilder::new().property_filter(v8::PropertyFilter::SKIP_SYMBOLS).build();
    let keys = object.get_own_property_names(scope, args)?;
    for index in 0..keys.length() {
        let key = keys.get_index(scope, index)?;
        let value = object.get(scope, key)?;
        if let Ok(name) = v8::Local::<v8::String>::try_from(key) {
            module.set_synthetic_module_export(scope, name, value)?;
        }
    }
    // Synthetic modules have no top-level await: their promise is settled.
    let resolver = v8::PromiseResolver::new(scope)?;
    let done = v8::undefined(scope);
    resolver.resolve(scope, done.into())?;
    Some(resolver.get_promise(scope).into())
}
