// URLPattern (WHATWG URL Pattern). A rare file. Patterns are parsed by native code; the regular expressions that it gives are V8's.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypePush, ObjectDefineProperty, RegExp, RegExpPrototypeExec, TypeError,
  } = lib.p;

  // The components, in the order of the native functions; and as Web IDL reads a dictionary.
  const COMPONENTS = ["protocol", "username", "password", "hostname", "port", "pathname", "search", "hash"];
  const BASE = 8;
  const READ_ORDER = [["baseURL", BASE], ["hash", 7], ["hostname", 3], ["password", 2], ["pathname", 5], ["port", 4], ["protocol", 0], ["search", 6], ["username", 1]];

  // URLPatternInit as an array.
  function initOf(value) {
    const init = [undefined, undefined, undefined, undefined, undefined, undefined, undefined, undefined, undefined];
    for (let i = 0; i < READ_ORDER.length; i++) {
      const member = value[READ_ORDER[i][0]];
      if (member !== undefined) init[READ_ORDER[i][1]] = lib.usvString(member);
    }
    return init;
  }

  const EMPTY = { __proto__: null };
  // (USVString or URLPatternInit): an object, undefined or null is a dictionary.
  const isInit = (value) => value === undefined || value === null || lib.isObject(value);
  const inputOf = (value) => isInit(value) ? initOf(value ?? EMPTY) : lib.usvString(value);

  // The dictionary for a program that asks what was matched.
  function shownInit(init) {
    const shown = {};
    for (let i = 0; i < READ_ORDER.length; i++) {
      const value = init[READ_ORDER[i][1]];
      if (value !== undefined) define(shown, READ_ORDER[i][0], value);
    }
    return shown;
  }

  function define(object, key, value) {
    ObjectDefineProperty(object, key, { __proto__: null, value, writable: true, enumerable: true, configurable: true });
  }

  class Component {
    pattern;
    expression;
    names;
  }

  class URLPattern {
    #components;
    #hasRegExpGroups;

    constructor(input = undefined, baseURL = undefined, options = undefined) {
      const given = inputOf(input);
      let base;
      if (arguments.length < 3 && isInit(baseURL)) options = baseURL;
      else base = lib.usvString(baseURL);
      const ignoreCase = !!lib.dictionary(options, "URLPattern's options").ignoreCase;
      const parsed = ops.urlPatternParse(given, base, ignoreCase);
      this.#hasRegExpGroups = parsed[0];
      const components = this.#components = [];
      for (let i = 0; i < COMPONENTS.length; i++) {
        const component = new Component();
        component.pattern = parsed[1 + 3 * i];
        component.names = parsed[3 + 3 * i];
        try {
          component.expression = new RegExp(parsed[2 + 3 * i], ignoreCase ? "vi" : "v");
        } catch (error) {
          throw new TypeError(`Invalid URL pattern: ${COMPONENTS[i]}: ${lib.errorMessage(error)}`);
        }
        ArrayPrototypePush(components, component);
      }
    }

    // What each expression captured, with the texts that were matched; undefined if one did not match.
    #match(input, base) {
      const parts = ops.urlPatternInput(input, base);
      if (parts === null) return undefined;
      const found = [];
      for (let i = 0; i < COMPONENTS.length; i++) {
        const match = RegExpPrototypeExec(this.#components[i].expression, parts[i]);
        if (match === null) return undefined;
        ArrayPrototypePush(found, match);
      }
      return { __proto__: null, parts, found };
    }

    test(input = undefined, baseURL = undefined) {
      this.#components;
      return this.#match(inputOf(input), baseURL === undefined ? undefined : lib.usvString(baseURL)) !== undefined;
    }

    exec(input = undefined, baseURL = undefined) {
      const components = this.#components;
      const given = inputOf(input);
      const base = baseURL === undefined ? undefined : lib.usvString(baseURL);
      const matched = this.#match(given, base);
      if (matched === undefined) return null;
      const inputs = [typeof given === "string" ? given : shownInit(given)];
      if (base !== undefined) ArrayPrototypePush(inputs, base);
      const result = {};
      define(result, "inputs", inputs);
      for (let i = 0; i < COMPONENTS.length; i++) {
        const { names } = components[i];
        const groups = {};
        for (let j = 0; j < names.length; j++) define(groups, names[j], matched.found[i][j + 1]);
        const component = {};
        define(component, "input", matched.parts[i]);
        define(component, "groups", groups);
        define(result, COMPONENTS[i], component);
      }
      return result;
    }

    get protocol() {
      return this.#components[0].pattern;
    }
    get username() {
      return this.#components[1].pattern;
    }
    get password() {
      return this.#components[2].pattern;
    }
    get hostname() {
      return this.#components[3].pattern;
    }
    get port() {
      return this.#components[4].pattern;
    }
    get pathname() {
      return this.#components[5].pattern;
    }
    get search() {
      return this.#components[6].pattern;
    }
    get hash() {
      return this.#components[7].pattern;
    }
    get hasRegExpGroups() {
      return this.#hasRegExpGroups;
    }
  }
  lib.defineInterface(URLPattern, "URLPattern");
})
